"""Generated kernels compute their layers, at the exact VLEN, without a stray access."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from codegen.kernels import job_of, random_schedule, random_spec

from lrf_dse.codegen import KernelSpec, StageSchedule, default_schedule, emit
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import load_target

SHAPE = TTShape((4, 3), (5, 7), (1, 6, 1))


def check(target_name: str, tmp_path, *, seed: int, count: int, threads: int = 1) -> None:
    rng, target = random.Random(seed), load_target(target_name)
    specs = [random_spec(rng, threads=threads) for _ in range(count)]
    kernels = [(spec, random_schedule(rng, spec, target)) for spec in specs]
    result = QemuRunner().run(job_of(kernels, target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), (result, kernels)


@pytest.mark.parametrize(
    ("target", "seed"), [("spacemit-k1", 1), ("qemu-rv64gcv", 2), ("sifive-x280", 3), ("starfive-jh7110", 5)]
)
def test_random_kernels(target, seed, tmp_path) -> None:
    check(target, tmp_path, seed=seed, count=8)


def test_random_kernels_on_threads(tmp_path) -> None:
    check("spacemit-k1", tmp_path, seed=4, count=4, threads=3)


def test_a_tile_may_take_all_registers(tmp_path) -> None:
    target = load_target("canaan-k230")
    specs = [KernelSpec(TTShape((5, 1, 3), (2, 3, 4), (1, 2, 3, 1)), 15, 24, 14), KernelSpec(None, 30, 30, 4)]
    kernels = []
    for spec in specs:
        schedule = default_schedule(spec, target)
        for how in (StageSchedule("columns", 1, 30), StageSchedule("rows", 1, 30), StageSchedule("rows", 4, 6)):
            kernels.append((spec, replace(schedule, stages=(how,) * len(schedule.stages))))
    result = QemuRunner().run(job_of(kernels, target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), result
    spec, schedule = kernels[-1]
    with pytest.raises(ValueError, match="31 sums of 1 registers"):
        emit(
            replace(spec, out_features=31),
            replace(schedule, stages=(StageSchedule("columns", 1, 31),)),
            target,
            name="k",
        )


def test_kernels_are_right_on_longer_vectors(tmp_path) -> None:
    """Every instruction says how many elements it works on: a kernel for short vectors runs on all longer ones."""
    rng, target = random.Random(6), load_target("qemu-rv64gcv")
    specs = [random_spec(rng) for _ in range(6)]
    job = job_of([(spec, random_schedule(rng, spec, target)) for spec in specs], target, tmp_path, guarded=True)
    for vlen in (128, 256, 1024):
        qemu = target.qemu.model_copy(update={"cpu": target.qemu.cpu.replace("vlen=128", f"vlen={vlen}")})
        machine = target.model_copy(update={"qemu": qemu})
        result = QemuRunner().run(replace(job, target=machine, work=tmp_path / str(vlen)))
        assert isinstance(result, Measurement), (vlen, result)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_random_kernels(seed, tmp_path) -> None:
    check(
        ["spacemit-k1", "qemu-rv64gcv", "sifive-x280", "eic7700x"][seed % 4],
        tmp_path,
        seed=seed,
        count=20,
        threads=1 + seed % 2,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_slices": 4}, "slices"),
        ({"slices": 3}, "slices"),
        ({"slices": 2, "fused": 2}, "slices"),
        ({"merges": (2, 1)}, "merges"),
        ({"order": (0, 1), "rank_slices": 2}, "rank"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(change, message) -> None:
    target, spec = load_target("spacemit-k1"), KernelSpec(SHAPE, 12, 35)
    schedule = replace(default_schedule(spec, target), **change)
    with pytest.raises(ValueError, match=message):
        emit(spec, schedule, target, name="kernel")

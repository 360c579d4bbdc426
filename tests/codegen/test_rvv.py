"""Generated kernels compute their layers, at the exact VLEN, without a stray access."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from codegen.kernels import (
    in_half_precision,
    job_of,
    random_copied_schedule,
    random_schedule,
    random_spec,
    without_half_precision,
)

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, copy_bytes, default_schedule, emit
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import load_target
from lrf_dse.tune.measuring import TOLERANCE, random_operands, reference, rounded_cores

SHAPE = TTShape((4, 3), (5, 7), (1, 6, 1))


def check(target, tmp_path, *, seed: int, count: int, threads: int = 1, few_bits: bool = False) -> None:
    rng = random.Random(seed)
    specs = [random_spec(rng, threads=threads, few_bits=few_bits) for _ in range(count)]
    kernels = [(spec, random_schedule(rng, spec, target)) for spec in specs]
    result = QemuRunner().run(job_of(kernels, target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), (result, kernels)


@pytest.mark.parametrize(
    ("target", "seed"), [("spacemit-k1", 1), ("qemu-rv64gcv", 2), ("sifive-x280", 3), ("starfive-jh7110", 5)]
)
def test_random_kernels(target, seed, tmp_path) -> None:
    check(load_target(target), tmp_path, seed=seed, count=8)


@pytest.mark.parametrize(
    ("target", "seed"), [("spacemit-k1", 11), ("canaan-k230", 12), ("sifive-x280", 13), ("starfive-jh7110", 14)]
)
def test_random_kernels_of_few_bits(target, seed, tmp_path) -> None:
    chip = load_target(target)
    check(in_half_precision(chip) if chip.isa.vlen_bits else chip, tmp_path, seed=seed, count=8, few_bits=True)


@pytest.mark.parametrize(("target", "seed"), [("spacemit-k1", 15), ("qemu-rv64gcv", 16), ("sifive-x280", 17)])
def test_few_bits_need_no_half_precision(target, seed, tmp_path) -> None:
    check(without_half_precision(load_target(target)), tmp_path, seed=seed, count=8, few_bits=True)


@pytest.mark.parametrize(
    ("target", "seed"), [("spacemit-k1", 21), ("canaan-k230", 22), ("sifive-x280", 23), ("starfive-jh7110", 24)]
)
def test_weights_are_widened_at_load(target, seed, tmp_path) -> None:
    """Into a copy that any schedule of fp32 reads, in single precision whatever the chip has; fp32 cores among them."""
    chip, rng = load_target(target), random.Random(seed)
    specs = [random_spec(rng, threads=1 + 2 * (number % 2), few_bits=True) for number in range(8)]
    kernels = [(spec, random_copied_schedule(rng, spec, chip)) for spec in specs if spec.few_bits]
    job = job_of(kernels, chip, tmp_path, guarded=True)
    assert job.tolerance == TOLERANCE
    result = QemuRunner().run(job)
    assert isinstance(result, Measurement), (result, kernels)
    copies = sum(copy_bytes(*kernel) for kernel in kernels)
    assert copies and result.ram_parts["state_bytes"] == copies


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8", "int4"])
def test_streams_of_every_length_and_width(storage, tmp_path) -> None:
    """One column, so that every weight is used once: K around groups and turns, rows around vectors."""
    target, kernels = in_half_precision(load_target("spacemit-k1")), []
    cases = [
        (1, 1, 1, 1),
        (7, 2, 1, 4),
        (8, 17, 2, 2),
        (33, 31, 4, 2),
        (31, 33, 4, 1),
        (9, 67, 2, 1),
        (64, 65, 1, 2),
        (90, 250, 4, 2),
    ]
    cases += [(130, 90, 8, 1)] if storage != "int4" else []  # whose registers are too few for that
    for rows, k, lmul, chains in [*cases, (5, 700, 2, 4)]:
        spec = KernelSpec(None, rows, k, has_bias=rows % 2 == 1, storages=(storage,))
        how = StageSchedule("stream", lmul, chains)
        ways = (True, False) if lmul < 8 else (True,)
        kernels += [(spec, KernelSchedule((0,), (1,), target.fp32_lanes, (how,), half=half)) for half in ways]
    result = QemuRunner().run(job_of(kernels, target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), result


@pytest.mark.parametrize("storage", ["int8", "int4"])
@pytest.mark.parametrize("sizes", [(24, 3000), (70, 1500), (60, 13)])
def test_rounding_errors_of_a_constant_state_cancel(storage, sizes, tmp_path) -> None:
    """All elements are rounded alike, and what was added to the codes is large: both must see the same elements."""
    target, spec = in_half_precision(load_target("spacemit-k1")), KernelSpec(None, *sizes, storages=(storage,))
    schedule = KernelSchedule((0,), (1,), target.fp32_lanes, (StageSchedule("stream", 4, 2),), half=True)
    job = job_of([(spec, schedule)], target, tmp_path, guarded=True)
    x = np.full(sizes[1], 0.30012, np.float32)
    cores, _, _ = random_operands(spec, seed=0)
    _, rounded = rounded_cores(cores, spec, schedule)
    y = reference(spec, rounded, None, x[None]).astype(np.float32).ravel()
    result = QemuRunner().run(replace(job, inputs=(x,), expected=(y,), tolerance=1e-3))
    assert isinstance(result, Measurement), result


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("magnitude", [1e-20, 3e-7, 1e9])
def test_half_precision_keeps_states_of_any_magnitude(storage, magnitude, tmp_path) -> None:
    target, spec = in_half_precision(load_target("spacemit-k1")), KernelSpec(None, 40, 300, storages=(storage,))
    schedule = KernelSchedule((0,), (1,), target.fp32_lanes, (StageSchedule("stream", 4, 2),), half=True)
    job = job_of([(spec, schedule)], target, tmp_path, guarded=True)
    scaled = [tuple(values * np.float32(magnitude) for values in part) for part in (job.inputs, job.expected)]
    result = QemuRunner().run(replace(job, inputs=scaled[0], expected=scaled[1]))
    assert isinstance(result, Measurement), result


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_short_streams_of_all_lengths(storage, tmp_path) -> None:
    """Words and groups that are not full, panels of one register and of several, more than one panel."""
    target, kernels = in_half_precision(load_target("spacemit-k1")), []
    sizes = [(3, 1), (8, 2), (20, 3), (70, 6), (8, 31), (20, 32), (70, 33), (5, 70), (20, 160)]
    for number, (rows, k) in enumerate(sizes):
        spec = KernelSpec(None, rows, k, has_bias=number % 2 == 1, storages=(storage,))
        how = StageSchedule("short", (1, 2, 4)[number % 3], (2, 1, 1)[number % 3] if storage != "int4" else 2)
        if storage == "int4" and how.lmul == 4:
            how = StageSchedule("short", 2, 4)
        kernels.append((spec, KernelSchedule((0,), (1,), target.fp32_lanes, (how,), half=True)))
    job = job_of(kernels, target, tmp_path, guarded=True)
    result = QemuRunner().run(replace(job, tolerance=1e-5))  # half precision only widens
    assert isinstance(result, Measurement), result


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_panels_in_half_precision(storage, tmp_path) -> None:
    """Full words and groups and others, slices of K, several panels, strided results; states of any magnitude."""
    target, kernels = in_half_precision(load_target("spacemit-k1")), []
    ways = [(1, 1, 16, 1, 1), (64, 2, 7, 2, 1), (70, 4, 5, 1, 2), (33, 4, 3, 1, 1), (66, 1, 4, 1, 3)]
    for k, lmul, block, slices, panels in ways:
        how = StageSchedule("rows", lmul, block, slices if k % (32 * slices) == 0 else 1, panels, in_half=True)
        spec = KernelSpec(None, 75, k, 9, storages=(storage,))
        kernels.append((spec, KernelSchedule((0,), (1,), target.fp32_lanes, (how,), half=True)))
    cores = KernelSpec(TTShape((12, 5), (3, 16), (1, 9, 1)), 60, 48, 3, storages=(storage,) * 2)
    hows = StageSchedule("rows", 2, 6, in_half=True), StageSchedule("rows", 1, 9, in_half=True)
    kernels.append((cores, KernelSchedule((1, 0), (1, 1), target.fp32_lanes, hows, half=True)))
    job = job_of(kernels, target, tmp_path, guarded=True)
    for magnitude in (1.0, 1e-20, 1e9):
        scaled = [tuple(values * np.float32(magnitude) for values in part) for part in (job.inputs, job.expected)]
        result = QemuRunner().run(replace(job, inputs=scaled[0], expected=scaled[1]))
        assert isinstance(result, Measurement), result


def test_random_kernels_on_threads(tmp_path) -> None:
    check(load_target("spacemit-k1"), tmp_path, seed=4, count=4, threads=3)
    few = in_half_precision(load_target("spacemit-k1"))
    check(few, tmp_path, seed=18, count=4, threads=3, few_bits=True)


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
    target = load_target(["spacemit-k1", "qemu-rv64gcv", "sifive-x280", "eic7700x"][seed % 4])
    check(target, tmp_path, seed=seed, count=20, threads=1 + seed % 2)
    if target.isa.vlen_bits:
        target = (in_half_precision if seed % 3 else without_half_precision)(target)
    check(target, tmp_path, seed=seed, count=20, threads=1 + seed % 2, few_bits=True)


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

"""Kernels in plain C, on this machine, between canaries: with the schedules of every target, vectors or not."""

from __future__ import annotations

import ctypes
import platform
import random
from pathlib import Path

import numpy as np
import pytest
from codegen.kernels import random_copied_schedule, random_schedule, random_spec

from lrf_dse.builders.zig import zig_cc
from lrf_dse.codegen import KernelCode, KernelSchedule, KernelSpec, emit, emit_scalar, pack
from lrf_dse.target import load_target
from lrf_dse.tune.measuring import TOLERANCE, random_operands, reference, rounded_cores

CANARY = np.float32(12345.678)
MARGIN = 64  # floats on either side of a buffer
TARGETS = ("spacemit-k1", "qemu-rv64gcv", "sifive-x280", "starfive-jh7110")
FLAGS = ("-std=gnu11", "-O1", "-ffreestanding", "-fPIC", "-fvisibility=default", "-shared", "-fno-sanitize=all")
WARNINGS = ("-Wall", "-Wextra", "-Werror")

Kernel = tuple[KernelSpec, KernelSchedule, KernelCode]


def random_kernels(*, seed: int, count: int) -> list[Kernel]:
    """Kernels of random layers with the schedules of random targets."""
    rng, kernels = random.Random(seed), list[Kernel]()
    for number in range(count):
        target = load_target(rng.choice(TARGETS))
        spec = random_spec(rng, threads=rng.choice([1, 1, 2, 5]), few_bits=number % 2 == 1)
        schedule = random_schedule(rng, spec, target)
        kernels.append((spec, schedule, emit_scalar(spec, schedule, name=f"kernel_{number}")))
    return kernels


def library_of(kernels: list[Kernel], folder: Path) -> ctypes.CDLL:
    """All kernels compiled for this machine."""
    names = [f"kernel_{number}.c" for number in range(len(kernels))]
    for name, (_, _, code) in zip(names, kernels, strict=True):
        (folder / name).write_text(code.source, encoding="utf-8")
    machine = ("-target", f"{platform.machine()}-linux-gnu", "-mcpu=baseline")
    zig_cc([*machine, *FLAGS, *WARNINGS, *names, "-o", "kernels.so"], cwd=folder)
    return ctypes.CDLL(str(folder / "kernels.so"))


def between_canaries(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values` copied between canaries, as (the whole, the copy)."""
    whole = np.full(values.size + 2 * MARGIN, CANARY, np.float32)
    inner = whole[MARGIN : MARGIN + values.size]
    inner[:] = values.ravel()
    return whole, inner


def check(kernel: Kernel, library: ctypes.CDLL) -> None:
    spec, schedule, code = kernel
    cores, bias, x = random_operands(spec, seed=1)
    weights, cores = rounded_cores(cores, spec, schedule)
    packed = pack(weights, bias, spec, schedule)
    assert packed.nbytes == code.weight_bytes
    wanted = reference(spec, cores, bias, x)
    unset = [np.full(size, np.nan, np.float32) for size in (code.scratch_bytes // 4, wanted.size)]
    buffers = [between_canaries(values) for values in (x, packed, *unset)]
    if code.load is not None:
        read = np.full(code.copy_bytes // 4, np.nan, np.float32)
        copy = between_canaries(read)
        function = getattr(library, code.load.function)
        function.argtypes, function.restype = [ctypes.c_void_p] * 4 + [ctypes.c_size_t], None
        function(None, buffers[1][1].ctypes.data, None, copy[1].ctypes.data, 0)
        np.testing.assert_array_equal(buffers[1][1], packed.ravel())
        buffers[1], packed = copy, copy[1].copy()
    for phase in code.phases:
        function = getattr(library, phase.function)
        function.argtypes, function.restype = [ctypes.c_void_p] * 4 + [ctypes.c_size_t], None
        for group in reversed(range(phase.workgroups)):  # groups may run in any order
            function(*(inner.ctypes.data for _, inner in buffers), group)
    for whole, _ in buffers:
        assert (whole[:MARGIN] == CANARY).all() and (whole[-MARGIN:] == CANARY).all(), (spec, schedule)
    for (_, inner), before in zip(buffers, (x, packed), strict=False):
        np.testing.assert_array_equal(inner, before.ravel())
    error = np.abs(buffers[3][1].reshape(wanted.shape) - wanted).max()
    assert error <= TOLERANCE * max(np.abs(wanted).max(), 1e-30), (spec, schedule)


def test_random_kernels_on_this_machine(tmp_path: Path) -> None:
    kernels = random_kernels(seed=11, count=24)
    library = library_of(kernels, tmp_path)
    for kernel in kernels:
        check(kernel, library)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 206))
def test_many_random_kernels_on_this_machine(seed: int, tmp_path: Path) -> None:
    kernels = random_kernels(seed=seed, count=150)
    library = library_of(kernels, tmp_path)
    for kernel in kernels:
        check(kernel, library)


def test_kernels_that_widen_their_weights_at_load(tmp_path: Path) -> None:
    """Every schedule that reads fp32 reads the copy; what is packed stays as it is."""
    rng, kernels, target = random.Random(5), list[Kernel](), load_target("spacemit-k1")
    while len(kernels) < 16:
        spec = random_spec(rng, threads=rng.choice([1, 3]), few_bits=True)
        if spec.few_bits:
            schedule = random_copied_schedule(rng, spec, target)
            kernels.append((spec, schedule, emit_scalar(spec, schedule, name=f"kernel_{len(kernels)}")))
    library = library_of(kernels, tmp_path)
    for kernel in kernels:
        check(kernel, library)


def test_both_emitters_agree_on_all_that_a_caller_must_know() -> None:
    rng, target = random.Random(3), load_target("spacemit-k1")
    for _ in range(20):
        spec = random_spec(rng, threads=rng.choice([1, 4]), few_bits=rng.random() < 0.5)
        schedule = random_schedule(rng, spec, target)
        vector, plain = emit(spec, schedule, target, name="k"), emit_scalar(spec, schedule, name="k")
        assert (vector.phases, vector.weight_bytes) == (plain.phases, plain.weight_bytes)
        if not any(how.in_half for how in schedule.stages):  # plain C has no half precision to widen to
            assert vector.scratch_bytes == plain.scratch_bytes
        assert "vsetvli" in vector.source and "vsetvli" not in plain.source


def test_a_target_without_vectors_gets_plain_code() -> None:
    rng, target = random.Random(4), load_target("eic7700x")
    spec = random_spec(rng)
    schedule = random_schedule(rng, spec, target)
    assert emit(spec, schedule, target, name="k") == emit_scalar(spec, schedule, name="k")

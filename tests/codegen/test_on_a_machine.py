"""Whole kernels on `codegen.machine`, which is stricter than an emulator, and what they are counted as."""

from __future__ import annotations

import random

import numpy as np
import pytest
from codegen.c_text import functions
from codegen.kernels import (
    STORAGES,
    in_half_precision,
    random_schedule,
    random_spec,
    without_half_precision,
)
from codegen.machine import Machine, memory

from lrf_dse.codegen import (
    Activation,
    KernelSchedule,
    KernelSpec,
    StageSchedule,
    default_schedule,
    emit,
    kernel_stages,
    pack,
)
from lrf_dse.codegen.closed_form import kernel_rooflines
from lrf_dse.codegen.plan import kernel_plan
from lrf_dse.codegen.stream_cost import stream_issue_cycles
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.schema import TTShape
from lrf_dse.target import Target, load_target
from lrf_dse.tune.measuring import kernel_tolerance, random_operands, reference, rounded_cores

K1 = load_target("spacemit-k1")
PRODUCTS = ("vfmul.vf", "vfmacc.vf", "vfwmul.vf", "vfwmacc.vf")
MOST = 12_000
"""Multiply-adds of a random kernel: a statement takes microseconds here."""


def ran(spec: KernelSpec, schedule: KernelSchedule, target: Target, *, vlen: int | None = None) -> Machine:
    """The machine that has run a kernel on random operands; its results are right, its buffers of the right size."""
    machine = Machine(vlen or target.isa.vlen_bits or 0)
    code = emit(spec, schedule, target, name="kernel")
    cores, bias, x = random_operands(spec, seed=1)
    weights, cores = rounded_cores(cores, spec, schedule)
    packed, wanted = pack(weights, bias, spec, schedule), reference(spec, cores, bias, x)
    y, scratch = (np.full(size, np.nan, np.float32) for size in (wanted.size, code.scratch_bytes // 4))
    read = packed.copy()
    compiled = functions(machine, code.source)
    for phase in code.phases:
        for group in range(phase.workgroups):
            compiled[phase.function](*map(memory, (x.astype(np.float32), packed, scratch, y)), group)
    np.testing.assert_array_equal(packed.view(np.uint32), read.view(np.uint32))
    error = np.abs(y.reshape(wanted.shape) - wanted).max()
    assert error <= kernel_tolerance(spec, schedule) * max(np.abs(wanted).max(), 1e-30), (spec, schedule, error)
    return machine


def work(spec: KernelSpec, schedule: KernelSchedule) -> int:
    """Multiply-adds of a kernel."""
    return sum(stage.count.flops // 2 for stage in kernel_stages(spec, schedule))


def kernels(seed: int, target: Target, count: int, *, few_bits: bool) -> list[tuple[KernelSpec, KernelSchedule]]:
    """Random kernels that are small enough to be followed statement by statement."""
    rng, found = random.Random(seed), list[tuple[KernelSpec, KernelSchedule]]()
    while len(found) < count:
        spec = random_spec(rng, few_bits=few_bits)
        schedule = random_schedule(rng, spec, target)
        if work(spec, schedule) <= MOST:
            found.append((spec, schedule))
    return found


@pytest.mark.parametrize("name", ["spacemit-k1", "qemu-rv64gcv", "sifive-x280"])
@pytest.mark.parametrize("few_bits", [False, True])
def test_random_kernels_keep_the_rules_of_registers_and_buffers(name: str, few_bits: bool) -> None:
    target = load_target(name)
    for spec, schedule in kernels(7, target, 5, few_bits=few_bits):
        ran(spec, schedule, target)


def test_kernels_of_few_bits_keep_them_without_half_precision() -> None:
    target = without_half_precision(K1)
    for spec, schedule in kernels(9, target, 5, few_bits=True):
        ran(spec, schedule, target)


def test_the_machine_sees_a_group_of_registers_that_starts_within_another() -> None:
    machine = Machine(256)
    machine.run("vsetvli", ["x0", "%0", "e32", "m2", "ta", "ma"], 16)
    with pytest.raises(AssertionError, match="no group"):
        machine.run("vfadd.vv", ["v3", "v4", "v6"])
    with pytest.raises(AssertionError, match="more elements"):
        machine.run("vsetvli", ["x0", "%0", "e32", "m1", "ta", "ma"], 9)


def test_the_machine_sees_what_lies_beyond_a_buffer() -> None:
    machine, values = Machine(256), np.zeros(8, np.float32)
    machine.run("vsetvli", ["x0", "%0", "e32", "m1", "ta", "ma"], 8)
    machine.run("vle32.v", ["v0"], memory(values))
    with pytest.raises(AssertionError, match="outside"):
        machine.run("vle32.v", ["v0"], memory(values) + 1)


@pytest.mark.parametrize("vlen", [256, 512, 2048])
def test_a_kernel_for_short_vectors_runs_on_longer_ones(vlen: int) -> None:
    target = load_target("qemu-rv64gcv")
    for spec, schedule in kernels(3, target, 3, few_bits=False):
        ran(spec, schedule, target, vlen=vlen)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 31, 32, 33, 34, 63, 65, 97])
def test_streams_end_right_for_every_remainder_along_k(storage: str, k: int) -> None:
    """Words that are not full, bytes instead of words, groups of int4 that are not full; with a bias and bounds."""
    for lmul, chains, rows, half in ((1, 4, 9, True), (2, 2, 40, True), (4, 1, 33, False)):
        bounds = Activation(-0.25, 1.5)
        spec = KernelSpec(None, rows, k, has_bias=k % 2 == 1, activation=bounds, storages=(storage,))
        how = StageSchedule("stream", lmul, chains)
        ran(spec, KernelSchedule((0,), (1,), K1.fp32_lanes, (how,), half=half), K1)


@pytest.mark.parametrize("storage", STORAGES[1:])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 15, 16, 31, 33, 66])
def test_short_streams_end_right_for_every_remainder_along_k(storage: str, k: int) -> None:
    for lmul, chains, rows in ((1, 2, 9), (2, 2, 40)):
        spec = KernelSpec(None, rows, k, has_bias=k % 2 == 1, storages=(storage,))
        how = StageSchedule("short", lmul, chains)
        ran(spec, KernelSchedule((0,), (1,), K1.fp32_lanes, (how,), half=True), K1)


@pytest.mark.parametrize("storage", STORAGES[1:])
@pytest.mark.parametrize("vector", ["rows", "columns"])
def test_panels_end_right_for_every_remainder_along_k(storage: str, vector: str) -> None:
    for k in (1, 3, 16, 31, 33, 66):
        for half in (True, False):
            shape = TTShape((9, 2), (3, k), (1, 3, 1))
            spec = KernelSpec(shape, 18, 3 * k, 2, storages=(storage,) * 2)
            how = StageSchedule(vector, 2, 4, in_half=vector == "rows" and half)
            ran(spec, KernelSchedule((1, 0), (1, 1), K1.fp32_lanes, (how,) * 2, half=half), K1)


def test_threads_share_the_work_without_a_gap() -> None:
    """Groups write their own parts: what one leaves out stays NaN, and what is too much is outside a buffer."""
    for threads in (2, 3, 7):
        for rows, shape, batch in ((128, None, 1), (24, None, 5), (24, TTShape((4, 6), (5, 3), (1, 4, 1)), 2)):
            spec = KernelSpec(shape, rows, 15, batch, threads=threads)
            ran(spec, default_schedule(spec, K1), K1)
        how = StageSchedule("stream", 1, 1)
        ran(KernelSpec(None, 128, 9, threads=threads), KernelSchedule((0,), (1,), K1.fp32_lanes, (how,)), K1)


def products(machine: Machine) -> float:
    """Registers of products that ran."""
    return sum(count * lmul for (name, lmul), count in machine.ran.items() if name in PRODUCTS)


@pytest.mark.parametrize("name", ["spacemit-k1", "qemu-rv64gcv"])
def test_every_tile_that_is_counted_runs_and_no_other(name: str) -> None:
    """Multiply-adds by the registers they work on, against those of `stage_tiles`: the figure that ranks schedules."""
    target = load_target(name)
    for spec, schedule in kernels(17, target, 12, few_bits=False):
        if any(how.vector == "stream" for how in schedule.stages):
            continue
        plan = kernel_plan(spec, schedule)
        counted = 0
        for stage in plan.stages:
            calls = plan.slices if stage.number <= plan.fused else 1
            calls *= plan.rank_slices if stage.number >= len(plan.stages) - 1 else 1
            tiles = stage_tiles(stage, schedule.lanes)
            counted += calls * sum(n * t.repeats * t.k * t.rows * t.lmul for t, n in tiles)
        assert products(ran(spec, schedule, target)) == counted, (spec, schedule)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("sizes", [(64, 96), (128, 200), (40, 33)])
@pytest.mark.parametrize("half", [True, False])
def test_the_issue_bound_of_a_stream_is_near_what_its_instructions_take(storage, sizes, half) -> None:
    """A pipe's cycles by the cost table of every instruction that ran, against the closed form's count of them."""
    target = in_half_precision(K1)
    spec = KernelSpec(None, *sizes, storages=(storage,))
    schedule = KernelSchedule((0,), (1,), target.fp32_lanes, (StageSchedule("stream", 4, 2),), half=half)
    machine = ran(spec, schedule, target)
    costs = target.timing.costs.cost
    named = {"vfmul": "v_float_fma", "vfmacc": "v_float_fma", "vfwmul": "v_float_widen", "vfwmacc": "v_float_widen"}
    named |= {"vfadd": "v_float_fma", "vfsub": "v_float_fma", "vfnmsac": "v_float_fma"}
    floats = 0.0
    for (operation, lmul), count in machine.ran.items():
        kind = named.get(operation.split(".")[0])
        if kind:
            wide = lmul * (2 if kind == "v_float_widen" else 1)
            floats += count * costs[kind].busy[max(0, int(wide).bit_length() - 1)]
    (plan,) = kernel_plan(spec, schedule).stages
    bound = stream_issue_cycles(plan, schedule.lanes, target)
    assert bound == kernel_rooflines(spec, schedule, target)[0].fma_cycles
    assert floats <= 1.1 * bound, "a pipe that takes longer than the bound on all of them"

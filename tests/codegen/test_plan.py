"""Where a kernel keeps its states, and how the closed form ranks: properties over random kernels."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from math import inf, prod

import numpy as np
import pytest
from codegen.kernels import random_schedule, random_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import (
    KernelSchedule,
    KernelSpec,
    StageSchedule,
    copied_schedule,
    copy_bytes,
    default_schedule,
    kernel_rooflines,
    kernel_stages,
    lower_bound,
    pack,
    packed_weights,
    predicted_cycles,
    schedules,
    stage_bounds,
)
from lrf_dse.codegen.packing import ALIGNED_FLOATS, stream_widths
from lrf_dse.codegen.plan import KernelPlan, kernel_plan
from lrf_dse.codegen.stages import core_merges, core_of, is_monarch, stage_matrix
from lrf_dse.codegen.storage import ELEMENT_BITS, groups_of, panel_bytes
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.text import at, loop, runs
from lrf_dse.codegen.tile import VECTOR_REGISTERS
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.traffic import working_set
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target
from lrf_dse.tune.measuring import random_operands, rounded_cores
from tests import strategies

K1, U74 = load_target("spacemit-k1"), load_target("starfive-jh7110")
STORAGES = ("fp32", "fp16", "int8", "int4")
seeds = st.integers(0, 10_000)


def kernel(seed: int, *, few_bits: bool = False) -> tuple[KernelSpec, KernelSchedule]:
    rng = random.Random(seed)
    spec = random_spec(rng, few_bits=few_bits)
    return spec, random_schedule(rng, spec, K1)


def lifetimes(plan: KernelPlan) -> list[tuple[int, int, int, int]]:
    """Of every state its first float, the one behind its last, the first and the last stage that touches it."""
    found = []
    for number, stage in enumerate(plan.stages[:-1]):
        leaves = number == plan.fused - 1 and plan.slices > 1
        size = stage.out_floats * stage.blocks * stage.repeats * (plan.slices if leaves else 1)
        inside = number < plan.fused - 1 and plan.slices > 1
        last = plan.fused - 1 if inside else number + 1
        found.append((plan.states[number], plan.states[number] + size, 0 if leaves else number, last))
    return found


@given(seeds, st.booleans())
def test_states_that_live_at_the_same_time_do_not_meet(seed: int, few_bits: bool) -> None:
    plan = kernel_plan(*kernel(seed, few_bits=few_bits))
    states = lifetimes(plan)
    for number, (start, end, born, dies) in enumerate(states):
        assert start % ALIGNED_FLOATS == 0 and end <= plan.scratch_floats
        for other_start, other_end, other_born, other_dies in states[:number]:
            together = born <= other_dies and other_born <= dies
            assert not together or end <= other_start or other_end <= start


@given(seeds)
def test_what_stages_work_in_lies_behind_all_states(seed: int) -> None:
    spec, schedule = kernel(seed, few_bits=True)
    plan = kernel_plan(spec, schedule)
    assert plan.work >= max((end for _, end, *_ in lifetimes(plan)), default=0) and plan.work % ALIGNED_FLOATS == 0
    assert plan.work_floats >= max(stage.work_floats for stage in plan.stages)
    assert plan.scratch_floats >= (plan.work + spec.threads * plan.work_floats if plan.work_floats else 0)


@given(seeds, st.booleans())
def test_packed_stages_lie_one_behind_the_other(seed: int, few_bits: bool) -> None:
    """From multiples of a line on, less than a line apart, of as many bytes as their elements need at least."""
    spec, schedule = kernel(seed, few_bits=few_bits)
    layout, end = packed_weights(spec, schedule), 0
    for stage, where in zip(kernel_stages(spec, schedule), layout.stages, strict=True):
        assert where.offset % ALIGNED_FLOATS == 0 and 0 <= where.offset - end < ALIGNED_FLOATS
        count = stage.count
        assert 32 * where.floats >= count.blocks * count.rows * count.k * ELEMENT_BITS[where.storage]
        assert [panel.row for panel in where.panels] == [
            sum(panel.rows for panel in where.panels[:n]) for n in range(len(where.panels))
        ]
        assert sum(panel.rows for panel in where.panels) == count.rows
        assert where.slices * where.slice_k == count.k
        end = where.offset + where.floats
    assert (layout.bias is not None) == spec.has_bias
    assert layout.floats >= end + spec.out_features * spec.has_bias


@settings(max_examples=40)
@given(seeds, st.booleans())
def test_equal_weights_give_equal_bytes_and_other_ones_do_not(seed: int, few_bits: bool) -> None:
    spec, schedule = kernel(seed, few_bits=few_bits)
    cores, bias, _ = random_operands(spec, seed=1)
    weights, _ = rounded_cores(cores, spec, schedule)
    packed = pack(weights, bias, spec, schedule)
    assert packed.tobytes() == pack(weights, bias, spec, schedule).tobytes()
    other, _ = rounded_cores([core + 1 for core in cores], spec, schedule)
    assert packed.tobytes() != pack(other, bias, spec, schedule).tobytes()


@given(st.sampled_from(STORAGES), st.integers(1, 200), st.integers(1, 64), st.booleans())
def test_bytes_of_a_panel_are_those_of_its_bits_and_little_more(storage, k, width, by_rows) -> None:
    if storage == "fp32":
        by_rows = False
    size = panel_bytes(storage, k, width, by_rows=by_rows)
    scales = {"int8": 4 * width, "int4": 2 * width * len(groups_of(k))}.get(storage, 0)
    bits = k * width * ELEMENT_BITS[storage] / 8 + scales
    assert size % 4 == 0 and bits <= size <= bits + (width / 2 + 8) * (len(groups_of(k)) + width)
    assert sum(groups_of(k)) == k


@given(st.integers(1, 3000), st.sampled_from([1, 2, 4, 8]), st.sampled_from([4, 8, 16]))
def test_panels_of_a_stream_are_full_but_for_the_last(total, lmul, lanes) -> None:
    widths = stream_widths(total, lmul, lanes)
    assert total <= sum(widths) < total + lanes
    assert set(widths[:-1]) <= {lmul * lanes} and widths[-1] <= lmul * lanes and widths[-1] % lanes == 0


@given(strategies.tt_shapes(), st.sampled_from(["start", "left", "right"]))
def test_a_core_comes_back_from_its_stage_matrix(shape, side) -> None:
    for core in shape.core_shapes:
        values = random.Random(prod(core)).random()
        given = (np.arange(prod(core), dtype=np.float32) + np.float32(values)).reshape(core)
        np.testing.assert_array_equal(core_of(stage_matrix(given, side), core, side), given)


@given(st.integers(1, 6))
def test_merges_are_all_compositions_but_the_one_of_all_cores(d: int) -> None:
    found = list(core_merges(d))
    assert len(found) == len(set(found)) == max(1, 2 ** (d - 1) - 1)
    assert all(sum(merges) == d and min(merges) >= 1 for merges in found)
    assert found[-1] == (1,) * d and (d == 1 or (d,) not in found)


def test_only_two_factors_of_blocks_are_a_monarch_matrix() -> None:
    assert is_monarch(((3, 4, 5, 1), (5, 3, 4, 1)))
    assert not is_monarch(((1, 4, 5, 1),)) and not is_monarch(((1, 4, 5, 2), (2, 3, 4, 1)))


@given(st.sampled_from(STORAGES), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.integers(1, 300))
def test_registers_of_a_stream_are_apart_and_start_at_multiples_of_their_size(storage, lmul, chains, k) -> None:
    for half in (True, False):
        spec = KernelSpec(None, 8 * lmul, k, has_bias=True, storages=(storage,))
        how = KernelSchedule((0,), (1,), 8, (StageSchedule("stream", lmul, chains),), half=half)
        plan = kernel_plan(spec, how).stages[0]
        stream = Stream(plan, next(panel_runs(plan.panels)), 8)
        try:
            registers = stream.registers
        except ValueError:
            assert storage == "int4" and chains == 4
            continue
        wide = lmul / 2 if stream.half else lmul
        groups = [(name, lmul) for name in (*registers.sums, registers.total, registers.scale, registers.bias) if name]
        groups += [(name, wide) for temps in registers.temps for name in dict.fromkeys(temps)]
        groups += [(name, lmul * stream.code_bits / 32) for name in registers.raw]
        groups += [(registers.part, wide)] if registers.part else []
        taken: list[int] = []
        for name, size in groups:
            count = max(1, int(size))
            assert int(name[1:]) % count == 0
            taken += range(int(name[1:]), int(name[1:]) + count)
        assert len(taken) == len(set(taken)) and max(taken) < VECTOR_REGISTERS


@settings(max_examples=12, deadline=None)
@given(seeds, st.sampled_from([K1, U74]))
def test_the_choice_is_the_least_of_all_that_are_offered(seed: int, target) -> None:
    spec = random_spec(random.Random(seed))
    offered = schedules(spec, target, 1000)
    cycles = [predicted_cycles(spec, schedule, target) for schedule in offered]
    assert cycles == sorted(cycles) and len(set(offered)) == len(offered)
    assert default_schedule(spec, target) == offered[0]
    assert schedules(spec, target, 3) == offered[:3]
    bound = lower_bound(spec, target)
    assert all(bound <= each < inf for each in cycles)


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_no_schedule_beats_the_bounds_of_its_stages(seed: int) -> None:
    spec, schedule = kernel(seed)
    cycles, bounds = predicted_cycles(spec, schedule, K1), stage_bounds(spec, schedule, K1)
    assert bounds is not None and cycles is not None
    assert sum(bound.fma_cycles for bound in bounds) <= cycles
    rooflines = kernel_rooflines(spec, schedule, K1)
    assert len(rooflines) == len(bounds) and all(
        one.cycles == max(one.fma_cycles, one.byte_cycles) for one in rooflines
    )


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_cycles_that_are_known_are_those_that_are_computed(seed: int) -> None:
    """One table of stages for all schedules of a kernel: looking up changes no figure."""
    spec = random_spec(random.Random(seed))
    known: dict[tuple[object, ...], float] = {}
    for schedule in schedules(spec, K1, 6):
        assert predicted_cycles(spec, schedule, K1, known=known) == predicted_cycles(spec, schedule, K1)
    assert known


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_a_kernel_touches_no_less_than_its_weights_and_a_slice_no_more(seed: int) -> None:
    spec, schedule = kernel(seed)
    plan = kernel_plan(spec, schedule)
    weights = 4 * sum(stage.packed.floats for stage in plan.stages)
    whole = max(working_set(plan, stage) for stage in plan.stages)
    assert whole >= weights or plan.slices > 1
    assert all(working_set(plan, stage) <= whole for stage in plan.stages)


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_a_copy_reads_fp32_and_takes_four_bytes_an_element(seed: int) -> None:
    spec = random_spec(random.Random(seed), few_bits=True)
    found = copied_schedule(spec, K1)
    if not spec.few_bits:
        assert found is None
        return
    if found is None:
        return
    assert found.copied and not found.half and max(found.merges) == 1
    assert copy_bytes(spec, found) >= 4 * sum(map(prod, spec.core_shapes))
    assert copy_bytes(replace(spec, storages=()), replace(found, copied=False)) == 0
    assert all(stage.storage == "fp32" for stage in kernel_plan(spec, found).stages)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 4)), max_size=4))
def test_addresses_are_the_sums_of_their_terms(terms) -> None:
    """Evaluated with every variable below its count."""
    names = {name: min(count for other, _, count in terms if other == name) - 1 for name, _, _ in terms}
    text = at("100", *terms, ("", 7, 1))
    wanted = 107 + sum(names[name] * factor for name, factor, count in terms if count > 1)
    assert eval(text, {}, names) == wanted


@given(st.integers(1, 40), st.integers(1, 9))
def test_groups_share_a_loop_without_a_gap(count: int, groups: int) -> None:
    (head, *_) = loop("i", count, ["body;"], groups=groups)
    if groups == 1:
        assert head == ("body;" if count == 1 else f"for (size_t i = 0; i < {count}; i++) {{")
        return
    start, end = (head.split(" = ")[1].split(";")[0], head.split("i < ")[1].split(";")[0])
    done = [
        index
        for group in range(groups)
        for index in range(*(eval(part.replace("/", "//"), {}, {"group": group}) for part in (start, end)))
    ]
    assert done == list(range(count))


@given(st.lists(st.integers(0, 2)))
def test_runs_are_the_values_again(values) -> None:
    found = runs(values)
    assert [value for value, count in found for _ in range(count)] == values
    assert all(one[0] != other[0] for one, other in pairwise(found))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_longer_sum_takes_longer(storage) -> None:
    cycles = []
    for k in (32, 64, 256, 1024):
        spec = KernelSpec(None, 64, k, storages=(storage,))
        cycles.append(predicted_cycles(spec, default_schedule(spec, K1), K1))
    assert cycles == sorted(cycles) and len(set(cycles)) == 4


def test_the_text_of_a_schedule_says_all_that_may_vary() -> None:
    how = StageSchedule("rows", 2, 4, 5, 3)
    assert str(how) == "rows m2 x4 k/5 p3" and str(StageSchedule("rows", 1, 2, in_half=True)) == "rows m1 x2 half"
    whole = KernelSchedule((1, 0), (1, 1), 8, (how, how), fused=2, slices=3, rank_slices=2, vlen_agnostic=True)
    assert str(whole) == (
        "order 1,0; rows m2 x4 k/5 p3 | rows m2 x4 k/5 p3; first 2 over 3 slices; last 2 over 2 rank slices; "
        "8 lanes or more"
    )
    assert str(KernelSchedule((0,), (2,), 8, (how,), half=True)).endswith("half precision products; 8 lanes")
    assert "merged 2" in str(KernelSchedule((0,), (2,), 8, (how,)))
    spec = KernelSpec(TTShape((4, 3), (5, 7), (1, 6, 1)), 12, 35)
    texts = [str(schedule) for schedule in schedules(spec, K1, 100)]
    assert len(set(texts)) == len(texts)

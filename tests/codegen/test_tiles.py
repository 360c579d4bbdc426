"""Tiles: what a stage is cut into covers it once, and the text of a tile computes its sums and touches nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from codegen.c_text import functions
from codegen.machine import Machine, memory
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import Activation, KernelSchedule, KernelSpec, StageSchedule
from lrf_dse.codegen.microkernel import float_bits, tile_function
from lrf_dse.codegen.order import Latencies
from lrf_dse.codegen.plan import StagePlan, kernel_plan
from lrf_dse.codegen.tile import LOAD_REACH, MOST_POINTERS, VECTOR_REGISTERS, Finish, Tile
from lrf_dse.codegen.tile_cost import step_cycles, tile_cycles
from lrf_dse.codegen.tiling import chunks, grids, panel_runs, stage_tiles
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target

K1, C920 = load_target("spacemit-k1"), load_target("sophgo-sg2044")
LANES = K1.fp32_lanes


@st.composite
def plans(draw, vectors=("rows", "columns")) -> StagePlan:
    """The last stage of a kernel of two cores, or of a dense one, in tiles of any size."""
    m, n, rank = draw(st.integers(1, 40)), draw(st.integers(1, 12)), draw(st.integers(1, 5))
    batch, lmul = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 4, 8]))
    shape = TTShape((m, draw(st.integers(1, 9))), (n, draw(st.integers(1, 6))), (1, rank, 1))
    spec = KernelSpec(shape, shape.out_features, shape.in_features, batch, has_bias=draw(st.booleans()))
    vector = draw(st.sampled_from(vectors))
    panels = draw(st.integers(1, 4)) if vector == "rows" else 1
    how = StageSchedule(vector, lmul, draw(st.integers(1, 32 // lmul - 2)), panels=panels)
    order = draw(st.sampled_from([(1, 0), (0, 1)]))
    plan = kernel_plan(spec, KernelSchedule(order, (1, 1), LANES, (how, how)))
    return draw(st.sampled_from(plan.stages))


@given(plans())
def test_vectors_cover_every_column_once(plan: StagePlan) -> None:
    covered: list[int] = []
    for chunk in chunks(plan, LANES):
        assert 0 < chunk.valid <= chunk.width and chunk.width % LANES == 0
        assert chunk.valid == chunk.width or chunk.count == 1
        for number in range(chunk.count):
            start = chunk.column + number * chunk.width
            covered += range(start, start + chunk.valid)
    assert covered == list(range(plan.columns))


@given(plans(), st.integers(1, 5))
def test_runs_cover_every_panel_once_at_its_place(plan: StagePlan, together: int) -> None:
    index = width = 0
    for run in panel_runs(plan.panels, together):
        assert run.offset == width and plan.panels[index] == run.first and run.together <= together
        for panel in plan.panels[index : index + run.count * run.together]:
            assert (panel.rows, panel.width) == (run.first.rows, run.first.width)
            width += panel.width
        index += run.count * run.together
    assert index == len(plan.panels) and width == sum(panel.width for panel in plan.panels)


@given(plans(vectors=("rows",)))
def test_blocks_cover_every_column_of_every_batch_once(plan: StagePlan) -> None:
    """And none crosses from one row of y to the next, where the bias starts again."""
    for run in panel_runs(plan.panels, plan.how.panels):
        found = Counter[tuple[int, int]]()
        for grid in grids(plan, LANES, run):
            assert grid.batch_rows * grid.column_rows * run.first.width <= plan.how.block * plan.how.lmul * LANES
            for q, batch, column in product(*map(range, (grid.periods, grid.batch_count, grid.column_count))):
                first = q * grid.period_batches + grid.batch + batch * grid.batch_rows
                left = grid.column + column * grid.column_rows
                rows = range(first, first + grid.batch_rows)
                found.update(product(rows, range(left, left + grid.column_rows)))
                if plan.has_bias and plan.bias_batches > 1:
                    assert len({row // plan.bias_batches for row in rows}) == 1
        assert found == Counter(product(range(plan.batches), range(plan.columns)))


@given(plans())
def test_sums_of_all_tiles_are_those_of_the_stage(plan: StagePlan) -> None:
    """Every result is in one tile: rows times columns times batches, whole vectors where they are along rows."""
    sums = 0
    for tile, calls in stage_tiles(plan, LANES):
        assert calls >= 0 and (tile.rows + tile.buffers) * tile.lmul <= VECTOR_REGISTERS
        sums += calls * tile.repeats * tile.rows * (tile.lmul * LANES if plan.how.vector == "rows" else 1)
    if plan.how.vector == "rows":
        assert sums == plan.batches * plan.columns * plan.k_slices * sum(panel.width for panel in plan.panels)
    else:
        vectors = sum(chunk.count for chunk in chunks(plan, LANES))
        assert sums == plan.batches * plan.rows * plan.k_slices * vectors


@st.composite
def tiles(draw) -> Tile:
    """Tiles of one length of sums after the other, their scalars near and far."""
    lmul, k = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(1, 40))
    rows = draw(st.integers(1, 32 // lmul - 2))
    apart = draw(st.sampled_from([1, 3, 64, 450, 600]))
    step = draw(st.sampled_from([1, rows]))
    width = lmul * LANES
    stride = draw(st.sampled_from([1, 1, 5]))
    outputs = tuple(row * (width if stride == 1 else 1) for row in range(rows if stride == 1 else min(rows, 5)))
    scalars = tuple(row * apart for row in range(len(outputs)))
    tile = Tile(lmul, k, scalars, step, width + draw(st.sampled_from([0, 3])), outputs, stride)
    kind = draw(st.sampled_from(["plain", "repeated", "bias", "partial"]))
    if kind == "repeated" and tile.can_repeat:
        count = draw(st.integers(2, 4))
        further = draw(st.sampled_from([(1, 0), (0, k * tile.vector_step)]))
        return replace(tile, repeats=count, next_scalars=further[0], next_vectors=further[1], next_outputs=width * rows)
    if kind == "bias":
        bounds = draw(st.sampled_from([None, Activation(0.0, None), Activation(-4.0, 6.0), Activation(None, 5.0)]))
        return replace(tile, biases=outputs, finish=Finish(has_bias=True, activation=bounds))
    return replace(tile, partial=kind == "partial")


def integers(size: int, seed: int) -> np.ndarray:
    """Small whole numbers, whose sums are exact."""
    return np.random.default_rng(seed).integers(-8, 8, size).astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(tiles(), st.sampled_from([K1, C920]), st.booleans())
def test_the_text_of_a_tile_computes_its_sums_and_touches_nothing_else(tile: Tile, target, first: bool) -> None:
    """Buffers end with the last element that the tile needs: a load too far ahead is seen."""
    width, more = tile.lmul * LANES, tile.repeats - 1
    scalars = integers(max(tile.scalars) + (tile.k - 1) * tile.scalar_step + more * tile.next_scalars + 1, 1)
    vectors = integers((tile.k - 1) * tile.vector_step + more * tile.next_vectors + width, 2)
    size = max(tile.outputs) + (width - 1) * tile.out_stride + more * tile.next_outputs + 1
    out, bias = integers(size, 3), integers(size, 4)
    wanted = out.copy()
    for number, row in product(range(tile.repeats), range(tile.rows)):
        at = number * tile.next_outputs + tile.outputs[row] + tile.out_stride * np.arange(width)
        total = np.zeros(width)
        for k in range(tile.k):
            start = number * tile.next_vectors + k * tile.vector_step
            scalar = scalars[number * tile.next_scalars + tile.scalars[row] + k * tile.scalar_step]
            total += scalar * vectors[start : start + width]
        if tile.partial and not first:
            total += out[at]
        if tile.finish:
            total += bias[at]
            bounds = tile.finish.activation
            total = np.clip(total, bounds.low, bounds.high) if bounds else total
        wanted[at] = total
    machine = Machine(32 * LANES)
    compiled = functions(machine, "\n".join(tile_function("tile", tile, target)))
    arguments = [memory(scalars), memory(vectors), memory(out), width]
    arguments += [memory(bias)] if tile.finish else []
    arguments += [int(first)] if tile.partial else []
    compiled["tile"](*arguments)
    np.testing.assert_array_equal(out, wanted)


@given(tiles())
def test_registers_of_sums_and_of_vectors_are_apart(tile: Tile) -> None:
    sums = {int(tile.sum_register(row)[1:]) for row in range(tile.rows)}
    ring = {int(tile.vector_register(step)[1:]) for step in range(tile.buffers)}
    taken = [first + part for first in (*sums, *ring) for part in range(tile.lmul)]
    assert len(taken) == len(set(taken)) == (tile.rows + tile.buffers) * tile.lmul and max(taken) < VECTOR_REGISTERS
    assert tile.vector_register(tile.buffers) == tile.vector_register(0)


@given(tiles())
def test_every_scalar_has_the_nearest_pointer_before_it(tile: Tile) -> None:
    assert len(tile.pointers) <= MOST_POINTERS and tile.pointers["a"] == 0
    far = 0
    for row, offset in enumerate(tile.scalars):
        base = tile.pointers[tile.pointer_of(row)]
        assert base == max(each for each in tile.pointers.values() if each <= offset)
        far += offset - base + (tile.buffers - 1) * tile.scalar_step > LOAD_REACH
    assert far == tile.far_scalars


@given(tiles(), st.sampled_from([K1, C920, load_target("qemu-rv64gcv")]))
def test_a_scalar_is_loaded_before_its_name_comes_round(tile: Tile, target) -> None:
    lead = Latencies.of(tile, target).lead
    assert 0 <= lead < tile.rows * tile.buffers and lead <= tile.rows * tile.k


@given(tiles(), st.sampled_from([K1, C920]))
def test_cycles_of_a_tile_are_at_least_those_of_its_multiply_adds(tile: Tile, target) -> None:
    cost = target.timing.costs.cost["v_float_fma"]
    busy = cost.busy[tile.lmul.bit_length() - 1] / len(cost.pipes)
    assert step_cycles(tile, target) >= tile.rows * busy
    assert tile_cycles(tile, target) >= tile.repeats * tile.k * tile.rows * busy
    longer = replace(tile, k=tile.k + 4)
    if longer.repeats == 1:
        assert tile_cycles(longer, target) > tile_cycles(tile, target)


def test_a_tile_leaves_registers_to_load_into() -> None:
    with pytest.raises(ValueError, match="31 sums of 1 registers leave none of 32"):
        Tile(1, 4, tuple(range(31)), 31, 8, tuple(range(31)), 1)


@given(st.floats(width=32, allow_nan=False))
def test_bounds_are_the_bits_of_their_values(value: float) -> None:
    bits = np.array([int(float_bits(value), 16)], np.uint32).view(np.float32)[0]
    assert bits == np.float32(value) and not (value == 0 and np.signbit(bits))

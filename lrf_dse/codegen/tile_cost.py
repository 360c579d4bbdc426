"""Cycles of one tile in closed form: its steps of k, and what lies before and after them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lrf_dse.codegen.tile import Tile
from lrf_dse.target import Target
from lrf_dse.target.timing import Cost

CALL_SLOTS = 24
"""Instructions around a tile: loops, pointers, call and return."""

AROUND_LOOP = 10
"""Cycles at the end of the loop over k: the branch is mispredicted, pointers are set."""

LATE = 0.04
"""Cycles that an instruction of a step is late on average in program order, where nothing is said to be in its way."""


@lru_cache(maxsize=1 << 12)
def step_cycles(tile: Tile, target: Target) -> float:
    """One step of k: its multiply-adds, its vector load, its issue slots or its dependence on the step before."""
    if target.timing is None or target.isa.vlen_bits is None:
        return float(tile.rows * tile.lmul)
    costs, index = target.timing.costs.cost, _index(tile)
    # A multiply-add and a load of a scalar for each row, the vector's load and its step; pointers and the branch once a
    # turn.
    slots = 2 * tile.rows + 2 + tile.far_scalars + (len(tile.pointers) + 3) / tile.buffers
    fma = costs[_product(tile)]
    bounds = _fullest_pipes(tile, costs), slots / _width(target), fma.latency[index]
    held_up = 0.0
    if not hides_steps(tile.lmul, target):
        # Once a turn, pointers and the branch take issue slots; those of two cycles are lost anyway (LATE).
        held_up = max(0.0, (len(tile.pointers) + tile.buffers + 1) / _width(target) - 2) / tile.buffers
    return max(bounds) + held_up + (LATE * slots if target.timing.window is None else 0.0)


def _fullest_pipes(tile: Tile, costs: Mapping[str, Cost]) -> float:
    """Cycles of one step on the pipes that it keeps busy the longest."""
    index = _index(tile)
    busy: dict[tuple[str, ...], float] = {}
    loaded = max(0, index - tile.half)
    for name, count, lmul in ((_product(tile), tile.rows, index), ("float_load", tile.rows, 0), ("v_load", 1, loaded)):
        pipes = costs[name].pipes
        busy[pipes] = busy.get(pipes, 0.0) + count * costs[name].busy[lmul]
    return max(cycles / len(pipes) for pipes, cycles in busy.items())


def _product(tile: Tile) -> str:
    """The operation of its multiply-adds."""
    return "v_float_widen" if tile.half else "v_float_fma"


def hides_steps(lmul: int, target: Target) -> bool:
    """Whether a pointer's step after a multiply-add ends before the next one does, so that nothing waits for it."""
    if target.timing is None:
        return True
    costs, index = target.timing.costs.cost, lmul.bit_length() - 1
    fma = costs["v_float_fma"]
    return fma.latency[index] <= fma.busy[index] + costs["int_alu"].latency[0]


@lru_cache(maxsize=1 << 12)
def tile_cycles(tile: Tile, target: Target) -> float:
    """A whole tile, with its operands in the first cache."""
    if target.timing is None:
        return tile.k * step_cycles(tile, target) + tile.rows * tile.lmul
    costs, index = target.timing.costs.cost, _index(tile)
    start = costs["v_load"].latency[index] + costs["float_load"].latency[0]
    elements = target.fp32_lanes * tile.lmul
    if tile.out_stride > 1:
        # Strided accesses take their time for each element.
        stored, loaded = (elements * costs[f"v_{name}_strided"].per_element for name in ("store", "load"))
    else:
        stored, loaded = (costs[f"v_{name}"].busy[index] for name in ("store", "load"))
    added = int(bool(tile.biases)) + tile.partial
    scaled = tile.rows * costs["v_float_mul"].busy[index] if tile.half else 0.0
    if overlaps_tiles(target) and tile.out_stride == 1:  # strided stores fill the store buffer
        ends = tile.rows * (stored + added * loaded) + scaled
        sums = max(tile.k * step_cycles(tile, target), ends)
        return tile.repeats * sums + costs["v_float_fma"].latency[index] + CALL_SLOTS / _width(target)
    # Between tiles that run on into each other, only what stores take beyond the first products of the next one.
    between = tile.rows * max(0.0, stored - costs["v_float_fma"].busy[index]) + AROUND_LOOP
    around = start + tile.rows * (stored + added * loaded) + scaled + CALL_SLOTS / _width(target)
    return tile.repeats * tile.k * step_cycles(tile, target) + (tile.repeats - 1) * between + around


def overlaps_tiles(target: Target) -> bool:
    """Whether the end of a tile runs beside the start of the next one: a window reorders vector instructions."""
    timing = target.timing
    return timing is not None and timing.window is not None and timing.vector_in_order is None


def _index(tile: Tile) -> int:
    return tile.lmul.bit_length() - 1


def _width(target: Target) -> float:
    return target.core.issue_width.value if target.core.issue_width else 1.0

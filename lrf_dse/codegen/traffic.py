"""Cycles that a stage's bytes take on their way to the first cache, estimated from what its loops read again and again.

A simple model of two cache levels and memory. An operand that a loop reads again comes from the nearest cache of which
it takes at most the share in USABLE, and so do states, which were written just before. Weights are read for the first
time from the second cache if all that the slice loop touches fits it, else from memory. Where they pass by several
times they arrive with the first pass alone, which may take longer for it than its arithmetic. Only ranks schedules; the
timing plugin knows better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from lrf_dse.codegen.plan import KernelPlan, StagePlan
from lrf_dse.codegen.tile import Tile
from lrf_dse.codegen.tile_cost import step_cycles
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing

USABLE = 0.5, 0.75
"""Share of the first and the second cache that one operand may take and still be there when it is read again."""
STAYS_NEAR = 0.75
"""Share of the first cache that all of a kernel may take and still be there when it runs again."""
STATES_USABLE = 0.5
"""Share of the second cache that states may take and still be there from the stage before."""
EXPOSED = 0.03
"""Share of a stream's cycles that is waited for if vectors are loaded at least EARLY cycles before they are used."""
EXPOSED_LATE = 0.1
"""Share of a stream's cycles that is waited for if vectors are loaded later than that."""
EARLY = 20
STEPS_TO_TRUST = 3
"""Loads or stores at the same distance from each other until a prefetcher believes in it."""
ALTERNATING_TURNS = 2
"""Turns of a tile's loop with which no two distances in a row are the same."""


@dataclass(frozen=True)
class MovedBytes:
    """What one call of a stage moves into the first cache: its weights, its states, and both again.

    The weights pass by `passes` times, `passing` of them before they do so again. `scattered` is the part of what is
    written that no prefetcher foresees: one instruction writes here and there. `streams` is how many tiles load their
    vectors from beyond the first cache.
    """

    weights: float
    weights_again: float
    passes: int
    passing: float
    states: float
    states_again: float
    scattered: float
    streams: int


@dataclass(frozen=True)
class MemoryCycles:
    """What the bytes of one call take at full bandwidth, and how many cycles stay exposed beside the arithmetic.

    `first` is for the first pass over the weights, which is `share` of all passes, `others` for the rest.
    """

    share: float
    first: float
    others: float
    exposed: float

    def beside(self, arithmetic: float) -> float:
        """The cycles of the call, whose instructions take `arithmetic`: a full stream waits for nothing else."""
        busy = arithmetic + self.exposed
        return max(self.share * busy, self.first) + max((1 - self.share) * busy, self.others)


def memory_cycles(
    stage: StagePlan, tiles: Sequence[tuple[Tile, int]], touched: int, lanes: int, target: Target
) -> MemoryCycles:
    """The memory cycles of one call of a stage in `tiles`, with `touched` bytes between two calls (`working_set`)."""
    levels, near = target.memory, min(1, len(target.memory) - 1)
    usable = [(level.size_bytes or 0) * share for level, share in zip(levels, USABLE, strict=False)]
    moved = stage_bytes(stage, lanes, usable[0])
    # All of the kernel stays in the first cache: nothing moves in a warm run.
    if touched <= STAYS_NEAR * (levels[0].size_bytes or 0):
        waits = 0.0 if target.timing is None else _thrashing_cycles(stage, tiles, lanes, target.timing)
        return MemoryCycles(1 / moved.passes, 0.0, 0.0, waits)
    weights_rate = rate_beyond(target, touched)
    states_near = FP32_BYTES * (stage.in_floats + stage.out_floats) <= STATES_USABLE * (levels[near].size_bytes or 0)
    states_rate = level_rate(target, near) if states_near else weights_rate
    share = 1 / moved.passes
    states = (moved.states + moved.states_again) / states_rate
    first = moved.weights / weights_rate + share * states
    again_rate = max(weights_rate, rate_beyond(target, moved.passing / USABLE[near]))
    others = moved.weights_again / again_rate + (1 - share) * states
    # The tile that runs most often stands for all.
    tile = max(tiles, key=lambda tile: tile[1] * tile[0].lmul)[0]
    # Memory is asked for early: what is waited for is the way from the second cache.
    moving = moved.weights + moved.weights_again + moved.states + moved.states_again
    exposed = moving / level_rate(target, near) * _exposed(tile, target)
    if target.timing is not None:
        exposed += moved.streams * _restart_cycles(tile, lanes, target.timing, step_cycles(tile, target))
        exposed += _thrashing_cycles(stage, tiles, lanes, target.timing)
        # Lines of memory that nobody asked for early come with their whole latency, a few at a time.
        waited = target.timing.dram.latency_cycles.value / target.timing.outstanding_misses.value
        if not states_near and states_rate == level_rate(target, len(levels) - 1):
            line = waited - target.timing.line_bytes / states_rate
            exposed += moved.scattered / target.timing.line_bytes * max(0.0, line)
    return MemoryCycles(share, first, others, exposed)


def _restart_cycles(tile: Tile, lanes: int, timing: Timing, step: float) -> float:
    """What a tile waits for until its vectors are prefetched: a few steps beyond those asked for before.

    The loop's loads are as far from each other as its turn is long, but for the step to the next tile. With two turns
    these two distances alternate, and a prefetcher believes in neither.
    """
    if len(timing.cache) < 2:
        return 0.0
    asked_for = timing.prefetch.near_lines * timing.line_bytes / (FP32_BYTES * lanes * tile.lmul)
    steps = tile.buffers * max(0.0, STEPS_TO_TRUST + 1 - asked_for)
    # With two turns the distances alternate, and the prefetcher never comes into step.
    if tile.k // tile.buffers - 1 == ALTERNATING_TURNS:
        steps = tile.k
    return min(tile.k, steps) * max(0.0, timing.cache[1].latency_cycles.value - (tile.buffers - 1) * step)


def _thrashing_cycles(stage: StagePlan, tiles: Sequence[tuple[Tile, int]], lanes: int, timing: Timing) -> float:
    """What scalars and sums wait for that push each other out of the first cache.

    They do where their rows are so far apart that as many as a set has ways fall into the same sets: with 10 rows
    16 KiB apart a stage on X60 took eleven times as long. Sums are written one vector at a time: where a vector is less
    than a line, the line has gone before its other vectors are written, and each of them brings it back (16 rows 12 KiB
    apart, a vector of half a line: 1.9 times as long).
    """
    if stage.how.vector == "columns" or len(timing.cache) < 2:
        return 0.0
    waits = 0.0
    for tile, calls in tiles:
        apart = len({offset // stage.in_step for offset in tile.scalars})
        if is_crowded(tile.element_bytes * stage.in_step, apart, timing):
            waits += calls * tile.repeats * tile.k * tile.rows
        apart = len({offset // stage.out_step for offset in tile.outputs})
        if is_crowded(FP32_BYTES * stage.out_step, apart, timing):
            # Every vector but the first one of a line brings the line back.
            waits += calls * tile.repeats * tile.rows * max(0.0, 1 - FP32_BYTES * lanes * tile.lmul / timing.line_bytes)
    return waits * timing.cache[1].latency_cycles.value


def is_crowded(step_bytes: int, rows: int, timing: Timing) -> bool:
    """Whether so many rows, `step_bytes` apart, push each other out of the first cache while they pass side by side."""
    near = timing.cache[0]
    way = near.size_bytes // near.ways
    # Addresses step_bytes apart fall into so many different places of a way, and then into the same again.
    return -(-rows // (way // gcd(step_bytes, way))) >= near.ways


def rate_beyond(target: Target, size_bytes: float) -> float:
    """Bytes per cycle from the nearest level beyond the first cache that holds so many bytes."""
    levels = target.memory[1:-1]
    level = next((n for n, each in enumerate(levels, start=1) if size_bytes <= (each.size_bytes or 0)), None)
    return level_rate(target, len(target.memory) - 1 if level is None else level)


def level_rate(target: Target, level: int) -> float:
    """Bytes per cycle that one core reads from a level of `target.memory`: as measured, or as its model allows."""
    measured = target.memory[level].read_bytes_per_cycle.value
    if target.timing is None or level == 0:
        return measured
    # Boards measure a copy or a read loop, the model gives a rate: the better of the two, as this is what a good kernel
    # may reach.
    fills = [cache.fill_bytes_per_cycle for cache in target.timing.cache[:-1]]
    fill = fills[level - 1] if level <= len(fills) else target.timing.dram.bytes_per_cycle
    return max(measured, fill.value if fill else 0.0)


def _exposed(tile: Tile, target: Target) -> float:
    """Which share of its streams' cycles a tile waits for."""
    return EXPOSED if (tile.buffers - 1) * step_cycles(tile, target) >= EARLY else EXPOSED_LATE


def working_set(plan: KernelPlan, stage: StagePlan) -> int:
    """Bytes that are touched between two calls of the same stage: all of the kernel, or of the slice loop around it."""
    together = [s for s in plan.stages if (s.number <= plan.fused) == (stage.number <= plan.fused)]
    stages = together if plan.slices > 1 and stage.number <= plan.fused else plan.stages
    weights = sum(s.packed.floats for s in stages)
    states = max(s.blocks * s.repeats * (s.in_floats + s.out_floats) for s in stages)
    return FP32_BYTES * (weights + states)


def stage_bytes(stage: StagePlan, lanes: int, usable: float) -> MovedBytes:
    """The bytes of one call, if operands of `usable` bytes stay in the first cache between two uses."""
    a = FP32_BYTES * stage.k_slices * stage.slice_floats
    each = FP32_BYTES // 2 if stage.in_half else FP32_BYTES
    s, out = each * stage.in_floats, FP32_BYTES * stage.out_floats
    out_again = out * 2 * (stage.k_slices - 1 + stage.called_in_slices)
    vector = each * stage.k * lanes * stage.how.lmul
    scattered = 0.0
    if stage.how.vector == "columns":
        # For every batch and vector of columns, all panels of A pass by.
        passes, passing = stage.batches * -(-stage.columns // (lanes * stage.how.lmul)), a
        s_again = 0 if vector <= usable else s * (len(stage.panels) - 1)
        streams = passes * (1 if vector <= usable else len(stage.panels))
    else:
        # For so many panels of A at a time, all of the state passes by.
        together, passes = stage.how.panels, -(-stage.batches * stage.columns // stage.how.block)
        passing = vector * together
        rounds = len(stage.panels) if together > 1 and s / passes > usable else -(-len(stage.panels) // together)
        s_again = 0 if s <= usable else s * (rounds - 1)
        streams = len(stage.panels) * (passes if passing > usable else 1)
        scattered = out * min(1.0, STEPS_TO_TRUST / together) if passes > 1 else 0.0
    a_again = 0 if passing <= usable else a * (passes - 1)
    states = s + 2 * out, s_again + out_again
    return MovedBytes(a, a_again, passes, passing, *states, scattered, streams * stage.k_slices)

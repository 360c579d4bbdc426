"""Cycles that a stage's bytes take on their way to the first cache, estimated from what its loops read again and again.

A simple model of two cache levels and memory: an operand that a loop reads again comes from the first cache if it takes
at most half of it, else from the second; what is read for the first time comes from the second cache if all that the
slice loop touches fits it, else from memory. Only ranks schedules; the timing plugin knows better.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.codegen.plan import KernelPlan, StagePlan
from lrf_dse.codegen.tile import Tile
from lrf_dse.codegen.tile_cost import step_cycles
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing

USABLE = 0.5
"""Share of the first cache that one operand may take and still be there when it is read again."""
EXPOSED = 0.03
"""Share of a stream's cycles that is waited for in a short loop, whose loads a prefetcher can tell apart, if vectors
are loaded at least EARLY cycles before they are used."""
EXPOSED_LATE = 0.1
"""The same where they are loaded later."""
EXPOSED_LONG = 0.5
"""The same in a loop of more instructions."""
EARLY = 20
STEPS_TO_TRUST = 3
"""Loads or stores at the same distance from each other until a prefetcher believes in it."""


@dataclass(frozen=True)
class Bytes:
    """What one call of a stage moves: for the first time, and again from the second cache.

    `scattered` is the part of what is written that no prefetcher foresees: one instruction writes here and there.
    `streams` is how many tiles load their vectors from beyond the first cache.
    """

    fresh: float
    again: float
    scattered: float
    streams: int


def memory_cycles(plan: KernelPlan, stage: StagePlan, lanes: int, target: Target) -> tuple[float, float]:
    """Of one call: cycles that its bytes take at full bandwidth, and how many stay exposed beside the arithmetic."""
    levels = target.memory
    moved = stage_bytes(stage, lanes, (levels[0].size_bytes or 0) * USABLE)
    near = min(1, len(levels) - 1)
    near_bytes = levels[near].size_bytes
    level = near if near_bytes is None or working_set(plan, stage) <= near_bytes else len(levels) - 1
    cycles = moved.fresh / level_rate(target, level) + moved.again / level_rate(target, near)
    tile = max(stage_tiles(stage, lanes), key=lambda tile: tile[1] * tile[0].lmul)[0]
    exposed = cycles * _exposed(tile, target)
    if target.timing is not None:
        exposed += moved.streams * _restart_cycles(tile, lanes, target.timing, step_cycles(tile, target))
        if level > near:
            # Lines that nobody asked for early come with their whole latency, a few at a time.
            waited = target.timing.dram.latency_cycles.value / target.timing.outstanding_misses.value
            line = waited - target.timing.line_bytes / level_rate(target, level)
            exposed += moved.scattered / target.timing.line_bytes * max(0.0, line)
    return cycles, exposed


def _restart_cycles(tile: Tile, lanes: int, timing: Timing, step: float) -> float:
    """What a tile waits for until its vectors are prefetched: a few steps beyond those asked for before."""
    if len(timing.cache) < 2:
        return 0.0
    asked_for = timing.prefetch.near_lines * timing.line_bytes / (FP32_BYTES * lanes * tile.lmul)
    steps = tile.buffers * max(0.0, STEPS_TO_TRUST + 1 - asked_for)
    return min(tile.k, steps) * max(0.0, timing.cache[1].latency_cycles.value - (tile.buffers - 1) * step)


def level_rate(target: Target, level: int) -> float:
    """Bytes per cycle that one core reads from a level of `target.memory`: as measured, or as its model allows."""
    measured = target.memory[level].read_bytes_per_cycle.value
    if target.timing is None or level == 0:
        return measured
    fills = [cache.fill_bytes_per_cycle for cache in target.timing.cache[:-1]]
    fill = fills[level - 1] if level <= len(fills) else target.timing.dram.bytes_per_cycle
    return max(measured, fill.value if fill else 0.0)


def _exposed(tile: Tile, target: Target) -> float:
    """Which share of its streams' cycles a tile waits for."""
    if not tile.is_short:
        return EXPOSED_LONG
    return EXPOSED if (tile.buffers - 1) * step_cycles(tile, target) >= EARLY else EXPOSED_LATE


def working_set(plan: KernelPlan, stage: StagePlan) -> int:
    """Bytes that are touched between two calls of the same stage: all of the kernel, or of the slice loop around it."""
    together = [s for s in plan.stages if (s.number <= plan.fused) == (stage.number <= plan.fused)]
    stages = together if plan.slices > 1 and stage.number <= plan.fused else plan.stages
    weights = sum(s.packed.floats for s in stages)
    states = max(s.in_floats + s.out_floats for s in stages)
    return FP32_BYTES * (weights + states)


def stage_bytes(stage: StagePlan, lanes: int, usable: float) -> Bytes:
    """The bytes of one call, if operands of `usable` bytes stay in the first cache between two uses."""
    a = FP32_BYTES * stage.k * stage.k_slices * sum(panel.width for panel in stage.panels)
    s, out = FP32_BYTES * stage.in_floats, FP32_BYTES * stage.out_floats
    out_again = out * 2 * (stage.k_slices - 1 + stage.called_in_slices)
    vector = FP32_BYTES * stage.k * lanes * stage.how.lmul
    scattered = 0.0
    if stage.how.vector == "columns":
        # For every batch and vector of columns, all panels of A pass by.
        passes = stage.batches * -(-stage.columns // (lanes * stage.how.lmul))
        a_again = 0 if a <= usable else a * (passes - 1)
        s_again = 0 if vector <= usable else s * (len(stage.panels) - 1)
        streams = passes * (1 if vector <= usable else len(stage.panels))
    else:
        # For so many panels of A at a time, all of the state passes by.
        together, blocks = stage.how.panels, -(-stage.batches * stage.columns // stage.how.block)
        passes = len(stage.panels) if together > 1 and s / blocks > usable else -(-len(stage.panels) // together)
        a_again = 0 if vector * together <= usable else a * (blocks - 1)
        s_again = 0 if s <= usable else s * (passes - 1)
        streams = len(stage.panels) * (blocks if a_again else 1)
        scattered = out * min(1.0, STEPS_TO_TRUST / together) if blocks > 1 else 0.0
    return Bytes(a + s + 2 * out, a_again + s_again + out_again, scattered, streams * stage.k_slices)

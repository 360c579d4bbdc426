"""Cycles that a stage's bytes take on their way to the first cache, estimated from what its loops read again and again.

A simple model of two cache levels and memory: an operand that a loop reads again comes from the first cache if it takes
at most half of it, else from the second; what is read for the first time comes from the second cache if all that the
slice loop touches fits it, else from memory. Only ranks schedules; the timing plugin knows better.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.codegen.plan import KernelPlan, StagePlan
from lrf_dse.codegen.tile import LOOP_INSTRUCTIONS, Tile
from lrf_dse.codegen.tile_cost import step_cycles
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target

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


@dataclass(frozen=True)
class Bytes:
    """What one call of a stage reads and writes: for the first time, and again from the second cache."""

    fresh: float
    again: float


def memory_cycles(plan: KernelPlan, stage: StagePlan, lanes: int, target: Target) -> tuple[float, float]:
    """Of one call: cycles that its bytes take at full bandwidth, and how many stay exposed beside the arithmetic."""
    levels = target.memory
    moved = stage_bytes(stage, lanes, (levels[0].size_bytes or 0) * USABLE)
    near = levels[min(1, len(levels) - 1)]
    level = near if near.size_bytes is None or working_set(plan, stage) <= near.size_bytes else levels[-1]
    cycles = moved.fresh / level.read_bytes_per_cycle.value + moved.again / near.read_bytes_per_cycle.value
    return cycles, cycles * _exposed(max(stage_tiles(stage, lanes), key=lambda tile: tile[1] * tile[0].lmul)[0], target)


def _exposed(tile: Tile, target: Target) -> float:
    """Which share of its streams' cycles a tile waits for."""
    if tile.buffers * (2 * tile.rows + 1) > LOOP_INSTRUCTIONS:
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
    if stage.how.vector == "columns":
        # For every batch and vector of columns, all panels of A pass by.
        passes = stage.batches * -(-stage.columns // (lanes * stage.how.lmul))
        a_again = 0 if a <= usable else a * (passes - 1)
        s_again = 0 if vector <= usable else s * (len(stage.panels) - 1)
    else:
        # For every panel of A, all of the state passes by.
        blocks = -(-stage.batches * stage.columns // stage.how.block)
        a_again = 0 if vector <= usable else a * (blocks - 1)
        s_again = 0 if s <= usable else s * (len(stage.panels) - 1)
    return Bytes(a + s + 2 * out, a_again + s_again + out_again)

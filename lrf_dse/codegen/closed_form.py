"""Cycles of a schedule in closed form: what ranks schedules and predicts kernels before anything runs.

A stage costs the larger of its instructions (multiply-adds, vector loads, issue slots or dependent sums, whichever is
most in a step of k) and its bytes over the bandwidth of the level that holds them, plus what every tile costs around
its sum: first loads, last stores, call. Every figure comes from the target; without a timing model there is no figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.codegen.plan import KernelPlan, StagePlan, kernel_plan
from lrf_dse.codegen.schedule import KernelSchedule, kernel_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.tile_cost import tile_cycles
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.codegen.traffic import level_rate, memory_cycles
from lrf_dse.cost.counts import StageCount
from lrf_dse.target import Target


@dataclass(frozen=True)
class StageBound:
    """What one stage cannot beat.

    `fma_cycles` at the target's peak, `byte_cycles` over the bandwidth of the level that holds the layer.
    """

    fma_cycles: float
    byte_cycles: float

    @property
    def cycles(self) -> float:
        """The larger of the two."""
        return max(self.fma_cycles, self.byte_cycles)


def stage_bounds(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> tuple[StageBound, ...] | None:
    """The bound of every stage on `spec.threads` cores; None without a timing model."""
    if target.core.fma_per_cycle is None:
        return None
    counts = [stage.count for stage in kernel_stages(spec, schedule)]
    bandwidth = _bandwidth(target, _working_set(counts))
    peak = target.core.fma_per_cycle.value * min(spec.threads, target.core.count)
    return tuple(StageBound(count.flops / 2 / peak, _bytes(count) / bandwidth) for count in counts)


def predicted_cycles(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> float | None:
    """Modelled cycles of one warm run; None without a timing model. Raises ValueError if the schedule does not fit."""
    plan = kernel_plan(spec, schedule)
    if target.timing is None:
        return None
    calls = [_calls(plan, stage) for stage in plan.stages]
    cycles = 0.0
    cores = min(spec.threads, target.core.count)
    for stage, count in zip(plan.stages, calls, strict=True):
        tiles = sum(tiles * tile_cycles(tile, target) for tile, tiles in stage_tiles(stage, schedule.lanes))
        cycles += count * memory_cycles(plan, stage, schedule.lanes, target).beside(tiles / cores)
    barrier = target.timing.barrier_cycles.value * len(plan.stages) if spec.threads > 1 else 0.0
    return cycles + barrier


def issued_cycles(spec: KernelSpec, schedule: KernelSchedule) -> float:
    """Multiply-adds of whole vectors: what ranks schedules for a target whose costs are not known."""
    plan = kernel_plan(spec, schedule)
    return sum(
        _calls(plan, stage) * count * (tile.k * tile.rows * tile.lmul + 8 * tile.rows)
        for stage in plan.stages
        for tile, count in stage_tiles(stage, schedule.lanes)
    )


def _calls(plan: KernelPlan, stage: StagePlan) -> int:
    """How often a stage is called in one run."""
    slices = plan.slices if stage.number <= plan.fused else 1
    return slices * (plan.rank_slices if stage.number >= len(plan.stages) - 1 else 1)


def _working_set(counts: list[StageCount]) -> int:
    return sum(count.weight_bytes for count in counts) + max(c.state_in_bytes + c.state_out_bytes for c in counts)


def _bytes(count: StageCount) -> int:
    return count.weight_bytes + count.state_in_bytes + count.state_out_bytes


def _bandwidth(target: Target, working_set_bytes: int) -> float:
    """Bytes per cycle of the nearest level that holds so many bytes."""
    for number, level in enumerate(target.memory):
        if level.size_bytes is None or working_set_bytes <= level.size_bytes:
            return level_rate(target, number)
    raise ValueError(f"target {target.name} has no memory levels")

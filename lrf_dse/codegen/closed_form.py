"""Cycles of a schedule in closed form: what ranks schedules and predicts kernels before anything runs.

A stage costs the larger of its instructions (multiply-adds, vector loads, issue slots or dependent sums, whichever is
most in a step of k) and its bytes over the bandwidth of the level that holds them, plus what every tile costs around
its sum: first loads, last stores, call. Every figure comes from the target; without a timing model there is no figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.codegen.microkernel import Tile
from lrf_dse.codegen.plan import KernelPlan, StagePlan, kernel_plan
from lrf_dse.codegen.schedule import KernelSchedule, kernel_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.cost.counts import StageCount
from lrf_dse.target import Target

CALL_SLOTS = 24
"""Instructions around a tile: loops, pointers, call and return."""


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
    bounds = stage_bounds(spec, schedule, target)
    if bounds is None or target.timing is None:
        return None
    calls = [_calls(plan, stage) for stage in plan.stages]
    cycles = 0.0
    for stage, bound, count in zip(plan.stages, bounds, calls, strict=True):
        tiles = sum(tiles * _tile_cycles(tile, target) for tile, tiles in stage_tiles(stage, schedule.lanes))
        cycles += max(count * tiles / min(spec.threads, target.core.count), bound.byte_cycles)
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


def _tile_cycles(tile: Tile, target: Target) -> float:
    """One tile: its steps of k, and what lies before and after them."""
    costs = target.timing.costs.cost if target.timing else {}
    if target.isa.vlen_bits is None:
        # Plain C takes several such tiles at a time: the multiply-add's latency is hidden, loads fill the other slots.
        return tile.rows * (tile.k * costs["float_fma"].busy[0] + costs["float_store"].busy[0])
    index = tile.lmul.bit_length() - 1
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    fma, load, store = (costs[name] for name in ("v_float_fma", "v_load", "v_store"))
    per_element = target.fp32_lanes * tile.lmul
    slots = 2 * tile.rows + 2 + 4 / tile.unrolled
    step = max(tile.rows * fma.busy[index], load.busy[index], slots / width, fma.latency[index])
    start = load.latency[index] + costs["float_load"].latency[0]
    strided = tile.out_stride > 1
    stored = costs["v_store_strided"].per_element * per_element if strided else store.busy[index]
    moved = (int(bool(tile.biases)) + tile.partial) * (
        costs["v_load_strided"].per_element * per_element if strided else load.busy[index]
    )
    return tile.k * step + start + tile.rows * (stored + moved) + CALL_SLOTS / width


def _working_set(counts: list[StageCount]) -> int:
    return sum(count.weight_bytes for count in counts) + max(c.state_in_bytes + c.state_out_bytes for c in counts)


def _bytes(count: StageCount) -> int:
    return count.weight_bytes + count.state_in_bytes + count.state_out_bytes


def _bandwidth(target: Target, working_set_bytes: int) -> float:
    """Bytes per cycle of the nearest level that holds so many bytes."""
    for level in target.memory:
        if level.size_bytes is None or working_set_bytes <= level.size_bytes:
            return level.read_bytes_per_cycle.value
    raise ValueError(f"target {target.name} has no memory levels")

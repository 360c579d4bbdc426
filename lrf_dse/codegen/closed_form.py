"""Cycles of a schedule in closed form: what ranks schedules and predicts kernels before anything runs.

A stage costs the larger of its instructions (multiply-adds, vector loads, issue slots or dependent sums, whichever is
most in a step of k) and its bytes over the bandwidth of the level that holds them, plus what every tile costs around
its sum: first loads, last stores, call. Every figure comes from the target; without a timing model there is no figure.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from lrf_dse.codegen.plan import KernelPlan, Moved, StagePlan, kernel_plan
from lrf_dse.codegen.scalar_cost import scalar_stage_cycles
from lrf_dse.codegen.schedule import KernelSchedule, kernel_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stream_cost import stream_cycles, stream_issue_cycles, widening_cycles
from lrf_dse.codegen.tile_cost import tile_cycles
from lrf_dse.codegen.tiling import stage_tiles
from lrf_dse.codegen.traffic import level_rate, memory_cycles, working_set
from lrf_dse.cost.counts import FP32_BYTES, StageCount
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing


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
    return tuple(StageBound(count.flops / 2 / peak, count.bytes_moved / bandwidth) for count in counts)


def kernel_rooflines(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> tuple[StageBound, ...]:
    """The bound of every stage of `schedule`: what its instructions take at least, and what its reads take at least.

    Instructions of a stream are counted by pipes and issue slots, other stages by multiply-adds at the peak. Packed
    weights and x come at the rate of the nearest level that holds all of the kernel's. Raises ValueError without known
    costs.
    """
    plan = kernel_plan(spec, schedule)
    if target.core.fma_per_cycle is None:
        raise ValueError(f"the costs of {target.name} are not known")
    peak = target.core.fma_per_cycle.value * min(spec.threads, target.core.count)
    states = max(
        FP32_BYTES * stage.blocks * stage.repeats * (stage.in_floats + stage.out_floats) for stage in plan.stages
    )
    rate = _bandwidth(target, plan.weight_bytes + states)
    bounds = []
    for stage, count in zip(plan.stages, (one.count for one in kernel_stages(spec, schedule)), strict=True):
        issued = count.flops / 2 / peak
        if stage.is_stream:
            issued = stage.blocks * stage.repeats * stream_issue_cycles(stage, schedule.lanes, target)
        read = stage.packed.floats + (stage.blocks * stage.repeats * stage.in_floats if stage.number == 1 else 0)
        bounds.append(StageBound(issued, FP32_BYTES * read / rate))
    return tuple(bounds)


KnownStages = MutableMapping[tuple[Any, ...], float]
"""Cycles of stages that were predicted before, for one spec and target: schedules of a kernel differ in one stage."""


def predicted_cycles(
    spec: KernelSpec, schedule: KernelSchedule, target: Target, *, known: KnownStages | None = None
) -> float | None:
    """Modelled cycles of one warm run; None without a timing model. Raises ValueError if the schedule does not fit.

    `known` is looked up and added to; it belongs to one spec and target.
    """
    plan = kernel_plan(spec, schedule)
    if target.timing is None:
        return None
    known = {} if known is None else known
    cycles = 0.0
    for stage in plan.stages:
        # The share of the thread with the most blocks counts.
        calls = _calls(plan, stage) * -(-stage.blocks // min(spec.threads, target.core.count))
        # The rows of x after the first one find the weights of their block in a near cache.
        again = FP32_BYTES * (stage.packed.block_words + stage.in_floats + stage.out_floats)
        for touched, times in ((working_set(plan, stage), 1), (again, stage.repeats - 1)):
            # `touched` is part of the key: the same stage takes longer where the rest of the kernel pushes its weights
            # out.
            key = (schedule.lanes, touched, *_identity(stage))
            if times and key not in known:
                known[key] = _stage_cycles(stage, touched, schedule.lanes, target)
            cycles += calls * times * known[key] if times else 0.0
        if plan.moved is not None and stage.number < len(plan.stages):
            cycles += calls * stage.repeats * _moving_cycles(plan.moved, schedule.lanes, target.timing)
    # One phase for each stage, so one barrier for each.
    barrier = target.timing.barrier_cycles.value * len(plan.stages) if spec.threads > 1 else 0.0
    return cycles + barrier


def _moving_cycles(moved: Moved, lanes: int, timing: Timing) -> float:
    """What one block gives, run by run: a load, the store that waits for it, and the length of the vectors."""
    if lanes == 1:
        return 3.0 * moved.runs * moved.run
    costs = timing.costs.cost
    lmul = min(8, 1 << (-(-moved.run // lanes) - 1).bit_length())
    index, pieces = lmul.bit_length() - 1, -(-moved.run // (8 * lanes))
    each = costs["v_load"].busy[index] + costs["v_store"].busy[index] + costs["v_config"].busy[0] + 2
    return moved.runs * pieces * each + costs["v_load"].latency[index]


def _stage_cycles(stage: StagePlan, touched: int, lanes: int, target: Target) -> float:
    """One call of a stage, with `touched` bytes between two of them."""
    if target.isa.vlen_bits is None and not (stage.is_stream and stage.storage != "fp32"):
        widening = widening_cycles(stage, lanes, target) / min(stage.groups, target.core.count)
        return scalar_stage_cycles(stage, touched, target) + widening
    return STAGE_CYCLES[stage.how.vector](stage, touched, lanes, target)


def _tiled_cycles(stage: StagePlan, touched: int, lanes: int, target: Target) -> float:
    """The same of a stage in register tiles, on a chip with vectors."""
    widening = widening_cycles(stage, lanes, target) / min(stage.groups, target.core.count)
    tiles = list(stage_tiles(stage, lanes))
    # Threads share tiles; the widening before them is shared alike.
    arithmetic = sum(calls * tile_cycles(tile, target) for tile, calls in tiles) / min(stage.groups, target.core.count)
    return memory_cycles(stage, tiles, touched, lanes, target).beside(arithmetic + widening)


STAGE_CYCLES: dict[str, Callable[[StagePlan, int, int, Target], float]] = {
    "columns": _tiled_cycles,
    "rows": _tiled_cycles,
    "stream": stream_cycles,
    "short": stream_cycles,
}
"""By the way to compute a stage (`VectorAxis`): cycles of one call, of a plan, the bytes touched between two calls, the
lanes and the target."""


def _identity(stage: StagePlan) -> tuple[Any, ...]:
    """What decides a stage's cycles."""
    sizes = stage.batches, stage.rows, stage.k, stage.columns, stage.k_slices, len(stage.panels), stage.groups
    return (
        *sizes,
        stage.storage,
        stage.half,
        stage.how,
        stage.partial,
        stage.called_in_slices,
        stage.bias_batches,
        stage.finish,
    )


def issued_cycles(spec: KernelSpec, schedule: KernelSchedule) -> float:
    """Multiply-adds of whole vectors: what ranks schedules for a target whose costs are not known."""
    plan = kernel_plan(spec, schedule)
    return sum(
        _calls(plan, stage) * stage.blocks * stage.repeats * _issued(stage, schedule.lanes) for stage in plan.stages
    )


def _issued(stage: StagePlan, lanes: int) -> float:
    if stage.is_stream:
        # Without known costs, eight instructions more stand for the start and the end of each panel or tile.
        return sum((stage.k + 8) * panel.width / lanes for panel in stage.panels)
    tiles = stage_tiles(stage, lanes)
    return sum(count * (tile.k * tile.rows * tile.lmul + 8 * tile.rows) for tile, count in tiles)


def _calls(plan: KernelPlan, stage: StagePlan) -> int:
    """How often a stage is called in one run."""
    slices = plan.slices if stage.number <= plan.fused else 1
    return slices * (plan.rank_slices if stage.number >= len(plan.stages) - 1 else 1)


def _working_set(counts: list[StageCount]) -> int:
    return sum(count.weight_bytes for count in counts) + max(c.state_in_bytes + c.state_out_bytes for c in counts)


def _bandwidth(target: Target, working_set_bytes: int) -> float:
    """Bytes per cycle of the nearest level that holds so many bytes."""
    for number, level in enumerate(target.memory):
        if level.size_bytes is None or working_set_bytes <= level.size_bytes:
            return level_rate(target, number)
    raise ValueError(f"target {target.name} has no memory levels")

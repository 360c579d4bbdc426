"""A whole layer against dense: does the compressed one save time, with warm caches and cold, and up to which rank?

Owns the break-even rank: a closed form that agrees with the measurement of a row at the row's own rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.against.contractions import contractions
from benchmarks.against.kernel_set import KernelCase
from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, stage_bounds
from lrf_dse.cost.counts import dense_stage
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import Target
from lrf_dse.tt.shapes import uniform_rank_cap


@dataclass(frozen=True)
class AgainstDense:
    """How many times ours the dense layer takes, and the largest uniform rank at which ours is not slower (warm).

    `up_to_cap`: that is the largest rank that the shape can have. None where nothing predicts or measured it.
    """

    warm: float | None
    cold: float | None
    break_even_rank: int | None
    up_to_cap: bool = False


def against_dense(case: KernelCase, ours: Measurement, dense: Measurement, target: Target) -> AgainstDense:
    """A row of the benchmark against the dense layer of the same sizes and batch."""
    warm = dense.time / ours.time if ours.time else None
    cold = dense.cold_cycles / ours.cold_cycles if dense.cold_cycles and ours.cold_cycles else None
    rank = break_even_rank(case, target, measured=ours.time, limit=dense.time) if ours.cycles else None
    return AgainstDense(warm, cold, rank, up_to_cap=rank == _cap(case.shape))


def break_even_rank(case: KernelCase, target: Target, *, measured: float, limit: float) -> int | None:
    """The largest uniform rank at which the layer takes at most `limit` cycles, given `measured` cycles as it is.

    The time grows with the rank as the bound of the stages does (FMA time or bytes over bandwidth). 0 if rank 1 is too
    slow already; None without a timing model.
    """
    own = _bound(case.shape, case.batch, target)
    if own is None:
        return None

    def fits(rank: int) -> bool:
        shape = TTShape(case.shape.out_dims, case.shape.in_dims, (1, *[rank] * (case.shape.d - 1), 1))
        bound = _bound(shape, case.batch, target)
        return bound is not None and bound * measured / own <= limit

    low, high = 0, _cap(case.shape)  # the rank lies in [low, high]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def dense_bound(case: KernelCase, target: Target) -> float | None:
    """Cycles that no dense kernel beats in the timing model, warm; None without one.

    Multiply-adds at the peak, weights at the rate of the first cache, and what the caches cannot hold at that of DRAM.
    """
    peak, timing = target.core.fma_per_cycle, target.timing
    if peak is None or timing is None:
        return None
    stage = dense_stage(case.layer)
    held = sum(level.size_bytes or 0 for level in target.memory)
    from_dram = max(0, stage.weight_bytes - held) / timing.dram.bytes_per_cycle.value
    return max(
        stage.flops / 2 / peak.value, stage.weight_bytes / target.memory[0].read_bytes_per_cycle.value, from_dram
    )


def _cap(shape: TTShape) -> int:
    return uniform_rank_cap(shape.out_dims, shape.in_dims)


def _bound(shape: TTShape, batch: int, target: Target) -> float | None:
    """What the cheapest contraction cannot beat, in cycles."""
    way = contractions(shape, batch)[0]
    stages = tuple(StageSchedule("columns", 1, 1) for _ in way.order)  # a bound knows no registers
    schedule = KernelSchedule(way.order, way.merges, 1, stages)
    bounds = stage_bounds(KernelSpec(shape, shape.out_features, shape.in_features, batch), schedule, target)
    return None if bounds is None else sum(bound.cycles for bound in bounds)

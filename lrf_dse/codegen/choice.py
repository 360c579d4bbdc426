"""Which schedules a kernel may have, ranked by the closed form; the first is the default. Nothing is measured here."""

from __future__ import annotations

from lrf_dse.codegen.closed_form import predicted_cycles
from lrf_dse.codegen.schedule import KernelSchedule, StageSchedule
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import Stage, contraction_orders, merged_shapes, stages_of
from lrf_dse.target import Target

VECTOR_REGISTERS = 32


def default_schedule(spec: KernelSpec, target: Target) -> KernelSchedule:
    """The schedule that the closed form likes best."""
    return schedules(spec, target, 1)[0]


def schedules(spec: KernelSpec, target: Target, limit: int) -> tuple[KernelSchedule, ...]:
    """At most `limit` schedules, best first."""
    merges = (1,) * len(spec.core_shapes)
    shapes = merged_shapes(spec.core_shapes, merges)
    candidates = [
        KernelSchedule(order, merges, target.fp32_lanes, tuple(_stage_schedule(stage, target) for stage in stages))
        for order in contraction_orders(len(shapes))
        for stages in [stages_of(shapes, order, batch=spec.batch)]
    ]
    return tuple(sorted(candidates, key=lambda schedule: predicted_cycles(spec, schedule, target))[:limit])


def _stage_schedule(stage: Stage, target: Target) -> StageSchedule:
    lanes = target.fp32_lanes
    if lanes == 1:
        return StageSchedule("columns", 1, 4)
    by_columns = stage.count.columns >= lanes
    lmul = 4
    while lmul > 1 and lmul * lanes > (stage.count.columns if by_columns else stage.count.rows):
        lmul //= 2
    return StageSchedule("columns" if by_columns else "rows", lmul, VECTOR_REGISTERS // lmul - 2)

"""Cycles of a schedule in closed form: for ranking, not for reporting."""

from __future__ import annotations

from lrf_dse.codegen.packing import vectors
from lrf_dse.codegen.schedule import KernelSchedule, StageSchedule, scheduled_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import Stage
from lrf_dse.target import Target


def predicted_cycles(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> float:
    """Modelled cycles of one warm run on one core."""
    return sum(_stage_cycles(stage, how, schedule.lanes) for stage, how in scheduled_stages(spec, schedule))


def _stage_cycles(stage: Stage, how: StageSchedule, lanes: int) -> float:
    """Multiply-adds of full vectors, lanes without work included."""
    count = stage.count
    in_vector, scalars = (count.columns, count.rows) if how.vector == "columns" else (count.rows, count.columns)
    return count.batches * scalars * count.k * sum(vectors(in_vector, how.lmul, lanes)) / lanes

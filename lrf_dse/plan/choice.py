"""The choice of one measured plan under budgets, and the objectives that plans are compared in.

Everything is minimised. Nothing here measures, estimates or reads; `select` makes the plans' combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal

from lrf_dse.errors import BudgetError, UsageError
from lrf_dse.front.pareto import knee
from lrf_dse.plan.budgets import Budgets, no_plan_message, over_budget
from lrf_dse.schema import Plan

LatencyUnit = Literal["microseconds", "cycles", "instructions"]
LossKind = Literal["drop_points", "weight_error"]
Objective = Literal["latency", "bytes", "ram", "accuracy"]
"""What a user wants least of, within the budgets; of accuracy the drop."""

OBJECTIVES: dict[Objective, str] = {
    "latency": "fastest",
    "bytes": "smallest",
    "ram": "least-ram",
    "accuracy": "most-accurate",
}
PICKS = (*OBJECTIVES.values(), "knee")

SAME_LATENCY = 1.01
"""Plans within this factor of the fastest count as equally fast: where the code happens to lie moves cycles as much."""


def latency_unit(plans: Sequence[Plan]) -> LatencyUnit:
    """The best that every plan has, board time before cycles before instructions: what may be compared."""
    # A unit that one plan lacks compares nothing: cycles of one beside seconds of another say nothing.
    if all(plan.seconds is not None for plan in plans):
        return "microseconds"
    return "cycles" if all(plan.cycles is not None for plan in plans) else "instructions"


def latency_of(plan: Plan, unit: LatencyUnit) -> float | None:
    """The plan's latency in `unit`."""
    if unit == "microseconds":
        return None if plan.seconds is None else 1e6 * plan.seconds
    return plan.cycles if unit == "cycles" else plan.instructions


def loss_kind(plans: Sequence[Plan]) -> LossKind:
    """ "drop_points" if every plan's accuracy is known, else "weight_error"."""
    return "drop_points" if all(plan.drop_points is not None for plan in plans) else "weight_error"


def loss_of(plan: Plan, kind: LossKind) -> float | None:
    """The plan's loss of that kind."""
    return plan.drop_points if kind == "drop_points" else plan.weight_error


def plan_objectives(plans: Sequence[Plan]) -> list[tuple[float | None, ...]]:
    """(latency, flash_bytes, ram_bytes, loss) of every plan, in units common to all of them: input of `front`."""
    unit, kind = latency_unit(plans), loss_kind(plans)
    return [_objectives(plan, unit, kind) for plan in plans]


def _objectives(plan: Plan, unit: LatencyUnit, kind: LossKind) -> tuple[float | None, ...]:
    return latency_of(plan, unit), plan.flash_bytes, plan.ram_bytes, loss_of(plan, kind)


def slower_than_dense(plan: Plan, plans: Sequence[Plan], unit: LatencyUnit | None = None) -> bool:
    """Whether a dense plan among `plans` is faster on no more threads than `plan`: compressed for nothing but size.

    They are compared in `unit`, by default the best that all of `plans` have.
    """
    unit = unit or latency_unit(plans)
    dense = [latency_of(p, unit) for p in plans if p.is_dense and p.threads <= plan.threads]
    # More threads for dense would be no fair rival of a plan on few.
    known, latency = [value for value in dense if value is not None], latency_of(plan, unit)
    return bool(known) and latency is not None and latency > min(known)


def default_pick(objective: Objective | None, budgets: Budgets) -> str:
    """The pick of an objective; without one the fastest plan where there are limits, the knee where there are none."""
    if objective is not None:
        return OBJECTIVES[objective]
    return "fastest" if budgets.limited else "knee"


def choose(plans: Sequence[Plan], pick: str, budgets: Budgets) -> Plan:
    """The plan that `pick` (one of PICKS, or a plan's id) names among those within `budgets`.

    The fastest is the smallest of those within SAME_LATENCY of it. The most accurate is the fastest of those with the
    least drop, where a gain counts as no drop: it is noise. Ties go to the plan better in latency, flash, loss and ram,
    then to the lower id; of equal knees to the lower id. The knee is that of the admitted plans' front, where a loss
    counts against `max_drop`, or one point, if it is smaller than that. Neither the fastest nor the knee is ever a plan
    slower than a dense one within the budgets. Raises UsageError for an unknown pick, BudgetError when no plan (or not
    the named one) is admitted.
    """
    by_id = {plan.id: plan for plan in plans}
    if pick not in PICKS and pick not in by_id:
        raise UsageError(f"unknown pick {pick!r}: use one of {', '.join(PICKS)}, or a plan: {', '.join(by_id)}")
    if pick not in PICKS:
        if excess := over_budget(by_id[pick], budgets):
            raise BudgetError(f"plan {pick} is over budget: {excess}")
        return by_id[pick]
    admitted = [plan for plan in plans if budgets.admits(plan)]
    if not admitted:
        raise BudgetError(no_plan_message(plans, budgets))
    unit, kind = latency_unit(plans), loss_kind(plans)
    if pick in ("fastest", "knee"):
        # Measured against dense plans that may be taken instead: where dense does not fit, a slower plan is of use.
        admitted = [plan for plan in admitted if not slower_than_dense(plan, admitted, unit)]
    if pick == "knee":
        # The floor keeps a drop of a fraction of a point from weighing as much as a factor in latency.
        floor = 1.0 if budgets.max_drop is None else budgets.max_drop
        # By id: the knee takes the first of equal points.
        ordered = sorted(admitted, key=lambda plan: plan.id)
        objectives = [_objectives(plan, unit, kind) for plan in ordered]
        return ordered[knee(objectives, floors=(0.0, 0.0, 0.0, floor))]
    if pick == "fastest":
        # Of plans that code placement alone may tell apart, the smaller one is worth more.
        limit = SAME_LATENCY * min(_known(latency_of(plan, unit)) for plan in admitted)
        admitted = [plan for plan in admitted if _known(latency_of(plan, unit)) <= limit]
    return min(admitted, key=lambda plan: _cost(plan, pick, unit, kind))


def _known(value: float | None) -> float:
    return inf if value is None else value


def _cost(plan: Plan, pick: str, unit: LatencyUnit, kind: LossKind) -> tuple[float | str, ...]:
    """What `pick` minimises, and then what decides between equals."""
    latency, loss = _known(latency_of(plan, unit)), _known(loss_of(plan, kind))
    if pick == "least-ram":
        return plan.ram_bytes, latency, plan.flash_bytes, loss, plan.id
    if pick == "most-accurate":
        # A measured gain is noise of the part, so all plans without a drop are equal here.
        return max(loss, 0.0), latency, plan.flash_bytes, plan.ram_bytes, plan.id
    return plan.flash_bytes, latency, loss, plan.ram_bytes, plan.id

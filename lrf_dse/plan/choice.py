"""The choice of one measured plan under budgets, and the objectives that plans are compared in.

Everything is minimised. Nothing here measures, estimates or reads; `select` makes the plans' combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from lrf_dse.errors import BudgetError, UsageError
from lrf_dse.plan.front import knee
from lrf_dse.schema import Plan

LatencyUnit = Literal["microseconds", "cycles", "instructions"]
LossKind = Literal["drop_points", "weight_error"]
PICKS = ("fastest", "smallest", "knee")

SAME_LATENCY = 1.01
"""Plans within this factor of the fastest count as equally fast: where the code happens to lie moves cycles as much."""


@dataclass(frozen=True)
class Budgets:
    """Upper limits a plan must keep; None is no limit. `max_drop` is in the drop unit of the metric."""

    max_drop: float | None = None
    max_flash_bytes: int | None = None
    max_ram_bytes: int | None = None

    def admits(self, plan: Plan) -> bool:
        """Whether `plan` keeps every limit; an unknown accuracy keeps no `max_drop`."""
        return all(excess <= 0.0 for _, _, _, excess in _excesses(plan, self))


def latency_unit(plans: Sequence[Plan]) -> LatencyUnit:
    """The best that every plan has, board time before cycles before instructions: what may be compared."""
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
    return [(latency_of(plan, unit), plan.flash_bytes, plan.ram_bytes, loss_of(plan, kind)) for plan in plans]


def slower_than_dense(plan: Plan, plans: Sequence[Plan]) -> bool:
    """Whether a dense plan among `plans` is faster on no more threads than `plan`: compressed for nothing but size."""
    unit = latency_unit(plans)
    dense = [latency_of(p, unit) for p in plans if p.is_dense and p.threads <= plan.threads]
    known, latency = [value for value in dense if value is not None], latency_of(plan, unit)
    return bool(known) and latency is not None and latency > min(known)


def choose(plans: Sequence[Plan], pick: str, budgets: Budgets) -> Plan:
    """The plan that `pick` ("fastest", "smallest", "knee" or a plan's id) names among those within `budgets`.

    The fastest is the smallest of those within SAME_LATENCY of it. Ties go to the plan better in latency, flash, loss
    and ram, then to the lower id; of equal knees to the lower id. The knee is that of the admitted plans' front, where
    a loss counts against `max_drop`, or one point, if it is smaller than that. Neither the fastest nor the knee is ever
    a plan slower than dense. Raises UsageError for an unknown pick, BudgetError when no plan (or not the named one) is
    admitted.
    """
    by_id = {plan.id: plan for plan in plans}
    if pick not in PICKS and pick not in by_id:
        raise UsageError(f"unknown pick {pick!r}: use one of {', '.join(PICKS)}, or a plan: {', '.join(by_id)}")
    admitted = [plan for plan in plans if budgets.admits(plan)]
    if pick in by_id and pick not in PICKS:
        if excess := over_budget(by_id[pick], budgets):
            raise BudgetError(f"plan {pick} is over budget: {excess}")
        return by_id[pick]
    if not admitted:
        raise BudgetError(_no_plan_message(plans, budgets))
    if pick != "smallest":
        smallest = min(admitted, key=_smallest(latency_unit(plans), loss_kind(plans)))
        admitted = [plan for plan in admitted if not slower_than_dense(plan, plans)]
        if not admitted:
            raise BudgetError(
                f"every plan within the budgets is slower than dense: relax them, or take plan {smallest.id} by name"
            )
    if pick == "knee":
        floor = 1.0 if budgets.max_drop is None else budgets.max_drop
        ordered = sorted(admitted, key=lambda plan: plan.id)
        return ordered[knee(plan_objectives(ordered), floors=(0.0, 0.0, 0.0, floor))]
    unit = latency_unit(plans)
    if pick == "fastest":
        limit = SAME_LATENCY * min(_known(latency_of(plan, unit)) for plan in admitted)
        admitted = [plan for plan in admitted if _known(latency_of(plan, unit)) <= limit]
    return min(admitted, key=_smallest(unit, loss_kind(plans)))


def _known(value: float | None) -> float:
    return inf if value is None else value


def _smallest(unit: LatencyUnit, kind: LossKind) -> Callable[[Plan], tuple[float | str, ...]]:
    def cost(plan: Plan) -> tuple[float | str, ...]:
        latency, loss = _known(latency_of(plan, unit)), _known(loss_of(plan, kind))
        return plan.flash_bytes, latency, loss, plan.ram_bytes, plan.id

    return cost


Excess = tuple[str, float | None, float, float]
"""(budget's name, the plan's value, the limit, relative excess: positive when over, infinite when unknown)."""


def _excesses(plan: Plan, budgets: Budgets) -> list[Excess]:
    values: list[tuple[str, float | None, float | None]] = [
        ("max_drop", plan.drop_points, budgets.max_drop),
        ("max_flash_bytes", plan.flash_bytes, budgets.max_flash_bytes),
        ("max_ram_bytes", plan.ram_bytes, budgets.max_ram_bytes),
    ]
    return [
        # A limit of 0 (no drop at all) has no relative excess; one point, or one byte, is its unit.
        (name, value, limit, inf if value is None else (value - limit) / max(abs(limit), 1.0))
        for name, value, limit in values
        if limit is not None
    ]


def _worst(plan: Plan, budgets: Budgets) -> tuple[float, str]:
    """The largest relative excess of a plan, and its sentence."""
    name, value, limit, excess = max(_excesses(plan, budgets), key=lambda item: item[3])
    digits = 4 if name == "max_drop" else 15  # bytes are counted
    found = "an unknown one: give --data" if value is None else f"{value:,.{digits}g}"
    return excess, f"{name} is {limit:,.10g}, the plan has {found}"


def over_budget(plan: Plan, budgets: Budgets) -> str | None:
    """What `plan` exceeds most, in a sentence; None for one within the budgets."""
    return None if budgets.admits(plan) else _worst(plan, budgets)[1]


def why_dense(plans: Sequence[Plan], budgets: Budgets) -> str:
    """Why the dense model is the fastest plan within the budgets: which factorised one comes nearest, and how near."""
    others = [plan for plan in plans if not plan.is_dense]
    if not others:
        return "no factorised plan came of the search: every one that was predicted loses more or gains nothing"
    within = [plan for plan in others if budgets.admits(plan)]
    if within:
        return f"factorised plans within the budgets, such as {within[0].id}, are not faster"
    nearest = min(others, key=lambda plan: (_worst(plan, budgets)[0], plan.id))
    return f"no factorised plan keeps the budgets; nearest is {nearest.id}: {_worst(nearest, budgets)[1]}"


def _no_plan_message(plans: Sequence[Plan], budgets: Budgets) -> str:
    if not plans:
        return "no plan satisfies the budgets: there are no plans"
    closest = min(plans, key=lambda plan: (_worst(plan, budgets)[0], plan.id))
    return f"no plan satisfies the budgets; closest is plan {closest.id}: {_worst(closest, budgets)[1]}; relax it"

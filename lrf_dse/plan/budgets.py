"""What a plan may cost: the limits that a user sets, which plans keep them, and in words how near the others come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

from lrf_dse.judged import Confirmation
from lrf_dse.options import option
from lrf_dse.schema import Plan
from lrf_dse.units import parse_bytes, show_bytes, show_latency


def _bytes(value: str | float, flag: str) -> int:
    return parse_bytes(value, option=flag)


@dataclass(frozen=True)
class Budgets:
    """Upper limits that a plan must keep; None is no limit. `max_drop` is in `drop_unit`, that of the metric.

    Where plans were confirmed, only those that were keep `max_drop`, however little they lost in the search.
    """

    max_drop: float | None = option(
        "The most that may be lost: in points for top1, top5, balanced and agreement; in percent of the dense model's "
        "value for mse and cosine; in its own unit for a metric of your own.",
        typed=float,
    )
    max_flash_bytes: int | None = option(
        "Budget of flash, for weights and code, such as 200KiB.", flag="--max-bytes", read=_bytes
    )
    max_ram_bytes: int | None = option(
        "Budget of RAM, for buffers and stack, such as 64KiB.", flag="--max-ram", read=_bytes
    )
    max_cycles: float | None = None
    max_seconds: float | None = None
    drop_unit: str = "points"

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return any(True for _ in _given(self))

    @property
    def limits_size(self) -> bool:
        """Whether there is a limit in bytes."""
        return self.max_flash_bytes is not None or self.max_ram_bytes is not None

    def admits(self, plan: Plan) -> bool:
        """Whether `plan` keeps every limit; what is not known of it keeps no limit."""
        # An unknown value exceeds every limit (infinitely), so a plan without data is never said to keep a drop.
        return all(_excess(plan, kind, limit) <= 0.0 for kind, limit in _given(self))

    def without(self, name: str) -> Budgets:
        """The other limits."""
        dropped: dict[str, Any] = {name: None}
        return replace(self, **dropped)

    def __str__(self) -> str:
        return " and ".join(kind.show(limit, self) for kind, limit in _given(self))


@dataclass(frozen=True)
class _Kind:
    """A limit: its field, what of a plan it limits, how it is said, and how the plan nearest to it is told."""

    name: str
    value: Callable[[Plan], float | None]
    show: Callable[[float, Budgets], str]
    nearest: str


def _drop_at_most(plan: Plan) -> float | None:
    """What a plan loses at most, by data that chose nothing where it was judged there; None where that is unknown."""
    known = plan.confirmation
    if known is None:
        return plan.drop_points
    # A plan that was judged after one that failed is not confirmed, whatever its own bound says.
    return known.high if known.confirmed or not known.holds else None


# One entry for each field of Budgets that is a limit: messages and checks are made from the same table.
_KINDS = {
    kind.name: kind
    for kind in (
        _Kind(
            "max_drop",
            _drop_at_most,
            lambda value, budgets: f"{value:.4g} {budgets.drop_unit}",
            "the most accurate plan{within} loses {value}",
        ),
        _Kind(
            "max_flash_bytes",
            lambda plan: plan.flash_bytes,
            lambda value, _: f"{show_bytes(value)} of flash",
            "the smallest plan{within} takes {value}",
        ),
        _Kind(
            "max_ram_bytes",
            lambda plan: plan.ram_bytes,
            lambda value, _: f"{show_bytes(value)} of RAM",
            "the plan of the least RAM{within} takes {value}",
        ),
        _Kind(
            "max_cycles",
            lambda plan: plan.cycles,
            lambda value, _: show_latency(value, "cycles"),
            "the fastest plan{within} takes {value}",
        ),
        _Kind(
            "max_seconds",
            lambda plan: plan.seconds,
            lambda value, _: show_latency(value, "s"),
            "the fastest plan{within} takes {value}",
        ),
    )
}


def _given(budgets: Budgets) -> Iterator[tuple[_Kind, float]]:
    for field in fields(budgets):
        limit = getattr(budgets, field.name)
        if field.name in _KINDS and limit is not None:
            yield _KINDS[field.name], limit


def _excess(plan: Plan, kind: _Kind, limit: float) -> float:
    """By how much of the limit `plan` exceeds it; infinite where the value is unknown.

    A limit of 0 (no drop at all) has no relative excess; one point, or one byte, is its unit.
    """
    value = kind.value(plan)
    return inf if value is None else (value - limit) / max(abs(limit), 1.0)


def _worst(plan: Plan, budgets: Budgets) -> tuple[float, str]:
    """The largest relative excess of a plan, and its sentence."""
    excess, kind, limit = max(
        ((_excess(plan, kind, limit), kind, limit) for kind, limit in _given(budgets)), key=lambda item: item[0]
    )
    # A drop that was confirmed is told with its bound: the bare figure would promise too much.
    if kind.name == "max_drop" and plan.confirmation is not None:
        return excess, f"{confirmation_sentence(plan.confirmation)}, the limit is {kind.show(limit, budgets)}"
    value = kind.value(plan)
    found = "an unknown value (give --data)" if value is None else kind.show(value, budgets)
    return excess, f"{found}, the limit is {kind.show(limit, budgets)}"


def confirmation_sentence(known: Confirmation) -> str:
    """What data that chose nothing says of a plan's drop, and how much of it would decide."""
    if known.drop is None or known.high is None:
        return "not confirmed: not among the plans that were judged on data that chose nothing"
    told = f"{known.drop:.3g} lost, at most {known.high:.3g} (95 %), on {known.samples:,} samples that chose nothing"
    if known.confirmed or known.refuted:
        return told
    if known.holds:
        return f"{told}, but a plan more likely to hold the limit did not"
    needed = "no number in reach" if known.needed is None else f"about {known.needed:,} such samples"
    return f"{told} ({needed} would decide)"


def over_budget(plan: Plan, budgets: Budgets) -> str | None:
    """What `plan` exceeds most, in a sentence; None for one within the budgets."""
    return None if budgets.admits(plan) else _worst(plan, budgets)[1]


def why_dense(plans: Sequence[Plan], budgets: Budgets) -> str:
    """Why the dense model is the fastest plan within the budgets: which factorised one comes nearest, and how near."""
    others = [plan for plan in plans if not plan.is_dense]
    if not others:
        return "no factorised plan came of the search: every one that was predicted loses more or gains nothing"
    # Budgets leave some, so it is their time or size that loses against dense.
    within = [plan for plan in others if budgets.admits(plan)]
    if within:
        return f"factorised plans within the budgets, such as {within[0].id}, are not better"
    nearest = min(others, key=lambda plan: (_worst(plan, budgets)[0], plan.id))
    return f"no factorised plan keeps the budgets; nearest is {nearest.id}: {_worst(nearest, budgets)[1]}"


def no_plan_message(plans: Sequence[Plan], budgets: Budgets) -> str:
    """Why no plan keeps the budgets: for each limit, which plan comes nearest among those that keep the others."""
    if not plans:
        return "no plan satisfies the budgets: there are no plans"
    nearest = [sentence for kind, _ in _given(budgets) if (sentence := _nearest(plans, kind, budgets))]
    if not nearest:
        closest = min(plans, key=lambda plan: (_worst(plan, budgets)[0], plan.id))
        nearest = [f"closest is plan {closest.id}: {_worst(closest, budgets)[1]}"]
    return f"no plan satisfies the budgets: {'; '.join(nearest)}; relax them"


def _nearest(plans: Sequence[Plan], kind: _Kind, budgets: Budgets) -> str | None:
    """The plan nearest to one limit among those within the others; None where there is none, or nothing is known."""
    others = budgets.without(kind.name)
    known = [(value, plan.id) for plan in plans if others.admits(plan) and (value := kind.value(plan)) is not None]
    if not known:
        return None
    # Ties go to the lower id, so that the message is the same in every run.
    value, name = min(known)
    confirmed = next(plan.confirmation for plan in plans if plan.id == name)
    if kind.name == "max_drop" and confirmed is not None:
        limit = kind.show(getattr(budgets, kind.name), budgets)
        return f"nearest to {limit} is {name}: {confirmation_sentence(confirmed)}"
    within = f" within {others}" if others.limited else ""
    return f"{kind.nearest.format(within=within, value=kind.show(value, budgets))} ({name})"

"""The confirmation stage: at most five plans are frozen and judged on data that chose nothing (see `plan.confirm`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log

from lrf_dse.judged import Confirmation
from lrf_dse.models.bounds import Bounds, fewest_samples
from lrf_dse.models.data import Dataset
from lrf_dse.pipeline.context import Exploration
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.choice import latency_of, latency_unit
from lrf_dse.plan.confirm import Prospect, freeze, in_sequence
from lrf_dse.schema import Plan


def confirm_plans(x: Exploration, plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """The plans with what became of them on the confirmation part; as they were where there is no drop budget.

    Plans that differ in threads alone are one plan. The dense model loses nothing.
    """
    budget = x.settings.budgets.max_drop
    if budget is None or not x.accuracies.known:
        return tuple(plans)
    # Plans within the other budgets are candidates for confirmation whatever they seem to lose: that is decided here.
    unlimited = x.settings.budgets.without("max_drop")
    # Only the validation part is read until plans are frozen; the confirmation part is read for the frozen ones alone.
    # A plan that was picked by looking at many results on that part would make its bounds too narrow.
    admitted, pick = [plan for plan in plans if unlimited.admits(plan)], x.settings.pick
    if not any((plan.drop_points or 0.0) <= budget for plan in admitted):
        # None keeps all budgets, as far as the search has seen: what is told is the plan nearest to the other limits
        # among those that keep the drop, which is confirmed too.
        admitted, pick = list(plans), pick_of_limit(unlimited)
    gains = _gains(plans, admitted, pick)
    prospects = {}
    for done, (weights, (plan, gain)) in enumerate(gains.items()):
        x.progress("weigh plans", done, len(gains))
        seen = x.accuracies.bounds_of_plan(plan, "validation")
        prospects[weights] = Prospect(gain, seen.drop, seen.deviation, seen.samples)
    names, samples = list(prospects), x.accuracies.parts["confirmation"].samples
    frozen = [names[i] for i in freeze(list(prospects.values()), budget, samples)]
    judged = []
    for done, weights in enumerate(frozen):
        x.progress("confirm plans", done, len(frozen))
        judged.append(confirmation_of(x.accuracies.bounds_of_plan(gains[weights][0], "confirmation"), budget))
    x.progress("confirm plans", len(frozen), len(frozen))
    # Tested in the fixed order of `frozen`, so that no correction for several tests is needed (`plan.confirm`).
    found = dict(zip(frozen, in_sequence(judged), strict=True))
    none = Confirmation()
    dense = Confirmation(confirmed=True, drop=0.0, low=0.0, high=0.0, samples=samples, holds=True)
    return tuple(replace(p, confirmation=dense if p.is_dense else found.get(p.weights, none)) for p in plans)


def pick_of_limit(budgets: Budgets) -> str:
    """The pick that comes nearest to a limit; flash before RAM before latency."""
    if budgets.max_flash_bytes is not None:
        return "smallest"
    return "least-ram" if budgets.max_ram_bytes is not None else "fastest"


def too_few_samples(confirming: Dataset, budget: float | None) -> tuple[str, ...]:
    """A warning where no plan could be confirmed: told before anything is measured."""
    fewest = None if budget is None else fewest_samples(confirming.metric, budget)
    # Samples of a group are not independent: groups are counted.
    units = len(set(confirming.units.tolist())) if confirming.groups is not None else confirming.samples
    if fewest is None or units >= fewest:
        return ()
    what = "groups" if confirming.groups is not None else "samples"
    return (
        f"a drop of {budget:g} points cannot be confirmed by {units} {what}, even of a plan that never differs: that "
        f"takes {fewest:,}, a part of the data; give more, or a larger --max-drop",
    )


def confirmation_of(bounds: Bounds, budget: float) -> Confirmation:
    """Whether a budget holds: the upper bound is within it; what the lower bound exceeds is refuted."""
    holds, refuted = bounds.high <= budget, bounds.low > budget
    needed = None if holds or refuted else bounds.samples_to_decide(budget)
    return Confirmation(
        drop=bounds.drop,
        low=bounds.low,
        high=bounds.high,
        samples=bounds.samples,
        holds=holds,
        refuted=refuted,
        needed=needed,
    )


def _gains(plans: Sequence[Plan], admitted: Sequence[Plan], pick: str) -> dict[str, tuple[Plan, float]]:
    """The best of the admitted plans that are not dense, with the logarithm of its gain in `pick`, by key of weights.

    The gain is over the dense model, or over the worst admitted plan where the dense model is not admitted.
    """
    unit = latency_unit(plans)

    def cost(plan: Plan) -> float:
        if pick in ("smallest", "least-ram"):
            return plan.flash_bytes if pick == "smallest" else plan.ram_bytes
        return latency_of(plan, unit) or inf

    known = {plan.id: cost(plan) for plan in admitted}
    dense = [known[plan.id] for plan in admitted if plan.is_dense]
    # 1 % worse than the worst: every plan then gains a little, and none is ruled out.
    base = min(dense) if dense else 1.01 * max(known.values(), default=1.0)
    found: dict[str, tuple[Plan, float]] = {}
    for plan in admitted:
        gain = log(base / known[plan.id]) if 0 < known[plan.id] < inf else 0.0
        if not plan.is_dense and gain > found.get(plan.weights, (plan, 0.0))[1]:
            found[plan.weights] = plan, gain
    return found

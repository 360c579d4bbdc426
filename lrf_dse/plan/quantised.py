"""Whether factorising gained anything over what a user would do first: store the weights of the model in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence

from lrf_dse.plan.choice import LatencyUnit, latency_of, latency_unit, loss_kind, loss_of
from lrf_dse.schema import Plan


def is_factorised(plan: Plan) -> bool:
    """Whether a layer of the plan is a tensor train or of low rank."""
    return any(choice.tt_shape is not None for choice in plan.choices)


def storage_of(plan: Plan) -> str:
    """How the weights of a plan are stored.

    Plans of one storage have its name: "int8". Others list theirs: "fp32 and int4".
    """
    return " and ".join(sorted({choice.storage for choice in plan.choices}))


def gain_over_quantising(plans: Sequence[Plan], chosen: Plan) -> str | None:
    """One sentence: what the chosen plan takes beside the smallest one that is not factorised and loses no more.

    None where nothing but fp32 was explored, or the chosen plan is not factorised.
    """
    kind, unit = loss_kind(plans), latency_unit(plans)
    others = [plan for plan in plans if not is_factorised(plan) and plan.threads == 1]
    if not is_factorised(chosen) or all(plan.is_dense for plan in others):
        return None
    allowed = max(loss_of(chosen, kind) or 0.0, 0.0)
    # What loses more is no rival; the dense model always is one.
    fair = [plan for plan in others if plan.is_dense or (loss_of(plan, kind) or 0.0) <= allowed]
    best = min(fair, key=lambda plan: plan.flash_bytes)
    smaller, faster = best.flash_bytes / chosen.flash_bytes, _times_faster(chosen, best, unit)
    verdict = "gained" if smaller > 1 or faster > 1 else "gained nothing"
    return (
        f"Factorising {verdict} over fewer bits alone: of the plans that are not factorised and lose no more, the "
        f"smallest ({storage_of(best)}) takes {best.flash_bytes:,} B of flash, {smaller:.2f} times as much, "
        f"and {faster:.2f} times as long."
    )


def _times_faster(plan: Plan, other: Plan, unit: LatencyUnit) -> float:
    mine, theirs = latency_of(plan, unit), latency_of(other, unit)
    return 1.0 if not mine or not theirs else theirs / mine

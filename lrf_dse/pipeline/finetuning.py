"""The fine-tuning stage: every compressed plan is trained further, toward the dense model, on data of its own.

Shapes stay, so what a plan costs is known already; only its weights and what they are worth change. The epoch that is
kept is the best on the validation part, and not training counts as one. The dense model is trained in the same way and
shown beside: what it gains was never lost by compression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lrf_dse.errors import UsageError
from lrf_dse.finetune.graph import require_known
from lrf_dse.finetune.grids import grids_of
from lrf_dse.finetune.objective import Kind
from lrf_dse.finetune.recover import recover
from lrf_dse.finetune.sequential import can_correct, corrected
from lrf_dse.finetune.train import Recipe, Trained, finetune
from lrf_dse.jsonform import to_json
from lrf_dse.judged import Accuracy, FineTuning
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.rewrite import KEPT, Replacement
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights
from lrf_dse.pipeline.accuracies import accuracy_fields
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.keys import finetuning_key
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.pipeline.run import weights_path
from lrf_dse.pipeline.weights import corrections_of
from lrf_dse.process.spending import spent_on
from lrf_dse.report.facts import FineTuningFacts
from lrf_dse.schema import Candidate, Plan

END_TO_END, LAYER_WISE = "end to end", "layer by layer"


@dataclass(frozen=True)
class _Training:
    """How the training of one plan went, the key of its weights, and the metric with them on both parts."""

    tuning: FineTuning
    weights: str
    validation: Accuracy
    test: Accuracy
    warning: str | None = None


class FineTuned(NamedTuple):
    """The plans after the stage, how the dense control went, and warnings of the report."""

    plans: tuple[Plan, ...]
    facts: FineTuningFacts | None = None
    warnings: tuple[str, ...] = ()


def finetune_plans(x: Exploration, plans: Sequence[Plan]) -> FineTuned:
    """The plans with trained weights where these leave a smaller drop on the validation part; and the dense control.

    Plans that differ in threads alone share their weights. Without --finetune the plans are as they were.
    """
    lessons = x.lessons
    if lessons is None:
        return FineTuned(tuple(plans))
    # The key of its weights tells plans apart here: kernels and threads change none of them.
    unique = {plan.weights: plan for plan in plans if not plan.is_dense}
    trainings = {
        weights: _training(x, lessons, plan, f"fine-tune plan {number} of {len(unique)}")
        for number, (weights, plan) in enumerate(unique.items(), start=1)
    }
    control = _training(x, lessons, next(p for p in plans if p.is_reference), "fine-tune the dense control")
    facts = FineTuningFacts(
        x.settings.finetune, lessons.path.name, lessons.samples, control.tuning, control.validation, control.test
    )
    warnings = dict.fromkeys(each.warning for each in (*trainings.values(), control) if each.warning)
    return FineTuned(tuple(_with(plan, trainings.get(plan.weights)) for plan in plans), facts, tuple(warnings))


def _with(plan: Plan, training: _Training | None) -> Plan:
    if training is None:
        return plan
    tuned = replace(plan, finetuning=training.tuning)
    # Epoch 0 is the fit as it was: training did not help, and its weights stay.
    if training.tuning.best_epoch == 0:
        return tuned
    return replace(tuned, weights=training.weights, **accuracy_fields(training.validation, training.test))


def _training(x: Exploration, lessons: Dataset, plan: Plan, stage: str) -> _Training:
    """What training `plan` gives, from the records where they know."""
    recipe = Recipe(x.settings.finetune, seed=x.settings.seed)
    key = finetuning_key(plan.weights, lessons, recipe, x.accuracies.parts, batch=x.model.batch)
    path, known = weights_path(x.settings.out, key), recorded(x.store, key, _Training)
    if known is not None:
        unasked = plan.is_dense or known.tuning.best_epoch == 0  # nobody asks for these weights
        if unasked or find_weights(path, key) is not None:
            return known
    checkpoint = path.with_suffix(".checkpoint")
    trained, tuning, warning = _trained(x, lessons, plan, recipe, checkpoint=checkpoint, stage=stage)
    proto = replaced(x.model, trained.replacements, trained.values)
    validation, test = (x.accuracies.judged(proto, part) for part in ("validation", "test"))
    save_weights(path, trained, key)
    context = {"choices": {choice.layer.name: choice.label for choice in plan.choices}}
    training = _Training(tuning, key, validation, test, warning)
    x.store.put(key, "finetuning", to_json(training), context=context)
    # Only once weights and record are written: a session that is killed before goes on from the checkpoint.
    checkpoint.unlink(missing_ok=True)
    return training


@spent_on("train")
def _trained(
    x: Exploration, lessons: Dataset, plan: Plan, recipe: Recipe, *, checkpoint: Path, stage: str
) -> tuple[PlanWeights, FineTuning, str | None]:
    """End to end where every operation of the model can be trained through, else layer by layer, with a warning."""
    before = x.weights.replacements(plan.choices, corrections_of(plan))
    # A layer that stays dense is named too: its trained weights then stand apart, where any kernel can take them.
    before = dict.fromkeys(x.model.sites, KEPT) | before
    proto = replaced(x.model, before)
    try:
        require_known(proto)
    except UsageError as reason:
        warning = f"{reason}; plans are fitted to the training data layer by layer instead"
        return *_layer_wise(x, lessons, plan.choices, before), warning
    tuned = finetune(
        proto,
        lessons,
        recipe,
        teacher=x.weights.compressor.apply([]),
        kind=_kind(lessons),
        batch=x.model.batch,
        # The drop of what ships, not the training loss, decides which epoch is kept.
        score=lambda model: x.accuracies.judged(model, "validation").drop,
        grids=grids_of(x.model, before),
        checkpoint=checkpoint,
        progress=lambda epoch: x.progress(stage, epoch.number, recipe.epochs),
    )
    replacements, values = recover(x.model, before, tuned.model, tuned.scales)
    return PlanWeights(replacements, values), _history(tuned), None


def _history(tuned: Trained) -> FineTuning:
    epochs = [epoch for epoch in tuned.epochs if isfinite(epoch.score)]  # an epoch that diverged has no drop
    drops, losses = tuple(epoch.score for epoch in epochs), tuple(epoch.loss for epoch in epochs[1:])
    return FineTuning(END_TO_END, drops, losses, tuned.best.number, tuned.ended)


def _layer_wise(
    x: Exploration, lessons: Dataset, choices: Sequence[Candidate], before: dict[str, Replacement]
) -> tuple[PlanWeights, FineTuning]:
    """Every layer fitted to what it reads and what the dense model would answer, over the training data."""
    drops = [x.accuracies.judged(replaced(x.model, before), "validation").drop]
    fitted = before
    if any(not choice.is_dense for choice in choices):
        compressor = Compressor(x.model, seed=x.settings.seed, calibration=lessons)
        # One layer at a time with the outputs of the dense model as targets needs no gradient, so no operation can be
        # unknown.
        fitted = corrected(compressor, choices) if can_correct(choices) else compressor.replacements(choices)
        # The validation part decides here too; index 0 is the plan without training.
        drops.append(x.accuracies.judged(replaced(x.model, fitted), "validation").drop)
    best = drops.index(min(drops))
    tuning = FineTuning(LAYER_WISE, tuple(drops), (), best, "finished")
    return PlanWeights(fitted if best else before, {}), tuning


def _kind(lessons: Dataset) -> Kind:
    """Labels and agreement are of classes; numbers to come near to are values."""
    if lessons.y is None:
        return "values" if lessons.metric.needs == "values" else "classes"
    # Integers are labels of classes, other numbers are values to come near to.
    return "classes" if lessons.y.dtype.kind in "iu" else "values"

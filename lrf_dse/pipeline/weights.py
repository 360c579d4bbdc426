"""The weights of whole models: made by fits and corrections, and kept as files of a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lrf_dse.errors import StoreError
from lrf_dse.finetune.reorder import as_read, can_reorder, fits_better, reordering
from lrf_dse.finetune.sequential import corrected
from lrf_dse.models.compress import Compressor
from lrf_dse.models.memo import Memo
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights
from lrf_dse.pipeline.corrections import AS_FITTED, Corrections
from lrf_dse.pipeline.keys import fitted_to, plan_weights_key
from lrf_dse.pipeline.run import weights_path
from lrf_dse.schema import Candidate, Plan, TTShape

REORDERED_KEPT = 2
"""Reordered models in memory: one choice of whole models after the other is judged, each in few ways."""


@dataclass(frozen=True, eq=False)
class Weights:
    """What takes the place of the weights of the compressor's model. `folder` is the run's."""

    compressor: Compressor
    folder: Path
    # Each holds a session of its model, and what is known between its parts: hundreds of MB that no count of its arrays
    # shows. What was fitted in it lives on in the memory that all of them share.
    _reordered: Memo[tuple[tuple[str, TTShape | None], ...], Compressor] = field(
        default_factory=lambda: Memo(REORDERED_KEPT, lambda _: 1)
    )

    def key(self, choices: Sequence[Candidate], corrections: Corrections) -> str:
        """Key of what the choices put in the place of the model's weights."""
        return plan_weights_key(
            self.compressor.model,
            choices,
            **fitted_to(self.compressor),
            sequential=corrections.sequential,
            reordered=corrections.reordered,
        )

    def replacements(
        self, choices: Sequence[Candidate], corrections: Corrections = AS_FITTED
    ) -> dict[str, Replacement]:
        """What takes the place of the model's weights; a plan's are in the folder."""
        # Fits as they are come from the compressor's own memory; corrections take long, so the folder is asked first.
        if corrections == AS_FITTED:
            return self.compressor.replacements(choices)
        key = self.key(choices, corrections)
        if (known := find_weights(weights_path(self.folder, key), key)) is not None:
            return dict(known.replacements)
        compressor = self._reordered_for(choices) if corrections.reordered else self.compressor
        made = corrected(compressor, choices) if corrections.sequential else compressor.replacements(choices)
        # The corrected fits are of the reordered model; they are put back in the order of the model as it was read.
        return as_read(self.compressor.model, compressor.model, made)

    def of_plan(self, plan: Plan) -> PlanWeights:
        """What a plan puts in their place, trained or not. Raises StoreError where trained weights are gone."""
        corrections = corrections_of(plan)
        # Another key than that of the choices means that the plan was trained.
        if plan.weights == self.key(plan.choices, corrections):
            return PlanWeights(self.replacements(plan.choices, corrections))
        path = weights_path(self.folder, plan.weights)
        trained = find_weights(path, plan.weights)
        if trained is None:
            raise StoreError(f"{path}: the weights of a trained plan are gone or damaged; the same command makes them")
        return trained

    def gain_by_order(self, choices: Sequence[Candidate]) -> bool:
        """Whether hidden units can be reordered such that layers are fitted better."""
        if not can_reorder(self.compressor.model, choices):
            return False
        return fits_better(self.compressor, self._reordered_for(choices), choices)

    def _reordered_for(self, choices: Sequence[Candidate]) -> Compressor:
        """The compressor of the reordered model, which methods of one shape share."""
        # Methods and storages of one shape share an order of units.
        shapes = tuple((choice.layer.name, choice.tt_shape) for choice in choices)
        return self._reordered.get(shapes, lambda: reordering(self.compressor, choices))

    def keep(self, plan: Plan) -> None:
        """Write what `plan` puts in the place of the model's weights, where it is not whole: exports need no data."""
        path = weights_path(self.folder, plan.weights)
        if find_weights(path, plan.weights) is None:
            replacements = self.replacements(plan.choices, corrections_of(plan))
            save_weights(path, PlanWeights(replacements), plan.weights)

    def forget_others(self, plans: Sequence[Plan]) -> None:
        """Remove the weights of models that were judged and became none of `plans`."""
        kept = {plan.weights for plan in plans}
        for path in weights_path(self.folder, "").parent.glob("*.npz"):
            if path.stem not in kept:
                path.unlink()


def corrections_of(plan: Plan) -> Corrections:
    """The corrections that a plan's weights have."""
    return Corrections(plan.sequential, plan.reordered)

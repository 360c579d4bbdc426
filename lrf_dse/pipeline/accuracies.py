"""What choices cost in quality: accuracies and drops, measured once and recorded one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lrf_dse.finetune.sequential import can_correct
from lrf_dse.jsonform import to_json
from lrf_dse.judged import Accuracy
from lrf_dse.models.bounds import Bounds, drop_bounds
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import Dataset
from lrf_dse.models.metrics import Scores, dense_scale, drop_between
from lrf_dse.pipeline.corrections import AS_FITTED, Corrections, winning
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.keys import accuracy_key, bounds_key, fitted_to
from lrf_dse.pipeline.recorded import Records, recorded
from lrf_dse.pipeline.weights import Weights, corrections_of
from lrf_dse.schema import Candidate, Plan, dense_candidate

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Accuracies of models, from the records where they know; `corrects`: whether a correction may win."""

    evaluation: Evaluation
    store: Records
    corrects: bool = True

    @property
    def weights(self) -> Weights:
        """What the models are made of."""
        return self.evaluation.weights

    @property
    def compressor(self) -> Compressor:
        """What fits their layers."""
        return self.evaluation.weights.compressor

    @property
    def parts(self) -> Mapping[str, Dataset]:
        """The parts of the data that judge."""
        return self.evaluation.parts

    @property
    def known(self) -> bool:
        """Whether there is data to judge with."""
        return bool(self.parts)

    def accuracy(self, choices: Sequence[Candidate], part: str, corrections: Corrections = AS_FITTED) -> Accuracy:
        """The metric of the model with `choices` on one part of the data, and the drop from the dense model's."""
        return self._known(
            choices, part, corrections, partial(self.evaluation.scores, choices, part, corrections), shipped=False
        )

    def of_plan(self, plan: Plan, part: str) -> Accuracy:
        """The accuracy of a plan's graph in the form that ships."""
        scores = partial(self.evaluation.scores_of_plan, plan, part)
        return self._known(plan.choices, part, corrections_of(plan), scores, shipped=True)

    def _known(
        self,
        choices: Sequence[Candidate],
        part: str,
        corrections: Corrections,
        scores: Callable[[], Scores],
        *,
        shipped: bool,
    ) -> Accuracy:
        """An accuracy from the records, or a new one."""
        key = self._key(choices, part, corrections, shipped=shipped)
        found = recorded(self.store, key, Accuracy)
        return self.keep(key, choices, self._accuracy(scores(), part)) if found is None else found

    def _key(
        self, choices: Sequence[Candidate], part: str, corrections: Corrections = AS_FITTED, *, shipped: bool = False
    ) -> str:
        return accuracy_key(
            self.compressor.model,
            self.parts[part],
            choices,
            **fitted_to(self.compressor),
            sequential=corrections.sequential,
            reordered=corrections.reordered,
            shipped=shipped,
        )

    def keep(self, key: str, choices: Sequence[Candidate], accuracy: Accuracy) -> Accuracy:
        """Record an accuracy of these choices under its key."""
        # For a reader of the records: the key alone is a digest.
        context = {"choices": {c.layer.name: c.label for c in choices}}
        self.store.put(key, "accuracy", to_json(accuracy), context=context)
        return accuracy

    def missing(self, plans: Iterable[Sequence[Candidate]], part: str) -> dict[str, Sequence[Candidate]]:
        """The models with fits as they are whose accuracy no record knows, by key."""
        found: dict[str, Sequence[Candidate]] = {}
        for choices in plans:
            key = self._key(choices, part)
            if self.store.get(key) is None:
                found.setdefault(key, choices)
        return found

    def judged(self, proto: onnx.ModelProto | None, part: str) -> Accuracy:
        """The metric of a model on one part of the data, unrecorded; None is the dense model."""
        dense = self.evaluation.dense(part).scores
        return self._accuracy(dense if proto is None else self.evaluation.scores_of(proto, part), part)

    def _accuracy(self, scores: Scores, part: str) -> Accuracy:
        data, dense = self.parts[part], self.evaluation.dense(part)
        drop = drop_between(
            dense.scores, scores, data.metric, seed=self.compressor.seed, scale=self._scale(part), units=data.units
        )
        return Accuracy(scores.value, data.samples, part, data.metric.name, drop.value, drop.low, drop.high)

    def _scale(self, part: str) -> float | None:
        data = self.parts[part]
        return dense_scale(data.metric, data.y, self.evaluation.dense(part).output)

    def bounds_of_plan(self, plan: Plan, part: str) -> Bounds:
        """The drop of a plan as it ships, with one-sided 95% bounds that small samples may use."""
        data, seed = self.parts[part], self.compressor.seed
        key = bounds_key(plan.weights, data, model=self.compressor.model, seed=seed)
        known = recorded(self.store, key, Bounds)
        if known is not None:
            return known
        scores, dense = self.evaluation.scores_of_plan(plan, part), self.evaluation.dense(part).scores
        found = drop_bounds(dense, scores, data.metric, scale=self._scale(part), units=data.units)
        context = {"choices": {choice.layer.name: choice.label for choice in plan.choices}, "part": part}
        self.store.put(key, "bounds", to_json(found), context=context)
        return found

    def check_dense(self) -> None:
        """Raise DataError unless every FC layer reads, and the dense model gives, finite numbers that the metric fits.

        Once: what the records know of the dense model was checked then.
        """
        dense = [dense_candidate(layer) for layer in self.compressor.model.fc_layers]
        # A run that goes on has these accuracies already, and need not evaluate the model again.
        if any(self.store.get(self._key(dense, part)) is None for part in self.parts):
            for part in self.parts:
                self.accuracy(dense, part)
            # Gathering the moments of all layers' inputs checks that these are finite.
            _ = self.compressor.moments

    def drop_points(self, choices: Sequence[Candidate]) -> float | None:
        """How much worse than dense on the validation part, in the metric's drop unit; None when unknown.

        Every layer has its own fit, and hidden units stand as they are: what whole models gain by more, their search
        finds out.
        """
        return self.accuracy(choices, "validation").drop if self.known else None

    def corrections(self, choices: Sequence[Candidate]) -> Corrections:
        """The corrections that leave the smallest drop on the validation part; none without data."""
        if not self.known or not self.corrects:
            return AS_FITTED
        # The validation part decides; the confirmation and the test part have not been looked at when corrections are
        # chosen.
        return winning(
            lambda corrections: self.accuracy(choices, "validation", corrections).drop,
            correctable=can_correct(choices),
            reorderable=lambda: self.weights.gain_by_order(choices),
        )

    def best(self, choices: Sequence[Candidate]) -> Accuracy:
        """The accuracy on the validation part with the corrections that win.

        A TT shape that lost 18 points on LeNet-300-100 lost 7 with its units reordered.
        """
        return self.accuracy(choices, "validation", self.corrections(choices))


def accuracy_fields(validation: Accuracy, test: Accuracy) -> dict[str, Any]:
    """What a Plan holds of its accuracies, by field."""
    return {
        "accuracy": validation.value,
        "drop_points": validation.drop,
        "drop_interval": (validation.drop_low, validation.drop_high),
        "test_accuracy": test.value,
        "test_drop_points": test.drop,
        "test_drop_interval": (test.drop_low, test.drop_high),
    }

"""What choices cost in quality: accuracies, by onnxruntime, and which ways to fit win. Recorded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError, StoreError
from lrf_dse.finetune.reorder import as_read, can_reorder, fits_better, reordering
from lrf_dse.finetune.sequential import can_correct, corrected
from lrf_dse.jsonform import to_json
from lrf_dse.judged import Accuracy
from lrf_dse.models.bounds import Bounds, drop_bounds
from lrf_dse.models.compress import MEMO_BYTES, Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.fed import FedModel
from lrf_dse.models.memo import Memo
from lrf_dse.models.metrics import Scores, dense_scale, drop_between
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.keys import accuracy_key, plan_weights_key
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.pipeline.run import weights_path
from lrf_dse.plan.confirm import DEVIATIONS
from lrf_dse.process.spending import spent_on
from lrf_dse.schema import Candidate, Plan, TTShape, dense_candidate

if TYPE_CHECKING:
    import onnx


_FAR_OFF = 1e30
"""In the place of an infinity: metrics sum squares in double precision, which hold it."""


TWO_SIDED = 1.96
"""The normal deviate of a two-sided interval of 95 %, as accuracies have it."""


class _Ways(TypedDict):
    sequential: bool
    reordered: bool


@dataclass(frozen=True, eq=False)
class _Reference:
    """The dense model on one part of the data: its first output, and its shares of the metric."""

    output: NDArray[Any]
    scores: Scores


@dataclass(frozen=True, eq=False)
class Judge(FitErrors):
    """Answers questions about quality, from the records where they know.

    `parts` are the parts of the data that judge ("validation", "confirmation", "test"), in the metric that they carry;
    empty without data. The part that fits see is the compressor's. `folder` is the run's.
    """

    parts: Mapping[str, Dataset]
    folder: Path
    _references: dict[str, _Reference] = field(default_factory=dict)
    _reordered: Memo[tuple[tuple[str, TTShape | None], ...], Compressor] = field(
        default_factory=lambda: Memo(MEMO_BYTES, lambda made: made.nbytes)
    )

    @property
    def knows_accuracy(self) -> bool:
        """Whether there is data to judge with."""
        return bool(self.parts)

    def accuracy(
        self, choices: Sequence[Candidate], part: str, *, sequential: bool = False, reordered: bool = False
    ) -> Accuracy:
        """The metric of the model with `choices` on one part of the data, and the drop from the dense model's.

        `sequential`: later layers are fitted to what they really get (`finetune.sequential`). `reordered`: hidden units
        stand in the order that fits best (`finetune.reorder`).
        """
        ways = _Ways(sequential=sequential, reordered=reordered)
        return self._known(choices, part, ways, lambda: self.scores(choices, part, **ways), shipped=False)

    def accuracy_of_plan(self, plan: Plan, part: str) -> Accuracy:
        """The same of a plan's graph as it ships."""
        ways = _Ways(sequential=plan.sequential, reordered=plan.reordered)
        return self._known(plan.choices, part, ways, lambda: self.scores_of_plan(plan, part), shipped=True)

    def _known(
        self, choices: Sequence[Candidate], part: str, ways: _Ways, make: Callable[[], Scores], *, shipped: bool
    ) -> Accuracy:
        """An accuracy from the records, or a new one."""
        key = accuracy_key(self.compressor.model, self.parts[part], choices, **self.fitted_to, **ways, shipped=shipped)
        known = recorded(self.store, key, Accuracy)
        if known is not None:
            return known
        return self.keep_accuracy(key, choices, self._accuracy(make(), part))

    def keep_accuracy(self, key: str, choices: Sequence[Candidate], accuracy: Accuracy) -> Accuracy:
        """Record an accuracy of these choices under its key."""
        context = {"choices": {c.layer.name: c.label for c in choices}}
        self.store.put(key, "accuracy", to_json(accuracy), context=context)
        return accuracy

    @spent_on("judge")
    def scores(self, choices: Sequence[Candidate], part: str, *, sequential: bool, reordered: bool) -> Scores:
        """The shares of the metric of the model with `choices`, one a sample of a part, unrecorded.

        The choices' matrices are fed to the model as it was read.
        """
        if all(choice.is_dense for choice in choices):
            return self._dense(part).scores
        made = self.replacements(choices, sequential=sequential, reordered=reordered)
        return self._shares(self._fed.first_output(made, self.parts[part].x), part)

    @cached_property
    def _fed(self) -> FedModel:
        if self.compressor.calibration is not None:
            return self.compressor.fed
        return FedModel(self.compressor.model, next(iter(self.parts.values())).x)

    def scores_of_plan(self, plan: Plan, part: str) -> Scores:
        """The same of a plan's graph as it ships, trained or not. Raises StoreError where trained weights are gone."""
        ways = _Ways(sequential=plan.sequential, reordered=plan.reordered)
        if plan.is_dense:
            return self._dense(part).scores
        if plan.weights == self.weights_key(plan.choices, **ways):
            return self.scores_of(replaced(self.compressor.model, self.replacements(plan.choices, **ways)), part)
        path = weights_path(self.folder, plan.weights)
        trained = find_weights(path, plan.weights)
        if trained is None:
            raise StoreError(f"{path}: the weights of a trained plan are gone or damaged; the same command makes them")
        return self.scores_of(replaced(self.compressor.model, trained.replacements, trained.values), part)

    @spent_on("judge")
    def scores_of(self, proto: onnx.ModelProto, part: str) -> Scores:
        """The shares of the metric of a model, one a sample of a part, unrecorded."""
        return self._shares(first_output(proto, self.parts[part]), part)

    def _shares(self, output: NDArray[Any], part: str) -> Scores:
        """The same of a model's output.

        A value that is not finite, which a compressed model may give, counts as far off and has no say in a metric.
        """
        data = self.parts[part]
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            output = np.nan_to_num(output, nan=-_FAR_OFF, posinf=_FAR_OFF, neginf=-_FAR_OFF)
        return data.metric.shares(output, data.y, self._dense(part).output)

    def judged(self, proto: onnx.ModelProto | None, part: str) -> Accuracy:
        """The metric of a model on one part of the data, unrecorded; None is the dense model."""
        return self._accuracy(self._dense(part).scores if proto is None else self.scores_of(proto, part), part)

    def _accuracy(self, scores: Scores, part: str) -> Accuracy:
        data, dense = self.parts[part], self._dense(part)
        drop = drop_between(
            dense.scores, scores, data.metric, seed=self.compressor.seed, scale=self._scale(part), units=data.units
        )
        return Accuracy(scores.value, data.samples, part, data.metric.name, drop.value, drop.low, drop.high)

    def bounds(self, scores: Scores, part: str) -> Bounds:
        """The drop to these shares from the dense model's, with one-sided 95% bounds that small samples may use."""
        data = self.parts[part]
        return drop_bounds(self._dense(part).scores, scores, data.metric, scale=self._scale(part), units=data.units)

    def _scale(self, part: str) -> float | None:
        data = self.parts[part]
        return dense_scale(data.metric, data.y, self._dense(part).output)

    def _dense(self, part: str) -> _Reference:
        if part not in self._references:
            data = self.parts[part]
            output = first_output(self.compressor.apply([]), data)
            _check_finite(output, data)
            self._references[part] = _Reference(output, data.metric.shares(output, data.y, output))
        return self._references[part]

    def check_dense(self) -> None:
        """Raise DataError unless every FC layer reads, and the dense model gives, finite numbers that the metric fits.

        Once: what the records know of the dense model was checked then.
        """
        dense = [dense_candidate(layer) for layer in self.compressor.model.fc_layers]
        keys = [accuracy_key(self.compressor.model, data, dense, **self.fitted_to) for data in self.parts.values()]
        if any(self.store.get(key) is None for key in keys):
            for part in self.parts:
                self.accuracy(dense, part)
            _ = self.compressor.moments

    def drop_points(self, choices: Sequence[Candidate]) -> float | None:
        """How much worse than dense on the validation part, in the metric's drop unit; None when unknown.

        Every layer has its own fit, and hidden units stand as they are: what whole models gain by more, their search
        finds out.
        """
        return self.accuracy(choices, "validation").drop if self.knows_accuracy else None

    def sequential_wins(self, choices: Sequence[Candidate]) -> bool:
        """Whether the sequential correction leaves a smaller drop on the validation part; it is used only then."""
        if not self.knows_accuracy or not can_correct(choices):
            return False
        own, corrected = (self.accuracy(choices, "validation", sequential=s).drop for s in (False, True))
        return corrected < own

    def reordering_wins(self, choices: Sequence[Candidate], *, sequential: bool) -> bool:
        """Whether reordered hidden units leave a smaller drop on the validation part; they are reordered only then."""
        if not self.knows_accuracy or not can_reorder(self.compressor.model, choices):
            return False
        if not fits_better(self.compressor, self._reordered_for(choices), choices):
            return False
        own, reordered = (
            self.accuracy(choices, "validation", sequential=sequential, reordered=r).drop for r in (False, True)
        )
        return reordered < own

    def best_drop(self, choices: Sequence[Candidate]) -> float | None:
        """The same with the sequential correction, and with hidden units reordered, where these win.

        A TT shape that lost 18 points on LeNet-300-100 lost 7 with its units reordered.
        """
        if not self.knows_accuracy:
            return None
        sequential = self.sequential_wins(choices)
        reordered = self.reordering_wins(choices, sequential=sequential)
        return self.accuracy(choices, "validation", sequential=sequential, reordered=reordered).drop

    def confirmable_drop(self, choices: Sequence[Candidate]) -> float:
        """About the upper bound that the confirmation part would give: the drop, and what the number of samples adds.

        Two plans that lose nothing in the search differ in how many answers they change, and so in what can be
        confirmed of them. A gain counts as no drop.
        """
        sequential = self.sequential_wins(choices)
        reordered = self.reordering_wins(choices, sequential=sequential)
        found = self.accuracy(choices, "validation", sequential=sequential, reordered=reordered)
        half = max(0.0, found.drop_high - found.drop) * DEVIATIONS / TWO_SIDED
        samples = self.parts["confirmation"].samples
        return max(0.0, found.drop) + half * sqrt(found.samples / samples)

    def replacements(
        self, choices: Sequence[Candidate], *, sequential: bool = False, reordered: bool = False
    ) -> dict[str, Replacement]:
        """What takes the place of the model's weights; a plan's are in its folder."""
        if not sequential and not reordered:
            return self.compressor.replacements(choices)
        key = self.weights_key(choices, sequential=sequential, reordered=reordered)
        if (known := find_weights(weights_path(self.folder, key), key)) is not None:
            return dict(known.replacements)
        compressor = self._reordered_for(choices) if reordered else self.compressor
        made = corrected(compressor, choices) if sequential else compressor.replacements(choices)
        return as_read(self.compressor.model, compressor.model, made)

    def _reordered_for(self, choices: Sequence[Candidate]) -> Compressor:
        """The compressor of the reordered model, which methods of one shape share."""
        shapes = tuple((choice.layer.name, choice.tt_shape) for choice in choices)
        return self._reordered.get(shapes, lambda: reordering(self.compressor, choices))

    def keep_weights(self, plan: Plan) -> None:
        """Write what `plan` puts in the place of the model's weights, where it is not whole: exports need no data."""
        path = weights_path(self.folder, plan.weights)
        if find_weights(path, plan.weights) is None:
            replacements = self.replacements(plan.choices, sequential=plan.sequential, reordered=plan.reordered)
            save_weights(path, PlanWeights(replacements), plan.weights)

    def forget_weights(self, plans: Sequence[Plan]) -> None:
        """Remove the weights of models that were judged and became no plan."""
        kept = {plan.weights for plan in plans}
        for path in weights_path(self.folder, "").parent.glob("*.npz"):
            if path.stem not in kept:
                path.unlink()

    def weights_key(self, choices: Sequence[Candidate], *, sequential: bool, reordered: bool) -> str:
        """Key of what the choices put in the place of the model's weights."""
        ways = _Ways(sequential=sequential, reordered=reordered)
        return plan_weights_key(self.compressor.model, choices, **self.fitted_to, **ways)


def _check_finite(output: NDArray[Any], data: Dataset) -> None:
    if output.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(output).reshape(len(output), -1).all(axis=1))
    if len(bad):
        raise DataError(
            f"{data.path}: the model as it is gives NaN or Inf for {len(bad)} of {len(output)} samples of the "
            f"{data.part} part; mend the model, or leave these samples out"
        )


def judged_fields(validation: Accuracy, test: Accuracy) -> dict[str, Any]:
    """What a Plan holds of its accuracies, by field."""
    return {
        "accuracy": validation.value,
        "drop_points": validation.drop,
        "drop_interval": (validation.drop_low, validation.drop_high),
        "test_accuracy": test.value,
        "test_drop_points": test.drop,
        "test_drop_interval": (test.drop_low, test.drop_high),
    }

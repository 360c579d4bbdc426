"""What choices cost in quality: weight errors, and accuracies measured with onnxruntime. Recorded one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, TypedDict

from numpy.typing import NDArray

from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.metrics import Scores, dense_scale, drop_between
from lrf_dse.pipeline.keys import accuracy_key, layer_error_key, plan_weights_key
from lrf_dse.schema import Accuracy, Candidate, from_json, to_json
from lrf_dse.store import Store


class _FittedTo(TypedDict):
    calibration: Dataset | None
    seed: int


@dataclass(frozen=True, eq=False)
class _Reference:
    """The dense model on one part of the data: its first output, and its shares of the metric."""

    output: NDArray[Any]
    scores: Scores


@dataclass(frozen=True, eq=False)
class Judge:
    """Answers questions about quality, from the records where they know.

    `parts` are the parts of the data that judge ("validation", "test"), in the metric that they carry; empty without
    data. The part that fits see is the compressor's.
    """

    compressor: Compressor
    store: Store
    parts: Mapping[str, Dataset]
    _references: dict[str, _Reference] = field(default_factory=dict)

    @property
    def knows_accuracy(self) -> bool:
        """Whether there is data to judge with."""
        return bool(self.parts)

    def accuracy(self, choices: Sequence[Candidate], part: str) -> Accuracy:
        """The metric of the model with `choices` on one part of the data, and the drop from the dense model's."""
        key = accuracy_key(self.compressor.model, self.parts[part], choices, **self._fitted_to)
        known = self.store.get(key)
        if known is not None:
            return from_json(Accuracy, known)  # type: ignore[no-any-return]
        accuracy = self._judged(choices, part)
        context = {"choices": {c.layer.name: c.label for c in choices}}
        self.store.put(key, "accuracy", to_json(accuracy), context=context)
        return accuracy

    def _judged(self, choices: Sequence[Candidate], part: str) -> Accuracy:
        data = self.parts[part]
        metric, dense = data.metric, self._dense(part)
        scores = dense.scores
        if any(not choice.is_dense for choice in choices):
            scores = metric.shares(first_output(self.compressor.apply(choices), data), data.y, dense.output)
        scale = dense_scale(metric, data.y, dense.output)
        drop = drop_between(dense.scores, scores, metric, seed=self.compressor.seed, scale=scale)
        return Accuracy(scores.value, data.samples, part, metric.name, drop.value, drop.low, drop.high)

    def _dense(self, part: str) -> _Reference:
        if part not in self._references:
            data = self.parts[part]
            output = first_output(self.compressor.apply([]), data)
            self._references[part] = _Reference(output, data.metric.shares(output, data.y, output))
        return self._references[part]

    def drop_points(self, choices: Sequence[Candidate]) -> float | None:
        """How much worse than dense on the validation part, in the metric's drop unit; None when unknown."""
        return self.accuracy(choices, "validation").drop if self.knows_accuracy else None

    def squared_error(self, candidate: Candidate) -> float:
        """||W - TT||^2 of one layer; 0 for the dense choice."""
        return self._errors(candidate)[0]

    def output_error(self, candidate: Candidate) -> float | None:
        """The relative error of one layer's outputs on calibration rows held out; None without data."""
        return self._errors(candidate)[1]

    def _errors(self, candidate: Candidate) -> tuple[float, float | None]:
        if candidate.is_dense:
            return 0.0, 0.0 if self.compressor.calibration else None
        key = layer_error_key(self.compressor.model, candidate, **self._fitted_to)
        known = self.store.get(key)
        if known is None:
            fit = self.compressor.fit(candidate)
            known = {"squared": fit.squared_error, "output": fit.output_error}
            context = {"layer": candidate.layer.name, "choice": candidate.label, "decomposer": candidate.decomposer}
            self.store.put(key, "layer_error", known, context=context)
        return known["squared"], known["output"]

    def weights_key(self, choices: Sequence[Candidate]) -> str:
        """Key of what the choices put in the place of the model's weights."""
        return plan_weights_key(self.compressor.model, choices, **self._fitted_to)

    @property
    def _fitted_to(self) -> _FittedTo:
        return {"calibration": self.compressor.calibration, "seed": self.compressor.seed}

    def weight_error(self, choices: Sequence[Candidate]) -> float:
        """Frobenius norm of the change of all FC weights, relative to their norm."""
        layers = self.compressor.model.fc_layers
        total = sum(self.compressor.squared_norm(layer.name) for layer in layers)
        changed = sum(self.squared_error(choice) for choice in choices)
        return sqrt(changed / total) if total else 0.0

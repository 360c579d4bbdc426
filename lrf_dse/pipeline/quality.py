"""What choices cost in quality: weight errors, and accuracies measured with onnxruntime. Recorded one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import top1
from lrf_dse.pipeline.keys import accuracy_key, weight_error_key
from lrf_dse.schema import Accuracy, Candidate, from_json, to_json
from lrf_dse.store import Store


@dataclass(frozen=True, eq=False)
class Judge:
    """Answers questions about quality, from the records where they know.

    `parts` are the labelled parts of the data ("validation", "test"); empty when accuracy is unknown.
    """

    compressor: Compressor
    store: Store
    parts: Mapping[str, Dataset]

    @property
    def knows_accuracy(self) -> bool:
        """Whether there is labelled data."""
        return bool(self.parts)

    def accuracy(self, choices: Sequence[Candidate], part: str) -> Accuracy:
        """Accuracy of the model with `choices` on one part of the data."""
        seed, data = self.compressor.seed, self.parts[part]
        key = accuracy_key(self.compressor.model, data, choices, seed=seed)
        known = self.store.get(key)
        if known is not None:
            return from_json(Accuracy, known)  # type: ignore[no-any-return]
        accuracy = top1(self.compressor.apply(choices), data)
        context = {"choices": {c.layer.name: c.label for c in choices}}
        self.store.put(key, "accuracy", to_json(accuracy), context=context)
        return accuracy

    def drop_points(self, choices: Sequence[Candidate]) -> float | None:
        """Dense minus compressed accuracy on the validation part, in points; None when unknown."""
        if not self.knows_accuracy:
            return None
        return self.accuracy([], "validation").value - self.accuracy(choices, "validation").value

    def squared_error(self, candidate: Candidate) -> float:
        """||W - TT||^2 of one layer; 0 for the dense choice."""
        if candidate.is_dense:
            return 0.0
        key = weight_error_key(self.compressor.model, candidate, seed=self.compressor.seed)
        known = self.store.get(key)
        if known is None:
            known = self.compressor.cores(candidate).squared_error
            self.store.put(
                key, "weight_error", known, context={"layer": candidate.layer.name, "choice": candidate.label}
            )
        return float(known)

    def weight_error(self, choices: Sequence[Candidate]) -> float:
        """Frobenius norm of the change of all FC weights, relative to their norm."""
        layers = self.compressor.model.fc_layers
        total = sum(self.compressor.squared_norm(layer.name) for layer in layers)
        changed = sum(self.squared_error(choice) for choice in choices)
        return sqrt(changed / total) if total else 0.0

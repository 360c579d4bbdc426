"""What fits cost before any accuracy is measured: errors of weights and of outputs. Recorded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, NotRequired, TypedDict, cast

from lrf_dse.models.compress import Compressor
from lrf_dse.pipeline.keys import fitted_to, layer_error_key
from lrf_dse.pipeline.recorded import Records
from lrf_dse.schema import Candidate
from lrf_dse.tt.output_error import OutputError


class _TrialErrors(TypedDict):
    squared: float
    output: float | None
    low: float | None
    high: float | None
    fallback: NotRequired[str]


@dataclass(frozen=True, eq=False)
class FitErrors:
    """The errors of the fits of a compressor, from the records where they know."""

    compressor: Compressor
    store: Records

    def relative_error(self, candidate: Candidate) -> float:
        """||W - T|| / ||W|| of the fit that a candidate is compared by; 0 for the dense choice."""
        norm = self.compressor.squared_norm(candidate.layer.name)
        return sqrt(self._trial(candidate)["squared"] / norm) if norm else 0.0

    def output_error(self, candidate: Candidate) -> OutputError | None:
        """The relative error of one layer's outputs on data that the fit has not seen; None without data."""
        found = self._trial(candidate)
        return None if found["output"] is None else OutputError(found["output"], found["low"], found["high"])

    def _trial(self, candidate: Candidate) -> _TrialErrors:
        if candidate.is_dense:
            # A dense layer has no error on data; without data nothing is known of outputs.
            known = 0.0 if self.compressor.calibration else None
            return {"squared": 0.0, "output": known, "low": known, "high": known}

        def make() -> _TrialErrors:
            trial = self.compressor.trial(candidate)
            error = trial.output_error
            found: _TrialErrors = {"squared": trial.squared_error, "output": None, "low": None, "high": None}
            if error is not None:
                found |= {"output": error.value, "low": error.low, "high": error.high}
            if trial.fallback is not None:
                found["fallback"] = trial.fallback
            return found

        return cast("_TrialErrors", self._recorded("layer_error", candidate, make, final=False))

    def squared_error(self, candidate: Candidate) -> float:
        """||W - T||^2 of the weights that a candidate ships; 0 for the dense choice."""
        if candidate.is_dense:
            return 0.0

        def make() -> dict[str, float]:
            return {"squared": self.compressor.fit(candidate).squared_error}

        return float(self._recorded("fit_error", candidate, make, final=True)["squared"])

    def _recorded(
        self, kind: str, candidate: Candidate, make: Callable[[], Mapping[str, Any]], *, final: bool
    ) -> Mapping[str, Any]:
        key = layer_error_key(self.compressor.model, candidate, **fitted_to(self.compressor), final=final)
        known = self.store.get(key)
        if known is None:
            known = dict(make())
            context = {"layer": candidate.layer.name, "choice": candidate.label, "decomposer": candidate.decomposer}
            self.store.put(key, kind, known, context=context)
        return known

    def weight_error(self, choices: Sequence[Candidate]) -> float:
        """Frobenius norm of the change of all FC weights, relative to their norm."""
        layers = self.compressor.model.fc_layers
        total = sum(self.compressor.squared_norm(layer.name) for layer in layers)
        # Squared Frobenius norms of different layers add up.
        changed = sum(self.squared_error(choice) for choice in choices)
        return sqrt(changed / total) if total else 0.0

"""Models evaluated on the parts of the data that judge, by onnxruntime. Nothing is recorded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError
from lrf_dse.models.compress import replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.fed import FedModel
from lrf_dse.models.metrics import Scores
from lrf_dse.pipeline.corrections import Corrections
from lrf_dse.pipeline.weights import Weights
from lrf_dse.process.spending import spent_on
from lrf_dse.schema import Candidate, Plan

if TYPE_CHECKING:
    import onnx

_FAR_OFF = 1e30
"""The number that stands for an infinity: metrics sum squares in double precision, which can hold this one's."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The dense model on one part of the data: its first output, and its shares of the metric."""

    output: NDArray[Any]
    scores: Scores


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The shares of the metric of models, one a sample of a part.

    `parts` are the parts of the data that judge ("validation", "confirmation", "test"), in the metric that they carry;
    empty without data. The part that fits see is the compressor's.
    """

    weights: Weights
    parts: Mapping[str, Dataset]
    _references: dict[str, Reference] = field(default_factory=dict)

    @spent_on("judge")
    def scores(self, choices: Sequence[Candidate], part: str, corrections: Corrections) -> Scores:
        """The scores of the model with `choices`: their matrices are fed to the model as it was read."""
        if all(choice.is_dense for choice in choices):
            return self.dense(part).scores
        # Fed as matrices: one session of onnxruntime serves all choices, where each graph that ships would need its
        # own.
        made = self.weights.replacements(choices, corrections)
        return self._shares(self._fed.first_output(made, self.parts[part].x), part)

    @cached_property
    def _fed(self) -> FedModel:
        compressor = self.weights.compressor
        if compressor.calibration is not None:
            return compressor.fed
        return FedModel(compressor.model, next(iter(self.parts.values())).x)

    def scores_of_plan(self, plan: Plan, part: str) -> Scores:
        """The scores of a plan's graph that ships, trained or not. Raises StoreError where trained weights are gone."""
        if plan.is_dense:
            return self.dense(part).scores
        weights = self.weights.of_plan(plan)
        return self.scores_of(replaced(self.weights.compressor.model, weights.replacements, weights.values), part)

    @spent_on("judge")
    def scores_of(self, proto: onnx.ModelProto, part: str) -> Scores:
        """The scores of any model that takes the inputs of the explored one."""
        return self._shares(first_output(proto, self.parts[part]), part)

    def _shares(self, output: NDArray[Any], part: str) -> Scores:
        """The scores of a model's `output` on one part of the data.

        A value that is not finite, which a compressed model may give, counts as far off and has no say in a metric.
        """
        data = self.parts[part]
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            output = np.nan_to_num(output, nan=-_FAR_OFF, posinf=_FAR_OFF, neginf=-_FAR_OFF)
        return data.metric.shares(output, data.y, self.dense(part).output)

    def dense(self, part: str) -> Reference:
        """The dense model. Raises DataError where it gives NaN or Inf."""
        if part not in self._references:
            data = self.parts[part]
            output = first_output(self.weights.compressor.apply([]), data)
            _check_finite(output, data)
            self._references[part] = Reference(output, data.metric.shares(output, data.y, output))
        return self._references[part]


def _check_finite(output: NDArray[Any], data: Dataset) -> None:
    if output.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(output).reshape(len(output), -1).all(axis=1))
    if len(bad):
        raise DataError(
            f"{data.path}: the model as it is gives NaN or Inf for {len(bad)} of {len(output)} samples of the "
            f"{data.part} part; mend the model, or leave these samples out"
        )

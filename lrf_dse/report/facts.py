"""What a report is told: the model, its layers, the search, training and data, as plain frozen values.

Owns their fields and units only; what follows from them is decided in `lrf_dse.report.info`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lrf_dse.cost.prune import FunnelStep
from lrf_dse.judged import Accuracy, FineTuning
from lrf_dse.schema import Candidate, Estimate, Failure, FcLayer, Measurement


@dataclass(frozen=True)
class TensorFacts:
    """An input or output of the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class LayerFacts:
    """A layer and what it holds and computes when dense: parameters, and multiply-accumulates per inference."""

    layer: FcLayer
    params: int
    macs: int


@dataclass(frozen=True)
class ModelFacts:
    """The model file: its name without folders, its content hash, and the totals that layer shares refer to.

    `skipped` are (names, reason) of what holds weights and could not be used; `notes` say what reading changed.
    """

    name: str
    sha256: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    layers: tuple[LayerFacts, ...]
    params: int
    macs: int
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerFunnel:
    """The steps that narrowed one layer's design space, widest first; the first one introduces the space."""

    layer: str
    steps: tuple[FunnelStep, ...]


@dataclass(frozen=True)
class CandidateResult:
    """What became of one candidate: its estimate, and a measurement or a failure (neither: not measured).

    `weight_error` is relative (Frobenius), `output_error` that of the layer's outputs, by a fit that had not seen the
    rows it was judged on, with its 95% interval; `drop_points` is with only this layer replaced, or read off the
    layer's curve where not `drop_measured`. None where unknown.
    """

    candidate: Candidate
    estimate: Estimate
    measurement: Measurement | None = None
    failure: Failure | None = None
    weight_error: float | None = None
    drop_points: float | None = None
    output_error: float | None = None
    drop_measured: bool = True
    output_error_interval: tuple[float, float] | None = None

    @property
    def status(self) -> str:
        """ "measured", "failed" or "estimated"."""
        return "failed" if self.failure else "measured" if self.measurement else "estimated"

    @property
    def estimate_error(self) -> float | None:
        """Estimated over measured cycles, less 1; None where either is unknown."""
        estimated, measured = self.estimate.cycles, self.measurement and self.measurement.cycles
        return estimated / measured - 1 if estimated is not None and measured else None


@dataclass(frozen=True)
class FailedPlan:
    """A finalist that could not be built, run or verified."""

    id: str
    choices: tuple[Candidate, ...]
    failure: Failure


@dataclass(frozen=True)
class PredictionFacts:
    """One whole model that was judged to choose finalists; `choices` are those of its compressed layers.

    Its drop as the sum of what each layer loses alone, as predicted when it was picked, and as measured.
    """

    choices: Mapping[str, str]
    summed: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class SearchFacts:
    """How finalists were found: every prediction that was measured, in order; `stable` if the last round had no new."""

    predictions: tuple[PredictionFacts, ...] = ()
    rounds: int = 0
    stable: bool = True


@dataclass(frozen=True)
class FineTuningFacts:
    """What plans were trained with: at most `epochs` of `samples` samples of the data `data`.

    `control` is the dense model trained in the same way, `validation` and `test` its metric and its drop (negative: it
    gained) from the dense model as it came.
    """

    epochs: int
    data: str
    samples: int
    control: FineTuning
    validation: Accuracy
    test: Accuracy


@dataclass(frozen=True)
class DataFacts:
    """The data file, its hash, and how many samples each part has after the seeded split; labels may be missing.

    Calibration samples are those that fits see; they may come from a file of their own. Confirmation samples are those
    that frozen plans alone are judged on. `grouped`: the user said which samples belong together. `metric` is what
    stands for accuracy, `unit` its unit, and `drop_unit` that of being worse than the dense model.
    """

    name: str
    sha256: str
    validation_samples: int
    test_samples: int
    labelled: bool
    calibration_samples: int = 0
    calibration_name: str = ""
    metric: str = "top1"
    unit: str = "%"
    drop_unit: str = "points"
    confirmation_samples: int = 0
    grouped: bool = False

    @property
    def in_points(self) -> bool:
        """Whether a drop is the difference of two percentages."""
        return self.drop_unit == "points"

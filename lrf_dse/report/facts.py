"""The facts that a report is made from: the model, its layers, the search, training and data, as frozen values.

Owns their fields and units only; what follows from them is decided in `lrf_dse.report.info`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lrf_dse.cost.funnel import FunnelStep
from lrf_dse.judged import Accuracy, FineTuning
from lrf_dse.plan.choice import Objective
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
class SelectionFacts:
    """The best combination within the limits by the last prediction, and how far from the best of all it may be.

    `objective` is what was minimised, `value` what the combination takes of it (None: no combination keeps the limits),
    `gap` the relative optimality gap that the solver proved. `choices` are those of its compressed layers.
    """

    objective: Objective
    choices: Mapping[str, str]
    value: float | None
    gap: float
    proved: bool


@dataclass(frozen=True)
class GapFacts:
    """Two neighbours of the judged front, in latency, and how many other models were judged in between."""

    low: float
    high: float
    tried: int


@dataclass(frozen=True)
class SearchFacts:
    """How finalists were found: every prediction that was measured, in order; `stable` if nothing more was promised.

    The options of all layers make `combinations` whole models. `selection` is there where an objective was asked for.
    `between` are ranks that were asked for: (layer, smaller, larger).
    """

    predictions: tuple[PredictionFacts, ...] = ()
    rounds: int = 0
    stable: bool = True
    combinations: int = 1
    selection: SelectionFacts | None = None
    gaps: tuple[GapFacts, ...] = ()
    between: tuple[tuple[str, str, str], ...] = ()

    @property
    def sentence(self) -> str:
        """What was searched, and what is proved of it."""
        text = f"{len(self.predictions)} whole models judged of {_count(self.combinations)} combinations"
        known = self.selection
        if known is None:
            return text
        if known.value is None:
            proof = " (proved)" if known.proved else ""
            return f"{text}; no combination is predicted to keep the limits{proof}"
        proof = "no combination is better" if known.proved else f"the best may be {100 * known.gap:.2g} % better"
        return f"{text}; predicted best in {known.objective}: {known.value:,.6g}, {proof} (HiGHS)"


def _count(number: int) -> str:
    """A whole number, in full up to a million million.

    >>> _count(15246), _count(10**20)
    ('15,246', '1e+20')
    """
    return f"{number:,}" if number < 10**12 else f"{number:.3g}"


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

"""Apply choices to a model: fit the weights of chosen layers and put their chains into the graph.

Owns the step from `schema.Candidate`s to a rewritten model; how one layer is fitted is `layer_fit`'s. The same choices,
seed, weights and calibration data give the same model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, cast

from lrf_dse.models.calibrate import layer_moments
from lrf_dse.models.data import Dataset
from lrf_dse.models.fed import FedModel
from lrf_dse.models.layer_fit import (
    LayerFit,
    LayerTrial,
    finished,
    fit_layer,
    get_method,
    judged_trial,
    squared_norm_of,
    try_layer,
)
from lrf_dse.models.memo import Memo
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import Replacement, rewrite
from lrf_dse.models.site import Array
from lrf_dse.process.spending import spent_on
from lrf_dse.schema import Candidate, Storage, TTShape
from lrf_dse.tt.contraction import Cores
from lrf_dse.tt.data_aware import Trial
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.reorder import UnitOrder
from lrf_dse.tt.stored_fit import Factor, Seen, factors_of, seen

if TYPE_CHECKING:
    import onnx

MEMO_BYTES = 256 << 20
"""Each kind of what was fitted is kept up to this size: whole models share most of their layers' fits."""

FitKey = tuple[str, TTShape | None, str, Storage, bytes]
"""What a fit depends on: the layer, its shape, method and storage, and the order that its units stand in."""


@dataclass(frozen=True, eq=False)
class _Made:
    """The fits of a model and of the same model with hidden units in other orders, by key."""

    trials: Memo[FitKey, LayerTrial] = field(
        default_factory=lambda: Memo(MEMO_BYTES, lambda made: _bytes_of(made.trial.cores))
    )
    fits: Memo[FitKey, LayerFit] = field(default_factory=lambda: Memo(MEMO_BYTES, lambda made: _bytes_of(made.cores)))
    # By layer, order of units, whether x is centred, and whether the rows held out count too.
    seen: Memo[tuple[str, bytes, bool, bool], Seen] = field(
        default_factory=lambda: Memo(MEMO_BYTES, lambda made: made.nbytes)
    )
    joints: Memo[Hashable, Moment] = field(default_factory=lambda: Memo(MEMO_BYTES, lambda made: made.nbytes))
    corrections: Memo[Hashable, Replacement] = field(default_factory=lambda: Memo(MEMO_BYTES, bytes_of))
    orders: Memo[Hashable, UnitOrder | None] = field(default_factory=lambda: Memo(MEMO_BYTES, _size_of_order))


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was made of a candidate: its trial, and the fit to all rows where that was made too."""

    candidate: Candidate
    trial: LayerTrial | None
    fit: LayerFit | None


class Compressor:
    """Fits layers of one model, each (layer, shape, method) once: finalists share most of their choices.

    `calibration` holds the inputs that data-aware methods see; nothing else of a data set is ever fitted to.
    """

    def __init__(self, model: Model, *, seed: int, calibration: Dataset | None = None) -> None:
        self.model = model
        self.seed = seed
        self.calibration = calibration
        self.orders: Mapping[str, bytes] = {}
        self.original: Compressor = self
        self._made = _Made()

    def reordered(self, model: Model, moments: Mapping[str, Moment], orders: Mapping[str, bytes]) -> Compressor:
        """A compressor of `model`, which is this one's with hidden units in another order, and of their `moments`.

        `orders` tells the orders of a layer's units apart, by layer name; fits of layers in the same order are shared.
        """
        other = Compressor(model, seed=self.seed, calibration=self.calibration)
        # One memory for both: its keys hold the order of the units.
        other.orders, other.original, other._made = orders, self, self._made
        # Assigned to a cached_property: they are not computed from the data again, but are those given, in the new
        # order.
        other.moments = moments
        return other

    @property
    def joints(self) -> Memo[Hashable, Moment]:
        """The moments of what layers read behind compressed ones: `finetune.sequential` keeps them here."""
        return self._made.joints

    @property
    def found_orders(self) -> Memo[Hashable, UnitOrder | None]:
        """The orders of hidden units that `finetune.reorder` found."""
        return self._made.orders

    @property
    def corrections(self) -> Memo[Hashable, Replacement]:
        """The corrected layers that `finetune.sequential` has fitted to those moments."""
        return self._made.corrections

    @cached_property
    @spent_on("fit")
    def moments(self) -> Mapping[str, Moment]:
        """The statistics of every layer's inputs over the calibration data; none without data."""
        if self.calibration is None:
            return {}
        data = self.calibration
        return layer_moments(self.model, data.x, seed=self.seed, units=data.units, fed=self.fed)

    @cached_property
    def fed(self) -> FedModel:
        """The model with fed weights. Raises ValueError without calibration data, which shows how it may be run."""
        if self.calibration is None:
            raise ValueError("without calibration data nothing says what a model is fed with")
        return FedModel(self.model, self.calibration.x)

    def trial(self, candidate: Candidate) -> LayerTrial:
        """The fit by which a candidate that is not kept as it is is compared with others.

        Raises UsageError for an unknown method, or a data-aware one without calibration data.
        """
        return self._made.trials.get(self.fit_key(candidate), lambda: self._tried(candidate))

    def fit(self, candidate: Candidate) -> LayerFit:
        """The weights that a candidate ships: its trial, fitted again to all rows. Raises as `trial` does."""
        return self._made.fits.get(self.fit_key(candidate), lambda: self._fitted(candidate))

    def fitted(self, candidate: Candidate, *, final: bool) -> Fitted:
        """The trial, and the fit where it is `final`, as a value that `adopt` takes elsewhere."""
        return Fitted(candidate, self.trial(candidate), self.fit(candidate) if final else None)

    def known(self, candidate: Candidate) -> Fitted | None:
        """What is in memory of a candidate's fit, or of the fit in fp32 that all storages of its shape start from."""
        # Rounding to few bits starts from the cores in fp32, which all storages of a shape share.
        start = candidate if self.has_fit(candidate) or candidate.tt_shape is None else _in_fp32(candidate)
        key = self.fit_key(start) if not start.is_dense else None
        trial, fit = (None, None) if key is None else (self._made.trials.find(key), self._made.fits.find(key))
        return None if trial is None and fit is None else Fitted(start, trial, fit)

    def has_fit(self, candidate: Candidate) -> bool:
        """Whether the fit of a candidate that ships is in memory."""
        return self._made.fits.find(self.fit_key(candidate)) is not None

    def adopt(self, fitted: Fitted) -> None:
        """Keep what another compressor of the same layer, data and seed has made."""
        key, trial, fit = self.fit_key(fitted.candidate), fitted.trial, fitted.fit
        if trial is not None:
            self._made.trials.get(key, lambda: trial)
        if fit is not None:
            self._made.fits.get(key, lambda: fit)

    def part(self, name: str) -> LayerPart:
        """What the fits of one layer depend on."""
        return LayerPart(name, *self.model.weights(name), self.moments.get(name), self.seed)

    def fit_key(self, candidate: Candidate) -> FitKey:
        """What the fit of a candidate depends on. Raises ValueError for a layer that stays as it is."""
        if candidate.is_dense:
            raise ValueError(f"layer {candidate.layer.name} stays as it is: it has no fit")
        name = candidate.layer.name
        return name, candidate.tt_shape, candidate.decomposer, candidate.storage, self.orders.get(name, b"")

    @spent_on("fit")
    def _tried(self, candidate: Candidate) -> LayerTrial:
        layer, shape, moment = candidate.layer.name, candidate.tt_shape, self.moments.get(candidate.layer.name)
        weight, _ = self.model.weights(layer)
        if candidate.storage == "fp32":
            assert shape is not None, "a dense layer in fp32 is kept as it is"
            return try_layer(
                weight,
                shape,
                get_method(candidate.decomposer),
                moment,
                seed=self.seed,
                ridge=self._known_ridge(candidate),
            )
        free = None if shape is None else self.trial(_in_fp32(candidate))
        factors = self._factors(candidate, None if free is None else free.trial.cores, final=False)
        # A ridge of infinity stands for a fit that ignores the data.
        trial = Trial([factor.core for factor in factors], inf if free is None else free.trial.ridge)
        return judged_trial(
            weight, trial, moment, centred=is_centred(candidate), fallback=None if free is None else free.fallback
        )

    def _known_ridge(self, candidate: Candidate) -> float | None:
        """The ridge that was chosen in the file's order of units; None where it has to be chosen here.

        How far the data are to be trusted does not depend on that order, so that it is chosen once.
        """
        moment = self.moments.get(candidate.layer.name)
        if not self.orders.get(candidate.layer.name) or moment is None or moment.second is None:
            return None
        known = self.original.trial(candidate)
        return None if known.fallback else known.trial.ridge

    @spent_on("fit")
    def _fitted(self, candidate: Candidate) -> LayerFit:
        layer, shape, moment = candidate.layer.name, candidate.tt_shape, self.moments.get(candidate.layer.name)
        weight, _ = self.model.weights(layer)
        if candidate.storage == "fp32":
            assert shape is not None, "a dense layer in fp32 is kept as it is"
            trial = self.trial(candidate).trial
            return fit_layer(weight, shape, get_method(candidate.decomposer), moment, trial, seed=self.seed)
        cores = None if shape is None else self.fit(_in_fp32(candidate)).cores
        factors = self._factors(candidate, cores, final=True)
        centred = moment if is_centred(candidate) else None
        return finished(weight, [f.core for f in factors], centred, stored=tuple(f.stored for f in factors))

    def _factors(self, candidate: Candidate, cores: Cores | None, *, final: bool) -> tuple[Factor, ...]:
        """The factors of a candidate in its storage, rounded in the metric of the rows that the fit may see."""
        name = candidate.layer.name
        moment, centred = self.moments.get(name), is_centred(candidate)
        inputs = None
        if moment is not None:

            def make() -> Seen:
                rows = moment.with_held_out() if final else moment
                return seen(rows.centred() if centred else rows)

            inputs = self._made.seen.get((name, self.orders.get(name, b""), centred, final), make)
        return factors_of(self.model.weights(name)[0], cores, candidate.storage, inputs)

    def squared_norm(self, layer_name: str) -> float:
        """||W||^2 of a layer."""
        return squared_norm_of(self.model.weights(layer_name)[0])

    def replacements(self, choices: Iterable[Candidate]) -> dict[str, Replacement]:
        """What takes the place of every layer that a choice compresses."""
        return {
            choice.layer.name: replacement_of(choice, self.fit(choice)) for choice in choices if not choice.is_dense
        }

    def apply(self, choices: Iterable[Candidate]) -> onnx.ModelProto:
        """The model with every choice in the place of its layer; a layer that no choice names is dense."""
        return replaced(self.model, self.replacements(choices))


@dataclass(frozen=True, eq=False)
class LayerPart:
    """One layer as its fits see it: W [out, in], b [out] or None, the moment of its inputs, the seed."""

    name: str
    weight: Array
    bias: Array | None
    moment: Moment | None
    seed: int

    @cached_property
    def compressor(self) -> Compressor:
        """Fits this layer, and remembers: see `Compressor.fitted`. It knows no model around the layer."""
        # A worker gets one layer, not the model: a Model holds the whole graph.
        made = Compressor(cast("Model", _Weights(self.weight, self.bias)), seed=self.seed)
        made.moments = {} if self.moment is None else {self.name: self.moment}
        return made

    def __reduce__(self) -> tuple[Any, ...]:  # without the compressor, which grows
        return LayerPart, (self.name, self.weight, self.bias, self.moment, self.seed)


@dataclass(frozen=True, eq=False)
class _Weights:
    """As much of a Model as the fits of one layer ask for."""

    weight: Array
    bias: Array | None

    def weights(self, _name: str) -> tuple[Array, Array | None]:
        return self.weight, self.bias


def replaced(
    model: Model, replacements: Mapping[str, Replacement], values: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """`model` with these replacements; `values` are those of other constants of the result, where they were trained."""
    return rewrite(model, replacements, values)


def bytes_of(replacement: Replacement) -> int:
    """About what a replacement holds in memory."""
    weights = replacement.cores or (() if replacement.weight is None else (replacement.weight,))
    return 2 * _bytes_of(weights)  # codes and scales are smaller than the values that they stand for


def _size_of_order(order: UnitOrder | None) -> int:
    return 0 if order is None else order.nbytes


def _bytes_of(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays)


def _in_fp32(candidate: Candidate) -> Candidate:
    return replace(candidate, storage="fp32")


def is_centred(candidate: Candidate) -> bool:
    """Whether the bias is shifted after the fit; that of a dense layer in few bits always, where there is one."""
    if candidate.tt_shape is None:
        return candidate.layer.has_bias
    return get_method(candidate.decomposer).centred


def replacement_of(choice: Candidate, fit: LayerFit) -> Replacement:
    """What takes the place of the layer of `choice`."""
    if choice.tt_shape is None:
        # A dense layer is a train of one core [1, out, in, 1].
        return Replacement(weight=fit.cores[0][0, :, :, 0], bias_shift=fit.bias_shift, stored=fit.stored)
    return Replacement(fit.cores, choice.order, bias_shift=fit.bias_shift, stored=fit.stored)

"""Apply choices to a model: fit the weights of chosen layers and put their chains into the graph.

Owns the step from `schema.Candidate`s to a rewritten model, what `Candidate.decomposer` may name, and the errors that a
fit makes. The same choices, seed, weights and calibration data give the same model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.models.calibrate import layer_moments
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import Replacement, rewrite
from lrf_dse.models.site import Array
from lrf_dse.schema import Candidate, FcLayer, Storage, TTShape
from lrf_dse.tt.contraction import Cores, to_matrix
from lrf_dse.tt.data_aware import Trial
from lrf_dse.tt.grid import Stored
from lrf_dse.tt.moment import Moment, bias_shift
from lrf_dse.tt.output_error import OutputError, output_error
from lrf_dse.tt.stored_fit import Factor, Seen, factors_of, seen
from lrf_dse.tt.svd import DATA_AWARE, get_decomposer

if TYPE_CHECKING:
    import onnx

METHODS_VERSION = 4
"""To be raised whenever a method's cores change for the same weights, data and seed."""


@dataclass(frozen=True)
class Method:
    """A decomposer of `tt.svd`; `centred` fits x - E[x] and shifts the bias so that the mean output is that of W."""

    decomposer: str
    centred: bool = False

    @property
    def needs_data(self) -> bool:
        """Whether it needs calibration data."""
        return self.centred or self.decomposer in DATA_AWARE


METHODS: dict[str, Method] = {
    "tt_svd": Method("tt_svd"),
    "t3f": Method("t3f"),
    "whitened": Method("whitened"),
    "als": Method("als"),
    "tt_svd_centred": Method("tt_svd", centred=True),
    "whitened_centred": Method("whitened", centred=True),
    "als_centred": Method("als", centred=True),
}
"""What `Candidate.decomposer` may name. A centred one needs a layer with a bias."""


@dataclass(frozen=True, eq=False)
class LayerTrial:
    """A fit of one layer that has not seen the rows held out, and the errors by which it is compared.

    `squared_error` is ||W - T||^2, `squared_norm` ||W||^2; `output_error` is that to expect of the refit's outputs on
    fresh data, None without data. `fallback` says why TT-SVD stands for the method, where it does.
    """

    trial: Trial
    squared_error: float
    squared_norm: float
    output_error: OutputError | None
    fallback: str | None = None

    @property
    def relative_error(self) -> float:
        """||W - TT|| / ||W||; 0 for a layer of zeros."""
        return sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0


@dataclass(frozen=True, eq=False)
class LayerFit:
    """The cores of one layer, fitted to all rows, and what is added to its bias, if anything; ||W - T||^2.

    In few bits the cores are what the numbers `stored` for each stage stand for. A dense layer has one core.
    """

    cores: Cores
    bias_shift: Array | None
    squared_error: float
    stored: tuple[Stored, ...] | None = None


class Compressor:
    """Fits layers of one model, each (layer, shape, method) once: finalists share most of their choices.

    `calibration` holds the inputs that data-aware methods see; nothing else of a data set is ever fitted to. `moments`
    are its statistics where they are known already.
    """

    def __init__(
        self,
        model: Model,
        *,
        seed: int,
        calibration: Dataset | None = None,
        moments: Mapping[str, Moment] | None = None,
    ) -> None:
        self.model = model
        self.seed = seed
        self.calibration = calibration
        self._moments = moments
        self._trials: dict[_FitKey, LayerTrial] = {}
        self._fits: dict[_FitKey, LayerFit] = {}
        self._seen: dict[tuple[str, bool, bool], Seen] = {}

    @cached_property
    def moments(self) -> Mapping[str, Moment]:
        """The statistics of every layer's inputs over the calibration data; none without data."""
        if self._moments is not None or self.calibration is None:
            return self._moments or {}
        return layer_moments(self.model, self.calibration.x, seed=self.seed, units=self.calibration.units)

    def trial(self, candidate: Candidate) -> LayerTrial:
        """The fit by which a candidate that is not kept as it is is compared with others.

        Raises UsageError for an unknown method, or a data-aware one without calibration data.
        """
        key = _fit_key(candidate)
        if key not in self._trials:
            self._trials[key] = self._tried(candidate)
        return self._trials[key]

    def fit(self, candidate: Candidate) -> LayerFit:
        """The weights that a candidate ships: its trial, fitted again to all rows. Raises as `trial` does."""
        key = _fit_key(candidate)
        if key not in self._fits:
            self._fits[key] = self._fitted(candidate)
        return self._fits[key]

    def _tried(self, candidate: Candidate) -> LayerTrial:
        layer, shape, moment = candidate.layer.name, candidate.tt_shape, self.moments.get(candidate.layer.name)
        weight, _ = self.model.weights(layer)
        if candidate.storage == "fp32":
            assert shape is not None, "a dense layer in fp32 is kept as it is"
            return try_layer(weight, shape, get_method(candidate.decomposer), moment, seed=self.seed)
        free = None if shape is None else self.trial(_in_fp32(candidate))
        factors = self._factors(candidate, None if free is None else free.trial.cores, final=False)
        trial = Trial([factor.core for factor in factors], inf if free is None else free.trial.ridge)
        return judged_trial(
            weight, trial, moment, centred=is_centred(candidate), fallback=None if free is None else free.fallback
        )

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
            key = (name, centred, final)
            if key not in self._seen:
                rows = moment.with_held_out() if final else moment
                self._seen[key] = seen(rows.centred() if centred else rows)
            inputs = self._seen[key]
        return factors_of(self.model.weights(name)[0], cores, candidate.storage, inputs)

    def squared_norm(self, layer_name: str) -> float:
        """||W||^2 of a layer."""
        return _squared_norm(self.model.weights(layer_name)[0])

    def replacements(self, choices: Iterable[Candidate]) -> dict[str, Replacement]:
        """What takes the place of every layer that a choice compresses."""
        return {
            choice.layer.name: replacement_of(choice, self.fit(choice)) for choice in choices if not choice.is_dense
        }

    def apply(self, choices: Iterable[Candidate]) -> onnx.ModelProto:
        """The model with every choice in the place of its layer; a layer that no choice names is dense."""
        return replaced(self.model, self.replacements(choices))


def replaced(
    model: Model, replacements: Mapping[str, Replacement], values: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """`model` with these replacements; `values` are those of other constants of the result, where they were trained."""
    return rewrite(model, replacements, values)


def get_method(name: str) -> Method:
    """The method `name`. Raises UsageError, which lists the valid names."""
    if name not in METHODS:
        raise UsageError(f"unknown decomposer {name!r}: use one of {', '.join(sorted(METHODS))}")
    return METHODS[name]


def methods_for(layer: FcLayer, shape: TTShape, *, with_data: bool) -> tuple[str, ...]:
    """The methods that compete for a TT shape of `layer`; plain TT-SVD, the reference, is always one.

    Low-rank fits take a fraction of a second, so all of them are tried. With other TT shapes, whitened TT-SVD is but
    the start of TT-ALS, which is centred where there is a bias, and a mean that is matched after plain TT-SVD did not
    help on any layer tried.
    """
    if not with_data:
        return ("tt_svd",)
    if not shape.is_low_rank:
        return ("tt_svd", "als_centred" if layer.has_bias else "als")
    return ("tt_svd", "whitened", *(("tt_svd_centred", "whitened_centred") if layer.has_bias else ()))


_FitKey = tuple[str, TTShape | None, str, Storage]


def _fit_key(candidate: Candidate) -> _FitKey:
    """What the fit of a candidate depends on."""
    if candidate.is_dense:
        raise ValueError(f"layer {candidate.layer.name} stays as it is: it has no fit")
    return candidate.layer.name, candidate.tt_shape, candidate.decomposer, candidate.storage


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
        return Replacement(weight=fit.cores[0][0, :, :, 0], bias_shift=fit.bias_shift, stored=fit.stored)
    return Replacement(fit.cores, choice.order, bias_shift=fit.bias_shift, stored=fit.stored)


def try_layer(weight: Array, shape: TTShape, method: Method, moment: Moment | None, *, seed: int) -> LayerTrial:
    """W [out, in] in `shape` by `method`, without the rows held out, and its errors on those.

    Raises UsageError where the method needs a `moment` and there is none.
    """
    if method.needs_data and moment is None:
        raise UsageError(f"decomposer {method.decomposer!r} needs calibration data, got none: give --data")
    trial, fallback = _tried(weight, shape, method, moment, seed=seed)
    return judged_trial(weight, trial, moment, centred=method.centred, fallback=fallback)


def judged_trial(
    weight: Array, trial: Trial, moment: Moment | None, *, centred: bool, fallback: str | None
) -> LayerTrial:
    """A fit of W [out, in] with its errors; a `centred` one matches the mean output."""
    matrix = to_matrix(trial.cores)
    error = None
    if moment is not None:
        shift = (weight.astype(np.float64) - matrix) @ moment.mean if centred else None
        error = output_error(moment, weight, matrix, shift=shift, fitted=not trial.final)
    return LayerTrial(
        trial,
        squared_error=_squared_norm(weight - matrix),
        squared_norm=_squared_norm(weight),
        output_error=error,
        fallback=fallback,
    )


def _tried(
    weight: Array, shape: TTShape, method: Method, moment: Moment | None, *, seed: int
) -> tuple[Trial, str | None]:
    """The trial of `method`, or of TT-SVD, which needs no data, with the reason why the method failed."""
    reason = None
    if method.decomposer in DATA_AWARE:
        assert moment is not None
        try:
            seen = moment.centred() if method.centred else moment
            return DATA_AWARE[method.decomposer](seed).trial(weight, shape, seen), None
        except np.linalg.LinAlgError as error:  # the data span too little, or too large numbers, for a factorisation
            reason = f"{method.decomposer}: {error}"
    name = method.decomposer if reason is None else "tt_svd"
    return Trial(get_decomposer(name, seed=seed).decompose(weight, shape), inf, final=True), reason


def fit_layer(
    weight: Array, shape: TTShape, method: Method, moment: Moment | None, trial: Trial, *, seed: int
) -> LayerFit:
    """W [out, in] in `shape` by what `trial` chose, on all rows; a centred method matches the mean output over them."""
    cores = trial.cores
    if not trial.final:
        assert moment is not None
        whole = moment.with_held_out()
        fitter = DATA_AWARE[method.decomposer](seed)
        try:
            cores = fitter.refit(weight, shape, whole.centred() if method.centred else whole, trial)
        except np.linalg.LinAlgError:  # what was tried computes right: all rows add little to it
            cores = trial.cores
    return finished(weight, cores, moment if method.centred else None)


def finished(
    weight: Array, cores: Cores, centred: Moment | None, *, stored: tuple[Stored, ...] | None = None
) -> LayerFit:
    """The fit with these cores; with `centred` the mean output over its rows is that of W [out, in]."""
    matrix = to_matrix(cores)
    shift = None if centred is None else bias_shift(centred, weight, matrix).astype(np.float32)
    return LayerFit(cores, shift, _squared_norm(weight - matrix), stored)


def _squared_norm(values: Array) -> float:
    """Its sums are double: squares of float32 beyond 1e19 are no float32."""
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64))

"""The fit of one layer: its methods, the trial by which they are compared, and the weights that ship.

Owns what `Candidate.decomposer` may name, and the errors that a fit makes. It knows no model: a layer is W, the moment
of its inputs, and a TT shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.models.site import Array
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.tt.contraction import Cores, to_matrix
from lrf_dse.tt.data_aware import Trial
from lrf_dse.tt.grid import Stored
from lrf_dse.tt.moment import Moment, bias_shift
from lrf_dse.tt.output_error import OutputError, output_error
from lrf_dse.tt.svd import DATA_AWARE, DECOMPOSERS, get_decomposer

METHODS_VERSION = 6
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


_CENTRED = "_centred"
"""What stands behind a decomposer's name in the name of its centred method, which needs a layer with a bias."""


@dataclass(frozen=True, eq=False)
class LayerTrial:
    """A fit of one layer that has not seen the rows held out, and the errors by which it is compared.

    `squared_error` is ||W - T||^2, `squared_norm` ||W||^2; `output_error` is the error to expect of the refit's outputs
    on fresh data, None without data. `fallback` says why TT-SVD stands in the place of the method, None if it does not.
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


def get_method(name: str) -> Method:
    """The method that `Candidate.decomposer` names. Raises UsageError, which lists the valid names."""
    decomposer = name.removesuffix(_CENTRED)
    if decomposer not in DECOMPOSERS:
        known = ", ".join(sorted(DECOMPOSERS))
        raise UsageError(f"unknown decomposer {name!r}: use one of {known}, or one of them with {_CENTRED} behind it")
    return Method(decomposer, centred=name.endswith(_CENTRED))


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


def try_layer(
    weight: Array,
    shape: TTShape,
    method: Method,
    moment: Moment | None,
    *,
    seed: int,
    ridge: float | None = None,
) -> LayerTrial:
    """W [out, in] in `shape` by `method`, without the rows held out, and its errors on those.

    `ridge` None is chosen on the rows held out. Raises UsageError where the method needs a `moment` and there is none.
    """
    if method.needs_data and moment is None:
        raise UsageError(f"decomposer {method.decomposer!r} needs calibration data, got none: give --data")
    trial, fallback = _tried(weight, shape, method, moment, seed=seed, ridge=ridge)
    return judged_trial(weight, trial, moment, centred=method.centred, fallback=fallback)


def judged_trial(
    weight: Array, trial: Trial, moment: Moment | None, *, centred: bool, fallback: str | None
) -> LayerTrial:
    """A fit of W [out, in] with its errors; a `centred` one matches the mean output."""
    matrix = to_matrix(trial.cores)
    error = None
    if moment is not None:
        # E[W x] - E[T x] = (W - T) E[x]: added to the bias, it makes the mean outputs equal.
        shift = (weight.astype(np.float64) - matrix) @ moment.mean if centred else None
        error = output_error(moment, weight, matrix, shift=shift, fitted=not trial.final)
    return LayerTrial(
        trial,
        squared_error=squared_norm_of(weight - matrix),
        squared_norm=squared_norm_of(weight),
        output_error=error,
        fallback=fallback,
    )


def _tried(
    weight: Array, shape: TTShape, method: Method, moment: Moment | None, *, seed: int, ridge: float | None
) -> tuple[Trial, str | None]:
    """The trial of `method`, or of TT-SVD, which needs no data, with the reason why the method failed."""
    reason = None
    if method.decomposer in DATA_AWARE:
        assert moment is not None
        try:
            seen = moment.centred() if method.centred else moment
            return DATA_AWARE[method.decomposer](seed, ridge).trial(weight, shape, seen), None
        except np.linalg.LinAlgError as error:  # the data span too little, or too large numbers, for a factorisation
            reason = f"{method.decomposer}: {error}"
    name = method.decomposer if reason is None else "tt_svd"
    # `inf` is the ridge of a fit that ignores the data; a refit to more rows would change nothing.
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
    return LayerFit(cores, shift, squared_norm_of(weight - matrix), stored)


def squared_norm_of(values: Array) -> float:
    """The squared Frobenius norm of a matrix, summed in double: squares of float32 beyond 1e19 are no float32."""
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64))

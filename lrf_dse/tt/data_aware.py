"""Decomposers that see calibration data: whitened (TT-)SVD, and TT-ALS that starts from it.

Owns the whitened truncation, the choice of the ridge, and the scaling around both. The statistics and the metric are
`lrf_dse.tt.moment`'s, the sweeps `lrf_dse.tt.als`'s.

The ridge says how far to trust C. Too small, and a fit leaves W where the calibration data had nothing to say (four
times ||W|| was seen at 1e-5); too large, and the data is ignored. It is chosen on rows that C has not seen: a `Trial`,
which those rows may judge. What ships is fitted again, to all rows, with the ridge that was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape
from lrf_dse.tt.als import Fit, WideCores, fit, matrix_of
from lrf_dse.tt.contraction import Core, Cores
from lrf_dse.tt.moment import FloatArray, InputMetric, Moment, metric_of, solved, square_root
from lrf_dse.tt.monarch import block_svd
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.output_error import held_out_error
from lrf_dse.tt.shapes import require_decomposable
from lrf_dse.tt.subspace import dominant_basis

RIDGES = (0.3, 0.08, 0.02, 0.005, 0.0012, 0.0003)
"""Ridges to choose from, relative to the mean diagonal of C, largest first."""

EXACT_RIDGES = (0.3, 0.01)
"""The same where whitening is exact: T = U U^T W never leaves W, and below 0.1 the ridge was seen to change nothing."""

DEFAULT_RIDGE = 0.01
"""The ridge where no rows were held out to choose one."""

FIRST_SWEEPS = 4
"""Sweeps of TT-ALS for the first ridge that is tried."""

TRIAL_SWEEPS = 2
"""Sweeps for each ridge after it; every trial starts where the one before ended."""

TRIAL_TOLERANCE = 5e-3
"""Gain of a sweep, relative to the objective, below which a trial ends."""

MAX_SWEEPS = 20
"""Sweeps of a fit after its ridge is chosen, and of its refit; they stop before when they no longer gain."""

MOST_WORK = 3e12
"""Floating-point operations of the sweeps of one fit, about a minute on two cores: a third to choose the ridge, a third
for the rest of the trial, a third for the refit.
A sweep that has begun is ended: at most 13 d products W C."""

PRODUCT_WORK = 1e11
"""Operations of one product W C, at most, where rows stand for C (more than 8192 inputs): so many rows are taken. All
2048 for 9216 x 1000, 660 for 9216 x 4096, 240 for 25088 x 4096."""

ROW_RIDGES = (3.0, 1.0, *RIDGES)
"""Ridges to choose from where rows stand for C: so few rows of so many inputs may be worth very little."""

SLICE = 16
"""There the ridge is chosen on a slice of W, every 16th index of its longest output mode: the best one depends on the
rows, hardly on the outputs, and a trial costs a 16th."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A fit that has not seen the rows held out: they may judge it. The weights that ship are its `refit`.

    `ridge` was chosen on those rows, `inf` ignores the data; `final`: a refit would change nothing.
    """

    cores: Cores
    ridge: float
    final: bool = False
    work: float = 0.0


@dataclass(frozen=True)
class WhitenedSvd:
    """SVD of W C^1/2 in TT form. `ridge` None: chosen on held-out rows, with plain TT-SVD (no data) among the choices.

    With two cores and only one input mode longer than 1 (plain low rank is so), the result is the exact optimum of
    ||(W - T) (C + ridge I)^1/2||_F. Other TT shapes do not survive C^1/2, so there C is replaced by the Kronecker
    product of its mode moments: a start for TT-ALS, often no better than plain TT-SVD.
    """

    seed: int = 0
    ridge: float | None = None

    def __post_init__(self) -> None:
        _require_positive(self.ridge)

    def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
        """The cores of W [out, in] on all rows. Raises UsageError without `moment`, ValueError for other sizes."""
        known = _require_fitting("whitened", weight, shape, moment)
        return self.refit(weight, shape, known, self.trial(weight, shape, known))

    def trial(self, weight: Core, shape: TTShape, moment: Moment) -> Trial:
        """The fit of W [out, in] to the rows that are not held out, its ridge chosen on those that are."""
        _require_fitting("whitened", weight, shape, moment)
        if is_full_rank(shape):
            return Trial(NumpyTtSvd(self.seed).decompose(weight, shape), inf, final=True)
        scaled, exponent = _scaled(weight)
        ridge, cores = self._chosen(scaled, shape, moment)
        return Trial(_unscaled(cores, exponent), ridge, final=ridge == inf or not len(moment.held_out))

    def refit(self, weight: Core, shape: TTShape, moment: Moment, trial: Trial) -> Cores:
        """The cores of W [out, in] on all rows of `moment`, by what `trial` found."""
        if trial.final:
            return trial.cores
        scaled, exponent = _scaled(weight)
        fitted = whitened_tt_svd(scaled, shape, moment.with_held_out(), trial.ridge, seed=self.seed)
        return _unscaled(fitted, exponent)

    def chosen_ridge(self, weight: FloatArray, shape: TTShape, moment: Moment) -> float:
        """The ridge with the smallest error on held-out rows; `inf` is plain TT-SVD."""
        return self._chosen(weight, shape, moment)[0]

    def _chosen(self, weight: FloatArray, shape: TTShape, moment: Moment) -> tuple[float, WideCores]:
        ridges: Sequence[float] = (inf, *(EXACT_RIDGES if whitening_is_exact(shape) else RIDGES))
        if self.ridge is not None or not len(moment.held_out):
            ridges = (DEFAULT_RIDGE if self.ridge is None else self.ridge,)
        best: tuple[float, float, WideCores] | None = None
        for ridge in ridges:
            cores = whitened_tt_svd(weight, shape, moment, ridge, seed=self.seed)
            error = held_out_error(moment, weight, matrix_of(cores)) if len(ridges) > 1 else 0.0
            if best is None or error < best[0]:
                best = error, ridge, cores
        assert best is not None
        return best[1:]


@dataclass(frozen=True)
class TtAls:
    """TT-ALS in the metric of the calibration data. `ridge` None: chosen on held-out rows.

    Time is bounded by counted operations (`most_work`), never by a clock: the same input gives the same cores. Where
    `WhitenedSvd` is the exact optimum (plain low rank) its result is returned: there is nothing to improve.
    """

    seed: int = 0
    ridge: float | None = None
    sweeps: int = MAX_SWEEPS
    most_work: float = MOST_WORK
    product_work: float = PRODUCT_WORK

    def __post_init__(self) -> None:
        _require_positive(self.ridge)

    def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
        """The cores of W [out, in] on all rows. Raises UsageError without `moment`, ValueError for other sizes."""
        known = _require_fitting("als", weight, shape, moment)
        return self.refit(weight, shape, known, self.trial(weight, shape, known))

    def trial(self, weight: Core, shape: TTShape, moment: Moment) -> Trial:
        """The fit of W [out, in] to the rows that are not held out, its ridge chosen on those that are."""
        _require_fitting("als", weight, shape, moment)
        if is_full_rank(shape) or whitening_is_exact(shape):
            return WhitenedSvd(self.seed, self.ridge).trial(weight, shape, moment)
        scaled, exponent = _scaled(weight)
        fitted, ridge = self.fit(scaled, shape, moment)
        final = moment.second is None or not len(moment.held_out)
        return Trial(_unscaled(fitted.cores, exponent), ridge, final, fitted.work)

    def refit(self, weight: Core, shape: TTShape, moment: Moment, trial: Trial) -> Cores:
        """The cores of W [out, in] on all rows of `moment`: sweeps that go on where `trial` ended."""
        if trial.final:
            return trial.cores
        if is_full_rank(shape) or whitening_is_exact(shape):
            return WhitenedSvd(self.seed, self.ridge).refit(weight, shape, moment, trial)
        scaled, exponent = _scaled(weight)
        start = [core.astype(np.float64) for core in trial.cores]
        start[-1] = np.ldexp(start[-1], -exponent)
        metric = metric_of(moment.with_held_out(), trial.ridge, by_rows=True)
        fitted = fit(scaled, metric, start, sweeps=self.sweeps, work=self.most_work - trial.work)
        return _unscaled(fitted.cores, exponent)

    def fit(self, weight: FloatArray, shape: TTShape, moment: Moment) -> tuple[Fit, float]:
        """The fit of W [out, in] (scaled to about 1) to the rows that are not held out, and its ridge."""
        chooses = self.ridge is None and len(moment.held_out) > 0
        if chooses and moment.second is None:
            return self._fit_to_few_rows(weight, shape, moment)
        rows = self._affordable(moment, weight)
        plain = _plain(weight, shape, self.seed)
        if chooses:
            ridge, start, spent = self._chosen_ridge(weight, shape, rows, plain, RIDGES)
        else:
            ridge, spent = DEFAULT_RIDGE if self.ridge is None else self.ridge, 0.0
            whitened = whitened_tt_svd(weight, shape, rows, ridge, seed=self.seed)
            start = _best_start(weight, metric_of(rows, ridge, by_rows=True), [plain, whitened])
        fitted = fit(
            weight, metric_of(rows, ridge, by_rows=True), start, sweeps=self.sweeps, work=2 * self.most_work / 3 - spent
        )
        return replace(fitted, work=fitted.work + spent), ridge

    def _fit_to_few_rows(self, weight: FloatArray, shape: TTShape, moment: Moment) -> tuple[Fit, float]:
        """The fit where rows stand for C, or its start where that is better on the rows held out.

        However large the ridge, so few rows may mislead a fit: those held out stay so, and decide. The start has seen
        every other row, the fit as many of them as it can afford.
        """
        rows = self._affordable(moment, weight)
        part, part_shape = slice_of_outputs(weight, shape)
        plain = _plain(part, part_shape, self.seed)
        ridge, _, spent = self._chosen_ridge(part, part_shape, rows, plain, ROW_RIDGES)
        trust = WhitenedSvd(self.seed).chosen_ridge(part, part_shape, moment)  # its errors are other ones
        starts = [whitened_tt_svd(weight, shape, moment, known, seed=self.seed) for known in (inf, trust)]
        metric = metric_of(rows, ridge, by_rows=True)
        start = _best_start(weight, metric, starts)
        fitted = fit(weight, metric, start, sweeps=self.sweeps, work=self.most_work - spent)
        best = min(fitted.cores, *starts, key=lambda cores: held_out_error(moment, weight, matrix_of(cores)))
        if best is fitted.cores:
            return fitted, ridge
        return Fit(best, (metric.squared(weight - matrix_of(best)),), fitted.work), ridge

    def _affordable(self, moment: Moment, weight: FloatArray) -> Moment:
        """`moment` by at most so many rows that a product W C is within `product_work`."""
        return moment.with_at_most(max(1, int(self.product_work / (4 * weight.size))), seed=self.seed)

    def _chosen_ridge(
        self, weight: FloatArray, shape: TTShape, moment: Moment, plain: WideCores, ridges: Sequence[float]
    ) -> tuple[float, WideCores, float]:
        """The ridge with the smallest error on held-out rows, its fit, and the work; it ends where the error turns.

        `ridges` come largest first.
        """
        whitened = whitened_tt_svd(weight, shape, moment, ridges[0], seed=self.seed)
        cores = _best_start(weight, metric_of(moment, ridges[0], by_rows=True), [plain, whitened])
        best: tuple[float, float, WideCores] | None = None
        spent = 0.0
        for ridge in ridges:
            sweeps = FIRST_SWEEPS if best is None else TRIAL_SWEEPS
            metric = metric_of(moment, ridge, by_rows=True)
            tried = fit(
                weight,
                metric,
                cores,
                sweeps=min(sweeps, self.sweeps),
                tolerance=TRIAL_TOLERANCE,
                work=self.most_work / 3 - spent,
            )
            cores, spent = tried.cores, spent + tried.work
            error = held_out_error(moment, weight, matrix_of(cores))
            if best is not None and error >= best[0]:
                break
            best = error, ridge, cores
            if spent >= self.most_work / 3:
                break
        assert best is not None
        return *best[1:], spent


def slice_of_outputs(weight: FloatArray, shape: TTShape) -> tuple[FloatArray, TTShape]:
    """W [out, in] at every SLICE-th index of its longest output mode, and the TT shape of that.

    At every 8th, 4th, 2nd or all where a rank would reach its cap: a slice that any ridge fits exactly tells nothing.
    """
    k, step = 1 if shape.is_monarch else int(np.argmax(shape.out_dims)), SLICE
    blocks = weight.reshape(prod(shape.out_dims[:k]), shape.out_dims[k], -1)
    while True:
        part = blocks[:, ::step]
        out_dims = (*shape.out_dims[:k], part.shape[1], *shape.out_dims[k + 1 :])
        sliced = replace(shape, out_dims=out_dims)
        if step == 1 or all(r < cap for r, cap in zip(shape.ranks[1:-1], sliced.rank_caps, strict=True)):
            return part.reshape(-1, shape.in_features), sliced
        step //= 2


def whitened_tt_svd(weight: FloatArray, shape: TTShape, moment: Moment, ridge: float, *, seed: int) -> WideCores:
    """The cores of W [out, in] by TT-SVD of W (S_1 x ... x S_d), S_k S_k^T the mode moments; `inf` ignores the data."""
    if ridge == inf:
        return _plain(weight, shape, seed)
    metric = metric_of(moment, ridge, by_rows=True)
    if shape.is_monarch:
        return block_svd(weight, shape, metric=metric, seed=seed)
    if shape.is_low_rank:
        # U holds the leading left singular vectors of W S, and T = U U^T W: S is never inverted.
        narrow = metric.whitened(weight).astype(np.float32)
        basis = dominant_basis(narrow, shape.ranks[1], seed=seed).astype(np.float64)
        return [basis.reshape(shape.core_shapes[0]), (basis.T @ weight).reshape(shape.core_shapes[1])]
    roots = [square_root(c, 0.0) for c in metric.mode_moments(shape.in_dims)]
    turned = weight.reshape(len(weight), *shape.in_dims)
    for root in roots:  # each product moves its mode to the end: after d of them the modes are in order again
        turned = np.tensordot(turned, root, ((1,), (0,)))
    cores = _plain(turned.reshape(weight.shape), shape, seed)
    return [_divided(core, root) for core, root in zip(cores, roots, strict=True)]


def _divided(core: FloatArray, root: FloatArray) -> FloatArray:
    """G [a, m, n, b] S^-1 over n."""
    first = core.transpose(2, 0, 1, 3)
    divided = solved(root.T, first.reshape(len(root), -1))
    return np.asarray(divided.reshape(first.shape).transpose(1, 2, 0, 3))


def _plain(weight: FloatArray, shape: TTShape, seed: int) -> WideCores:
    """TT-SVD: float32 is as exact as the weights were."""
    cores = NumpyTtSvd(seed).decompose(weight.astype(np.float32), shape)
    return [core.astype(np.float64) for core in cores]


def whitening_is_exact(shape: TTShape) -> bool:
    """Whether `whitened_tt_svd` minimises the error in the metric: two cores, one input mode longer than 1.

    For Monarch it is so where there is one column of blocks: each row of blocks is then a low rank of its own.
    """
    if shape.is_monarch:
        return shape.in_dims[0] == 1
    return shape.d == 2 and 1 in shape.in_dims


def is_full_rank(shape: TTShape) -> bool:
    """Whether every rank is at its cap, so that the tensor train can be any matrix."""
    return shape.ranks[1:-1] == shape.rank_caps


def _best_start(weight: FloatArray, metric: InputMetric, starts: list[WideCores]) -> WideCores:
    return min(starts, key=lambda cores: metric.squared(weight - matrix_of(cores)))


def _require_fitting(name: str, weight: Core, shape: TTShape, moment: Moment | None) -> Moment:
    require_decomposable(weight.shape, shape)
    if moment is None:
        raise UsageError(f"decomposer {name!r} needs calibration data, got none: give --data, or use 'tt_svd'")
    if moment.in_features != weight.shape[1]:
        raise ValueError(f"the moment is of {moment.in_features} inputs, W has {weight.shape[1]}")
    return moment


def _require_positive(ridge: float | None) -> None:
    if ridge is not None and not ridge > 0:
        raise ValueError(f"a ridge must be above 0, got {ridge}: without it a singular C decides nothing")


def _scaled(weight: Core) -> tuple[FloatArray, int]:
    """W / 2^e with entries of at most 1, and e: squares of tiny or huge weights neither vanish nor overflow."""
    exponent = int(np.frexp(np.abs(weight).max())[1])
    return np.ldexp(weight.astype(np.float64), -exponent), exponent


def _unscaled(cores: WideCores, exponent: int) -> Cores:
    """The cores in float32, 2^e back in the last one."""
    wide = [*cores[:-1], np.ldexp(cores[-1], exponent)]
    return [np.ascontiguousarray(core, dtype=np.float32) for core in wide]

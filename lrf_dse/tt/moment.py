"""What calibration data says of a layer's inputs: their second moment C = E[x x^T], their mean, and rows held out.

Owns the statistics and the scaled metric that fits use; it knows no TT shape and fits nothing. The squared output error
of T in the place of W is E ||(W - T) x||^2 = ||(W - T) C^1/2||_F^2, so C is all a fit has to know of the data.

C is a matrix up to `MATRIX_SIDE` inputs. Above, the matrix alone would cost gigabytes (25088 inputs: 5 GB) while the
calibration rows are few: then a sample of at most `MAX_ROWS` rows stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.few_rows import factor_of
from lrf_dse.tt.reservoir import Reservoir, Rows, Units
from lrf_dse.tt.single_metric import SingleMetric, single_metric

FloatArray = NDArray[np.float64]

MATRIX_SIDE = 8192
"""Up to this many inputs C is kept as a matrix (0.5 GB)."""

KEPT_BYTES = 128 << 20
"""Up to this size a moment keeps what was made of it, centred and with the rows held out: every fit asks for both."""

MAX_ROWS = 2048
"""Rows that stand for C above `MATRIX_SIDE`."""


@dataclass(frozen=True, eq=False)
class Moment:
    """Statistics of the inputs x [in] of one layer over `samples` rows of calibration data.

    Either `second` [in, in] is C, or `rows` [q, in] are a sample whose mean of x x^T stands for it. `mean` is E[x].
    `held_out` [h, in] are rows that are in none of these: to judge fits on, and to choose how much to trust C.
    `units` [h] says which held-out rows belong together (of one group of the user's, or neighbours), so that an
    interval does not count rows that resemble each other as independent; None: every row stands for itself.
    """

    samples: int
    mean: FloatArray
    second: FloatArray | None
    rows: Rows | None
    held_out: Rows
    units: Units | None = None

    def __post_init__(self) -> None:
        n = self.mean.size
        if self.samples < 1:
            raise ValueError("a moment needs at least one row")
        if (self.second is None) == (self.rows is None):
            raise ValueError("a moment is either a matrix or rows")
        if self.second is not None and self.second.shape != (n, n):
            raise ValueError(f"the second moment of {n} inputs is [{n}, {n}], got {self.second.shape}")
        if any(rows.ndim != 2 or rows.shape[1] != n for rows in (self.rows, self.held_out) if rows is not None):
            raise ValueError(f"rows of {n} inputs are [rows, {n}]")
        if self.units is not None and self.units.shape != (len(self.held_out),):
            raise ValueError(f"{len(self.held_out)} rows held out have as many units, got {self.units.shape}")

    @property
    def in_features(self) -> int:
        """The number of inputs."""
        return self.mean.size

    @property
    def nbytes(self) -> int:
        """What it holds in memory."""
        held = (self.mean, self.second, self.rows, self.held_out)
        return sum(array.nbytes for array in held if array is not None)

    @cached_property
    def mean_square(self) -> float:
        """The mean of C's diagonal: the mean of x_j^2 over rows and inputs."""
        if self.second is not None:
            return float(np.trace(self.second)) / self.in_features
        assert self.rows is not None
        return float(np.einsum("ij,ij->", self.rows, self.rows, dtype=np.float64)) / self.rows.size

    @cached_property
    def factor(self) -> FloatArray | None:
        """Y [k, in] with Y^T Y = C, where C is a matrix of few samples; else None."""
        return None if self.second is None else factor_of(self.second, self.samples)

    @property
    def mean_of_all(self) -> FloatArray:
        """E[x] over all rows, those held out included."""
        held = len(self.held_out)
        if not held:
            return self.mean
        share = held / (self.samples + held)
        return np.asarray((1 - share) * self.mean + share * self.held_out.mean(axis=0, dtype=np.float64))

    def with_held_out(self) -> Moment:
        """The moment of all rows, those held out included; nothing is held out in it."""
        return self._with_held_out if self.nbytes <= KEPT_BYTES else self._add_held_out()

    @cached_property
    def _with_held_out(self) -> Moment:
        return self._add_held_out()

    def _add_held_out(self) -> Moment:
        held = len(self.held_out)
        if not held:
            return self
        share, mean = held / (self.samples + held), self.mean_of_all
        none = self.held_out[:0]
        if self.second is None:
            assert self.rows is not None
            return Moment(self.samples + held, mean, None, np.concatenate([self.rows, self.held_out]), none)
        wide = self.held_out.astype(np.float64)
        second = (1 - share) * self.second + (share / held) * (wide.T @ wide)
        return Moment(self.samples + held, mean, second, None, none)

    @property
    def root_mean_squares(self) -> FloatArray:
        """sqrt(E[x_j^2]) of every input [in]."""
        if self.second is not None:
            return np.sqrt(np.diag(self.second))
        assert self.rows is not None
        return np.asarray(np.sqrt(np.mean(np.square(self.rows, dtype=np.float64), axis=0)))

    def reordered(self, order: NDArray[np.intp]) -> Moment:
        """The moment of the inputs with input order[k] at place k."""
        second = None if self.second is None else self.second[np.ix_(order, order)]
        rows = None if self.rows is None else self.rows[:, order]
        return Moment(self.samples, self.mean[order], second, rows, self.held_out[:, order], self.units)

    def with_at_most(self, rows: int, *, seed: int) -> Moment:
        """The same by a random choice of its rows, where rows stand for C and there are more."""
        if self.rows is None or len(self.rows) <= rows:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.rows), rows, replace=False))
        return replace(self, rows=self.rows[chosen])

    def centred(self) -> Moment:
        """The moment of x - E[x]: the metric of a fit whose bias is corrected by `bias_shift` afterwards."""
        return self._centred if self.nbytes <= KEPT_BYTES else self._less_mean()

    @cached_property
    def _centred(self) -> Moment:
        return self._less_mean()

    def _less_mean(self) -> Moment:
        zero, mean = np.zeros_like(self.mean), self.mean.astype(np.float32)
        held = self.held_out - mean
        if self.second is None:
            assert self.rows is not None
            return Moment(self.samples, zero, None, self.rows - mean, held, self.units)
        return Moment(self.samples, zero, self.second - np.outer(self.mean, self.mean), None, held, self.units)


def moment_of(
    rows: NDArray[np.floating], *, held_out: NDArray[np.floating] | None = None, units: Units | None = None
) -> Moment:
    """The moment of rows x [rows, in] that are in memory; see `MomentSum` for a stream.

    >>> moment_of(np.array([[1.0, 0.0], [3.0, 2.0]])).second
    array([[5., 3.],
           [3., 2.]])
    """
    total = MomentSum(rows.shape[1])
    total.add(rows)
    if held_out is not None:
        total.hold_out(held_out, units)
    return total.moment()


def bias_shift(moment: Moment, weight: NDArray[np.floating], approximation: NDArray[np.floating]) -> FloatArray:
    """What to add to the bias [out] so that the mean output over all rows is that of W: (W - T) E[x]."""
    return np.asarray((weight.astype(np.float64) - approximation) @ moment.mean_of_all)


class MomentSum:
    """The running sum behind a `Moment`: rows go in by blocks and are not kept.

    Sums are double precision. Of the rows held out a random `max_held_out` stay. `matrix_side` and `max_rows` are
    arguments for the sake of tests.
    """

    def __init__(
        self,
        in_features: int,
        *,
        seed: int = 0,
        max_held_out: int = 1024,
        matrix_side: int = MATRIX_SIDE,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._samples = 0
        self._sum = np.zeros(in_features)
        self._second = np.zeros((in_features, in_features)) if in_features <= matrix_side else None
        self._rows = Reservoir(in_features, max_rows, seed)
        self._held_out = Reservoir(in_features, max_held_out, seed + 1)
        # Up to 16 MB of rows wait, so that C grows by matrix products and not by one row at a time.
        self._block = max(64, (1 << 22) // in_features)
        self._waiting: list[Rows] = []

    def add(self, rows: NDArray[np.floating]) -> None:
        """Count `rows` [rows, in] in."""
        for start in range(0, len(rows), self._block):
            self._waiting.append(np.array(rows[start : start + self._block], np.float32))
            if sum(map(len, self._waiting)) >= self._block:
                self._flush()

    def hold_out(self, rows: NDArray[np.floating], units: Units | None = None) -> None:
        """Keep `rows` [rows, in], or a random choice of them, apart; those of one of the `units` belong together."""
        first = self._held_out.seen
        own = np.arange(first, first + len(rows)) if units is None else units
        self._held_out.add(np.asarray(rows, np.float32), own)

    def moment(self) -> Moment:
        """The moment of everything added. Raises ValueError if nothing was."""
        self._flush()
        if not self._samples:
            raise ValueError("a moment needs at least one row")
        second = None if self._second is None else self._second / self._samples
        rows = self._rows.rows() if second is None else None
        held = self._held_out
        return Moment(self._samples, self._sum / self._samples, second, rows, held.rows(), held.units())

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting = []
        self._samples += len(rows)
        self._sum += rows.sum(axis=0, dtype=np.float64)
        if self._second is None:
            self._rows.add(rows, np.zeros(len(rows), np.int64))
        else:
            wide = rows.astype(np.float64)
            self._second += wide.T @ wide  # numpy sees the transpose and calls syrk: half the work


@dataclass(frozen=True, eq=False)
class InputMetric:
    """C scaled to a mean diagonal of 1, plus `ridge` times the identity: the norm in which fits are made.

    The ridge pulls a fit toward W itself where the calibration data says little or nothing:
    ||(W - T) C^1/2||^2 / mean(C) + ridge ||W - T||^2. Inputs that are all zero leave the identity.
    """

    second: FloatArray | None
    rows: FloatArray | None
    ridge: float

    @property
    def in_features(self) -> int:
        """The number of inputs."""
        source = self.rows if self.second is None else self.second
        assert source is not None
        return int(source.shape[1])

    def with_ridge_inside(self) -> InputMetric:
        """The same norm with the ridge as part of C: for neighbours that are not orthonormal. Rows stay without it."""
        if self.second is None:
            return InputMetric(None, self.rows, 0.0)
        second = self.second.copy()
        second.flat[:: len(second) + 1] += self.ridge
        return InputMetric(second, None, 0.0)

    def times(self, matrix: FloatArray) -> FloatArray:
        """V (C + ridge I) of V [rows, in]."""
        if self.second is not None:
            return np.asarray(matrix @ self.second + self.ridge * matrix)
        assert self.rows is not None
        return np.asarray((matrix @ self.rows.T) @ self.rows + self.ridge * matrix)

    @cached_property
    def in_single(self) -> SingleMetric:
        """The same in single precision."""
        return single_metric(self.second, self.rows, self.ridge)

    def squared(self, matrix: FloatArray) -> float:
        """The squared norm of V [rows, in]: trace(V (C + ridge I) V^T). Block by block: V may be of gigabytes."""
        step = max(1, (1 << 24) // matrix.shape[1])
        blocks = (matrix[start : start + step] for start in range(0, len(matrix), step))
        return max(0.0, sum(float(np.vdot(block, self.times(block))) for block in blocks))

    def work(self, rows: int) -> float:
        """Floating-point operations of `times` on a matrix of that many rows."""
        if self.second is not None:
            return 2.0 * rows * self.second.size
        assert self.rows is not None
        return 4.0 * rows * self.rows.size

    def whitened(self, matrix: FloatArray) -> FloatArray:
        """V S with S S^T = C + ridge I: its plain norm and its left singular vectors are V's in this metric."""
        if self.second is not None:
            return np.asarray(matrix @ square_root(self.second, self.ridge))
        assert self.rows is not None
        return np.concatenate([matrix @ self.rows.T, sqrt(self.ridge) * matrix], axis=1)

    def mode_moments(self, in_dims: tuple[int, ...]) -> list[FloatArray]:
        """The Kronecker factors C_k [n_k, n_k]: the mean of C + ridge I over all other modes, mean diagonal about 1.

        Exact where C is a Kronecker product, or where only one mode is longer than 1.
        """
        return [self._mode_moment(in_dims, k) + self.ridge * np.eye(n) for k, n in enumerate(in_dims)]

    def _mode_moment(self, in_dims: tuple[int, ...], k: int) -> FloatArray:
        n = in_dims[k]
        before, after = int(np.prod(in_dims[:k])), int(np.prod(in_dims[k + 1 :]))
        if self.second is not None:
            blocks = self.second.reshape(before, n, after, before, n, after)
            return np.asarray(np.einsum("aibajb->ij", blocks) / (before * after))
        assert self.rows is not None
        flat = self.rows.reshape(-1, before, n, after).transpose(0, 1, 3, 2).reshape(-1, n)
        return np.asarray(flat.T @ flat / (before * after))


def metric_of(moment: Moment, ridge: float, *, by_rows: bool = False) -> InputMetric:
    """The metric of `moment` with a `ridge` relative to C's mean diagonal.

    `by_rows`: where C is of few samples, rows stand for it, exactly: for products, which are much shorter then.
    """
    scale = moment.mean_square
    if scale == 0:  # no input was ever other than 0: all that is left to keep is W itself
        scale, ridge = 1.0, 1.0
    if by_rows and moment.factor is not None:
        return InputMetric(None, moment.factor / sqrt(scale), ridge)
    if moment.second is not None:
        return InputMetric(moment.second / scale, None, ridge)
    assert moment.rows is not None
    return InputMetric(None, moment.rows.astype(np.float64) / sqrt(scale * len(moment.rows)), ridge)


def square_root(second: FloatArray, ridge: float) -> FloatArray:
    """S with S S^T = C + ridge I: Cholesky's lower triangle, or by eigenvectors where C is singular to rounding."""
    shifted = second.copy()
    shifted.flat[:: len(second) + 1] += ridge
    try:
        return np.asarray(np.linalg.cholesky(shifted), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(shifted)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def solved(matrix: FloatArray, rhs: FloatArray) -> FloatArray:
    """X with A X = B, A [n, n]; where A is singular to rounding the smallest of the X that come nearest."""
    try:
        return np.asarray(np.linalg.solve(matrix, rhs))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, rhs)[0])

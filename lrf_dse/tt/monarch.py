"""Fits of Monarch matrices: two block-diagonal factors with a movement of axes between them (`schema.TTShape`).

W is m_1 x n_1 blocks [m_2, n_2], and each block is L_ki R_ik of rank r: L [m_1, m_2, n_1, r], R [n_1, m_1, r, n_2].
In the norm of the weights blocks do not touch each other, so the singular vectors of each are the exact optimum (Dao et
al., arXiv 2204.00595, for r = 1). In the metric of data, C ties the blocks of one row of blocks together: L is solved
for all of them at once, R block column by block column, each exactly, with all others standing still.

Factors stand as cores of `TTShape.core_shapes`; arrays are double precision and already scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import block_factors
from lrf_dse.tt.moment import FloatArray, InputMetric, square_root
from lrf_dse.tt.subspace import dominant_basis

LIFT = 1e-9
"""Added to the diagonal of a factor's problem, relative to its mean: a rank that nothing depends on stays finite."""

SMALL_BLOCK = 1 << 16
"""Elements of a block up to which all blocks are decomposed in one call."""

WideCores = list[FloatArray]


def blocks_of(matrix: FloatArray, shape: TTShape) -> FloatArray:
    """W [out, in] as [m_1, n_1, m_2, n_2], a view."""
    (m1, m2), (n1, n2) = shape.out_dims, shape.in_dims
    return matrix.reshape(m1, m2, n1, n2).transpose(0, 2, 1, 3)


def cores_of(left: FloatArray, right: FloatArray, shape: TTShape) -> WideCores:
    """The cores of L [m_1, m_2, n_1, r] and R [n_1, m_1, r, n_2]."""
    return [
        np.ascontiguousarray(factor).reshape(size)
        for factor, size in zip((left, right), shape.core_shapes, strict=True)
    ]


def block_svd(weight: FloatArray, shape: TTShape, *, metric: InputMetric | None = None, seed: int = 0) -> WideCores:
    """The projection of W [out, in]: every block by its leading r left singular vectors U, L = U, R = U^T W.

    With a `metric` they are those of W_ki C_ii^1/2: the exact optimum where there is one column of blocks, else a start
    for `fit`, which knows the rest of C.
    """
    blocks = np.ascontiguousarray(blocks_of(weight, shape))
    seen = blocks
    if metric is not None:
        moments = Blocks(metric, shape.in_dims[0])
        roots = [square_root(moments.own(i), 0.0) for i in range(shape.in_dims[0])]
        # Each column of blocks is weighed by its own part of C; what ties columns together is left to `Fitting`.
        seen = np.stack([blocks[:, i] @ root for i, root in enumerate(roots)], axis=1)
    basis = _bases(seen, shape.ranks[1], seed=seed)
    # A projection: L = U is orthonormal, so R = U^T W is the best R for it in the norm of the weights.
    right = np.swapaxes(basis, -1, -2) @ blocks  # [m_1, n_1, r, n_2]
    return cores_of(basis.transpose(0, 2, 1, 3), right.transpose(1, 0, 2, 3), shape)


def _bases(blocks: FloatArray, rank: int, *, seed: int) -> FloatArray:
    """The leading left singular vectors [m_1, n_1, m_2, r] of blocks [m_1, n_1, m_2, n_2]."""
    # LAPACK block by block in one call: for small blocks a loop in Python would take most of the time.
    if blocks[0, 0].size <= SMALL_BLOCK:
        return np.asarray(np.linalg.svd(blocks, full_matrices=False)[0][..., :rank])
    bases = [[dominant_basis(block.astype(np.float32), rank, seed=seed) for block in row] for row in blocks]
    return np.asarray(bases, dtype=blocks.dtype)


@dataclass(frozen=True, eq=False)
class Blocks:
    """C + ridge I of a metric in n_1 x n_1 blocks [n_2, n_2], never laid out where rows stand for C."""

    metric: InputMetric
    count: int

    @cached_property
    def _rows(self) -> FloatArray:
        """The rows that stand for C, as [n_1, rows, n_2]."""
        assert self.metric.rows is not None
        return np.ascontiguousarray(self.metric.rows.reshape(len(self.metric.rows), self.count, -1).transpose(1, 0, 2))

    @property
    def _side(self) -> int:
        return self.metric.in_features // self.count

    def own(self, i: int) -> FloatArray:
        """C_ii + ridge I [n_2, n_2]."""
        found = self._between(i, i)
        found.flat[:: len(found) + 1] += self.metric.ridge
        return found

    def _between(self, j: int, i: int) -> FloatArray:
        side = self._side
        if self.metric.second is None:
            return np.asarray(self._rows[j].T @ self._rows[i])
        return self.metric.second[j * side : (j + 1) * side, i * side : (i + 1) * side].copy()

    def onto(self, right: FloatArray, i: int) -> FloatArray:
        """V_j (C + ridge I)_ji of V [n_1, q, n_2], for every j: [n_1, q, n_2]."""
        side = self._side
        if self.metric.second is None:
            found = (right @ self._rows.transpose(0, 2, 1)) @ self._rows[i]
        else:
            columns = self.metric.second[:, i * side : (i + 1) * side].reshape(self.count, side, side)
            found = right @ columns
        # The ridge is part of C_ii alone.
        found[i] += self.metric.ridge * right[i]
        return np.asarray(found)

    def work(self, rank_rows: int) -> float:
        """Floating-point operations of `onto` for all i, at most, where V has so many rows in each block."""
        inner = self._side if self.metric.rows is None else 2 * len(self.metric.rows) / self.count
        return 2.0 * rank_rows * self.metric.in_features * self.count * inner


@dataclass(frozen=True, eq=False)
class Fitting:
    """The exact solution for one factor of W [out, in] in `metric`; the other one is given."""

    weight: FloatArray
    metric: InputMetric
    shape: TTShape

    @cached_property
    def moments(self) -> Blocks:
        """C in blocks."""
        return Blocks(self.metric, self.shape.in_dims[0])

    @cached_property
    def image(self) -> FloatArray:
        """W (C + ridge I) in blocks [m_1, n_1, m_2, n_2]."""
        return np.ascontiguousarray(blocks_of(self.metric.times(self.weight), self.shape))

    def states(self, right: FloatArray) -> FloatArray:
        """The second moment [m_1, n_1 r, n_1 r] of what each block of L reads, R given."""
        n1, m1, r, n2 = right.shape
        found = np.empty((m1, n1, r, n1, r))
        for i in range(n1):
            onto = self.moments.onto(right.reshape(n1, m1 * r, n2), i).reshape(n1, m1, r, n2)
            found[:, :, :, i] = np.einsum("jksa,kta->kjst", onto, right[i], optimize=True)
        return found.reshape(m1, n1 * r, n1 * r)

    def left(self, right: FloatArray, states: FloatArray | None = None) -> FloatArray:
        """L [m_1, m_2, n_1, r] with the least error for R."""
        n1, m1, r, _ = right.shape
        wanted = np.einsum("kioa,iksa->kois", self.image, right, optimize=True).reshape(m1, -1, n1 * r)
        second = self.states(right) if states is None else states
        return _solved_from_right(wanted, second).reshape(m1, -1, n1, r)

    def right(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """R [n_1, m_1, r, n_2] for L, block column after block column, each with the least error for all others."""
        n1, m1, r, n2 = right.shape
        made = right.copy()
        gram = np.einsum("kois,kojt->kisjt", left, left, optimize=True)
        for i in range(n1):
            onto = self.moments.onto(made.reshape(n1, m1 * r, n2), i).reshape(n1, m1, r, n2)
            # The block column that is solved for is not among the others.
            onto[i] = 0.0
            others = np.einsum("ksjt,jkta->ksa", gram[:, i], onto, optimize=True)
            wanted = np.einsum("kos,koa->ksa", left[:, :, i], self.image[:, i], optimize=True) - others
            # X = gram^-1 B C_ii^-1: the problem is a Kronecker product, and its two sides are solved one after the
            # other.
            half = np.linalg.solve(_lifted(gram[:, i, :, i]), wanted)
            made[i] = np.linalg.solve(self.moments.own(i), half.reshape(m1 * r, n2).T).T.reshape(m1, r, n2)
        return made

    def squared(self, left: FloatArray, right: FloatArray) -> float:
        """The objective."""
        made = np.einsum("kois,iksa->koia", left, right, optimize=True).reshape(self.weight.shape)
        return self.metric.squared(self.weight - made)

    @property
    def work(self) -> float:
        """Floating-point operations of one sweep, about."""
        rows = self.shape.out_dims[0] * self.shape.ranks[1]
        return 2 * self.moments.work(rows) + self.metric.work(self.shape.out_features) + 8.0 * rows * self.weight.size


def _solved_from_right(wanted: FloatArray, second: FloatArray) -> FloatArray:
    """X [m_1, rows, K] with X H = B, H [m_1, K, K] symmetric and not negative."""
    return np.asarray(np.linalg.solve(_lifted(second), np.swapaxes(wanted, -1, -2)).swapaxes(-1, -2))


def _lifted(second: FloatArray) -> FloatArray:
    """H with `LIFT` on its diagonal; that of zeros becomes the identity."""
    size = second.shape[-1]
    mean = np.trace(second, axis1=-2, axis2=-1) / size
    return np.asarray(second + np.where(mean > 0, LIFT * mean, 1.0)[..., None, None] * np.eye(size))


def sweeps_of(
    weight: FloatArray,
    metric: InputMetric,
    start: Sequence[FloatArray],
    shape: TTShape,
    *,
    sweeps: int,
    tolerance: float,
    work: float = inf,
) -> tuple[WideCores, tuple[float, ...], float]:
    """Factors that fit W [out, in] in `metric` from `start`, the objective after every factor, and the operations.

    The objective never grows. Stops as `lrf_dse.tt.als.fit` does.
    """
    fitting = Fitting(weight, metric, shape)
    scale = float(np.vdot(blocks_of(weight, shape), fitting.image))
    left, right = (np.array(factor) for factor in block_factors(list(start), shape))
    objectives, spent = [fitting.squared(left, right)], 0.0
    for _ in range(sweeps):
        before = objectives[-1]
        if before <= 1e-12 * scale or spent >= work:
            break
        for solves_left in (True, False):
            tried = (fitting.left(right), right) if solves_left else (left, fitting.right(left, right))
            reached = fitting.squared(*tried)
            if reached < objectives[-1]:  # rounding at the optimum: the factor stays as it was
                left, right = tried
            objectives.append(min(reached, objectives[-1]))
        spent += fitting.work
        if before - objectives[-1] <= tolerance * before:
            break
    return cores_of(left, right, shape), tuple(objectives), spent

"""One step of TT-ALS: the least-squares problem of a single core while all others stand still.

With the other cores orthonormal around core k, T = L G R and the problem is quadratic in G:
    f(G) = f(0) - 2 <G, Q> + <G, H G>,   Q = L^T (W C) R^T,   H = (L, R)^T C (L, R)
C acts on the inputs only, so H is the same for every output index i_k: one matrix of side r_{k-1} n_k r_k and m_k
right-hand sides, never one of side r_{k-1} m_k n_k r_k. Orthonormal neighbours also turn the ridge into ridge I.

H is formed and factorised where that is cheap; else (r_{k-1} n_k r_k in the tens of thousands) the problem is solved
by a few preconditioned conjugate-gradient steps from the present core. Either way f never grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.moment import FloatArray, InputMetric

MAX_ELEMENTS = 1 << 26
"""Largest intermediate on the way to H (0.5 GB)."""


@dataclass(frozen=True)
class Solving:
    """How far one core is solved in one sweep.

    At most `steps` conjugate-gradient steps: the neighbours move afterwards anyway. At the residual `tolerance`,
    relative to where the core stood, it is solved well enough for this sweep. Up to `side` unknowns for each output
    index, H may be formed (0.3 GB; 4 s to factorise on two cores).
    """

    steps: int = 12
    tolerance: float = 0.03
    side: int = 6144


@dataclass(frozen=True, eq=False)
class CoreProblem:
    """The problem of one core in `metric`, C + ridge I over (j_<, j_k, j_>); `n` is the size of j_k.

    `left` [p, j_<, a] and `right` [b, q, j_>] are the neighbours' interfaces, their output indices compressed to p and
    q: only their Gram matrices over them matter. `lift` is added to H's diagonal, relative to its mean, where
    neighbours that are not orthonormal may leave H singular.
    """

    metric: InputMetric
    left: FloatArray
    right: FloatArray
    n: int
    lift: float = 0.0
    solving: Solving = Solving()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(r_{k-1}, n_k, r_k): the axes of H."""
        return self.left.shape[2], self.n, self.right.shape[0]

    @property
    def side(self) -> int:
        """The number of unknowns per output index."""
        a, n, b = self.shape
        return a * n * b

    def times(self, core: FloatArray) -> FloatArray:
        """H applied to G [m, a, n, b], ridge included; some of the m at a time, to bound the memory."""
        return _applied(self.metric, self.left, self.right, core)

    def matrix(self) -> FloatArray:
        """H [a n b, a n b] with the ridge."""
        formed = self._from_rows() if self.metric.second is None else self._from_second(self.metric.second)
        # Sums in another order leave H a little unsymmetric, which a Cholesky factorisation would not see.
        formed = (formed + formed.T) / 2
        # Where the metric has a ridge, L and R are orthonormal.
        formed.flat[:: self.side + 1] += self.metric.ridge + self.lift * (float(np.trace(formed)) / self.side or 1.0)
        return np.asarray(formed)

    def _from_rows(self) -> FloatArray:
        """H as the Gram matrix of the rows seen through the interfaces, a block of rows at a time."""
        assert self.metric.rows is not None
        (p, before, _), (_, q, after) = self.left.shape, self.right.shape
        rows = self.metric.rows.reshape(-1, before, self.n, after)
        step = max(1, MAX_ELEMENTS // (4 * p * q * self.side))
        total = np.zeros((self.side, self.side))
        for start in range(0, len(rows), step):
            half = np.tensordot(rows[start : start + step], self.left, ((1,), (1,)))  # [row, n, j_>, p, a]
            seen = np.tensordot(half, self.right, ((2,), (2,)))  # [row, n, p, a, b, q]
            flat = seen.transpose(0, 2, 5, 3, 1, 4).reshape(-1, self.side)
            total += flat.T @ flat
        return total

    def _from_second(self, second: FloatArray) -> FloatArray:
        """H from C as a matrix, one interface after the other, in the cheaper order."""
        (a, n, b), before, after = self.shape, self.left.shape[1], self.right.shape[2]
        left = self.left.transpose(2, 0, 1)  # [a, p, j_<]
        if self._right_first:
            joined = before * n
            half = _absorb(second.reshape(joined, after, joined, after), self.right)
            half = half.reshape(before, n, before, n, b, b).transpose(1, 4, 0, 3, 5, 2)
            whole = _absorb(half.reshape(n * b, before, n * b, before), left).reshape(n, b, n, b, a, a)
            order = (4, 0, 1, 5, 2, 3)
        else:
            joined = n * after
            blocks = second.reshape(before, joined, before, joined).transpose(1, 0, 3, 2)
            half = _absorb(blocks, left).reshape(n, after, n, after, a, a)
            half = half.transpose(4, 0, 1, 5, 2, 3).reshape(a * n, after, a * n, after)
            whole = _absorb(half, self.right).reshape(a, n, a, n, b, b)
            order = (0, 1, 4, 2, 3, 5)
        return np.asarray(whole.transpose(order).reshape(self.side, self.side))

    def formed_is_cheaper(self, m: int) -> bool:
        """Whether forming and factorising H costs less than conjugate gradients for m right-hand sides."""
        return self._work_if_formed(m) <= self.solving.steps * self._work_of_step(m)

    def work(self, m: int) -> float:
        """Operations to solve for m right-hand sides, at most."""
        # One product more than there are steps: the residual of the start.
        return min(self._work_if_formed(m), (self.solving.steps + 1) * self._work_of_step(m))

    def _work_of_step(self, m: int) -> float:
        return self.metric.work(int(self.left.shape[0]) * int(self.right.shape[1]) * m)

    def _work_if_formed(self, m: int) -> float:
        """Infinite where memory forbids it."""
        if self.side > self.solving.side:
            return float("inf")
        if self.metric.second is None:
            assert self.metric.rows is not None
            seen = self.left.shape[0] * self.right.shape[1]  # rows of the metric for every output index
            cost = 2.0 * self.metric.rows.shape[0] * seen * self.side**2
        else:
            cost = min(self._plan(True), self._plan(False))[0]
        # Cholesky takes side^3 / 3 multiply-adds, and each right-hand side two triangular solutions.
        return float(cost + self.side**3 / 3 + 2 * m * self.side**2)

    @cached_property
    def _right_first(self) -> bool:
        return self._plan(True) <= self._plan(False)

    def _plan(self, right_first: bool) -> tuple[float, int]:
        """Operations to form H in one of the two orders, and the largest intermediate; too large a one last."""
        (p, before, a), (b, q, after) = self.left.shape, self.right.shape
        first, second = ((b, q, after), (a, p, before)) if right_first else ((a, p, before), (b, q, after))
        joined = self.metric.in_features // first[2]
        costs = (_absorb_cost(joined, *first), _absorb_cost(joined // second[2] * first[0], *second))
        peak = max(size for _, size in costs)
        return (sum(cost for cost, _ in costs) if peak <= MAX_ELEMENTS else float("inf")), peak

    def preconditioner(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The inverses of Kronecker factors of H over (a, n, b), each a mean of H over the two other indices."""
        (_, before, a), (b, _, after) = self.left.shape, self.right.shape
        left_mean = np.einsum("pia,pja->ij", self.left, self.left) / a
        right_mean = np.einsum("bqi,bqj->ij", self.right, self.right) / b
        outer, middle, inner = self._mode_means(left_mean, right_mean, before, after)
        factor_a = np.einsum("pia,ij,pjc->ac", self.left, outer, self.left, optimize=True)
        factor_b = np.einsum("bqi,ij,cqj->bc", self.right, inner, self.right, optimize=True)
        mean = float(np.trace(middle)) / self.n
        # Each factor's mean diagonal is that of H: one of them carries the scale.
        return _inverse(factor_a / mean), _inverse(middle), _inverse(factor_b / mean)

    def _mode_means(
        self, left_mean: FloatArray, right_mean: FloatArray, before: int, after: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """C + ridge I contracted to [j_<, j_<], to [n, n] and to [j_>, j_>]; means of the interfaces over the rest."""
        if self.metric.second is not None:
            c = self.metric.second.reshape(before, self.n, after, before, self.n, after)
            right_done = np.tensordot(c, right_mean, ((2, 5), (0, 1)))  # [j_<, n, j_<', n']
            outer = np.einsum("injn->ij", right_done) / self.n
            middle = np.tensordot(left_mean, right_done, ((0, 1), (0, 2)))
            inner = np.einsum("nrns->rs", np.tensordot(left_mean, c, ((0, 1), (0, 3)))) / self.n
        else:
            assert self.metric.rows is not None
            x = self.metric.rows.reshape(-1, before, self.n, after)
            x_right = np.tensordot(x, right_mean, 1)
            x_left = np.tensordot(left_mean, x, ((1,), (1,))).transpose(1, 0, 2, 3)
            outer = np.tensordot(x_right, x, ((0, 2, 3), (0, 2, 3))) / self.n
            middle = np.tensordot(x_left, x_right, ((0, 1, 3), (0, 1, 3)))
            inner = np.tensordot(x_left, x, ((0, 1, 2), (0, 1, 2))) / self.n
        ridge = self.metric.ridge
        return (
            outer + ridge * np.eye(before),
            middle + ridge * np.eye(self.n),
            inner + ridge * np.eye(after),
        )


def solve_core(problem: CoreProblem, rhs: FloatArray, start: FloatArray) -> tuple[FloatArray, float]:
    """G [m, a, n, b] that minimises <G, H G> - 2 <G, Q> (or lowers it from `start`), and that value; Q is `rhs`."""
    if problem.formed_is_cheaper(rhs.shape[0]):
        from scipy.linalg import cho_factor, cho_solve

        flat = rhs.reshape(rhs.shape[0], -1)
        try:
            factor = cho_factor(problem.matrix(), lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:  # singular to rounding: few rows, and a ridge below the rounding of C
            return _conjugate_gradients(problem, rhs, start)
        # At the minimum <G, H G> = <G, Q>, so the value is -<G, Q>.
        solution = cho_solve(factor, flat.T, check_finite=False).T
        return np.ascontiguousarray(solution).reshape(rhs.shape), -float(np.vdot(solution, flat))
    return _conjugate_gradients(problem, rhs, start)


def _conjugate_gradients(problem: CoreProblem, rhs: FloatArray, start: FloatArray) -> tuple[FloatArray, float]:
    """`solve_core` by preconditioned conjugate gradients (Saad, Iterative Methods, 2003, algorithm 9.1).

    The way from `start` is found in single precision: a core moves to 3 % of its residual only. Its value is double.
    """
    factors = tuple(factor.astype(np.float32) for factor in problem.preconditioner())
    metric, left, right = problem.metric.in_single, problem.left.astype(np.float32), problem.right.astype(np.float32)
    residual = (rhs - problem.times(start)).astype(np.float32)
    moved = np.zeros_like(residual)
    ahead = _precondition(factors, residual)
    direction, energy = ahead, float(np.vdot(residual, ahead))
    # In the norm that the preconditioner makes; `energy` is its square.
    target = problem.solving.tolerance**2 * energy
    for _ in range(problem.solving.steps):
        if energy <= target or energy <= 0:
            break
        turned = _applied(metric, left, right, direction)
        curvature = float(np.vdot(direction, turned))
        # Rounding in single precision: H has no direction of negative curvature.
        if curvature <= 0:
            break
        step = energy / curvature
        moved += step * direction
        residual -= step * turned
        ahead = _precondition(factors, residual)
        before, energy = energy, float(np.vdot(residual, ahead))
        direction = ahead + (energy / before) * direction
    found = start + moved
    return found, float(np.vdot(found, problem.times(found))) - 2 * float(np.vdot(found, rhs))


Real = TypeVar("Real", bound=np.floating)


class _Times(Protocol):
    def times(self, matrix: NDArray[Any]) -> NDArray[Any]: ...


def _applied(metric: _Times, left: NDArray[Real], right: NDArray[Real], core: NDArray[Real]) -> NDArray[Real]:
    """H applied to G [m, a, n, b]: two interfaces, one product with C, two interfaces; some of the m at a time."""
    (p, before, _), (_, q, after), n = left.shape, right.shape, core.shape[2]
    step = max(1, MAX_ELEMENTS // (p * q * before * n * after))
    parts = []
    for first in range(0, len(core), step):
        part = core[first : first + step]
        m = len(part)
        full = np.tensordot(np.tensordot(left, part, ((2,), (1,))), right, 1)  # [p, j_<, m, n, q, j_>]
        rows = full.transpose(0, 2, 4, 1, 3, 5).reshape(p * m * q, -1)
        image = metric.times(rows).reshape(p, m, q, before, n, after)
        half = np.tensordot(left, image, ((0, 1), (0, 3)))  # [a, m, q, n, j_>]
        parts.append(np.tensordot(half, right, ((2, 4), (1, 2))).transpose(1, 0, 2, 3))
    return np.concatenate(parts)


def _precondition(factors: tuple[NDArray[Real], ...], core: NDArray[Real]) -> NDArray[Real]:
    left, middle, right = factors
    turned = np.tensordot(core, right, 1)  # [m, a, n, b]
    turned = np.matmul(middle, turned)
    return np.asarray(np.tensordot(left, turned, ((1,), (1,))).transpose(1, 0, 2, 3))


def _inverse(factor: FloatArray) -> FloatArray:
    """The inverse of a positive semidefinite matrix, its small eigenvalues lifted: it only steers."""
    values, vectors = np.linalg.eigh((factor + factor.T) / 2)
    # A preconditioner changes how fast, never what is found: lifting small eigenvalues is safe.
    lifted = np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300))
    return np.asarray((vectors / lifted) @ vectors.T)


def _absorb(blocks: NDArray[np.float64], interface: FloatArray) -> FloatArray:
    """[J, J', b, b'] of B [J, r, J', r'] and F [b, q, r]: F[b, q, r] B[J, r, J', r'] F[b', q, r'] summed."""
    b, q, r = interface.shape
    if _by_gram(b, q, r):
        gram = np.tensordot(interface, interface, ((1,), (1,)))  # [b, r, b', r']
        return np.asarray(np.tensordot(blocks, gram, ((1, 3), (1, 3))))
    total = np.zeros((blocks.shape[0], blocks.shape[2], b, b))
    for k in range(q):
        piece = interface[:, k]
        half = np.tensordot(blocks, piece, ((3,), (1,)))  # [J, r, J', b']
        total += np.tensordot(half, piece, ((1,), (1,))).transpose(0, 1, 3, 2)
    return total


def _by_gram(b: int, q: int, r: int) -> bool:
    """Whether one product with the interface's Gram matrix is cheaper than q thin ones."""
    return b * r <= q * (b + r) and (b * r) ** 2 <= MAX_ELEMENTS


def _absorb_cost(joined: int, b: int, q: int, r: int) -> tuple[float, int]:
    """Operations of `_absorb` on blocks [joined, r, joined, r], and its largest intermediate in elements."""
    if _by_gram(b, q, r):
        return 2.0 * (joined * r * b) ** 2, max((joined * b) ** 2, (b * r) ** 2)
    return 2.0 * q * (joined * joined * r * b) * (r + b), max((joined * b) ** 2, joined * joined * r * b)

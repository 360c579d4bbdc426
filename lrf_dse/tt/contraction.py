"""The numpy oracle of a TT layer: cores to the matrix they stand for, and cores applied to rows without a transpose.

Owns the meaning of the core layout and of the two contraction orders (docs/glossary.md). It is written for clarity:
kernels and graphs are checked against it, nothing is timed on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Order, TTShape

Core = NDArray[np.float32]
"""One TT core G_k [r_{k-1}, m_k, n_k, r_k], t3f's axis order."""

Real = TypeVar("Real", bound=np.floating)

Cores = list[Core]
"""The cores of one TT matrix, first core first."""


def shape_of(cores: Sequence[NDArray[Any]]) -> TTShape:
    """The TT shape of `cores`. Raises ValueError where neighbouring ranks differ or the outer ones are not 1.

    The two factors of a Monarch matrix must have one rank, and each as many blocks as the other one reads.
    """
    if is_monarch(cores):
        (m1, m2, k, _), (n1, rows, n2, _) = cores[0].shape, cores[1].shape
        # L reads n_1 r numbers for each of m_1 blocks, R writes m_1 r for each of n_1: both must tell the same rank r.
        if k % n1 or rows % m1 or k // n1 != rows // m1:
            raise ValueError(f"factors of {m1} and {n1} blocks have different ranks: {[c.shape for c in cores]}")
        return TTShape((m1, m2), (n1, n2), (1, k // n1, 1), "monarch")
    inner = [core.shape[3] for core in cores]
    if [core.shape[0] for core in cores[1:]] != inner[:-1]:
        raise ValueError(f"neighbouring cores have different ranks: {[core.shape for core in cores]}")
    return TTShape(
        tuple(core.shape[1] for core in cores), tuple(core.shape[2] for core in cores), (cores[0].shape[0], *inner)
    )


def is_monarch(cores: Sequence[NDArray[Any]]) -> bool:
    """Whether these are the two factors of a Monarch matrix: no train has a first rank above 1, or one alone."""
    return len(cores) == 2 and cores[0].shape[0] * cores[1].shape[0] > 1 == cores[0].shape[3] == cores[1].shape[3]


def to_matrix(cores: Sequence[NDArray[Real]]) -> NDArray[Real]:
    """The matrix W [prod m, prod n] that `cores` stand for, in their own precision."""
    if is_monarch(cores):
        shape = shape_of(cores)
        left, right = block_factors(cores, shape)
        return np.ascontiguousarray(np.einsum("kois,iksj->koij", left, right).reshape(shape.out_features, -1))
    matrix = cores[0][0]
    for core in cores[1:]:
        # Output modes come together before input modes: [m, m', n, n', r].
        joined = np.tensordot(matrix, core, axes=1).transpose(0, 2, 1, 3, 4)
        matrix = joined.reshape(matrix.shape[0] * core.shape[1], matrix.shape[1] * core.shape[2], core.shape[3])
    return np.ascontiguousarray(matrix[..., 0])


def block_factors(cores: Sequence[NDArray[Real]], shape: TTShape) -> tuple[NDArray[Real], NDArray[Real]]:
    """L [m_1, m_2, n_1, r] and R [n_1, m_1, r, n_2] of a Monarch matrix, as views."""
    (m1, m2), (n1, n2), r = shape.out_dims, shape.in_dims, shape.ranks[1]
    return cores[0].reshape(m1, m2, n1, r), cores[1].reshape(n1, m1, r, n2)


def stage_matrices(cores: Sequence[Core], order: Order) -> list[Core]:
    """The constant matrices A_k [rows, K] of the transpose-free contraction, in the order they are executed.

    `last_first`: A_k = G_k as [(r_{k-1} m_k), (n_k r_k)], k = d..1. `first_first`: A_k = G_k permuted to
    [(m_k r_k), (r_{k-1} n_k)], k = 1..d.
    """
    return [stage_matrix(core, order) for core in (cores if order == "first_first" else reversed(cores))]


def stage_matrix(core: NDArray[Real], order: Order) -> NDArray[Real]:
    """The matrix A [rows, K] of one core's stage: [(r m), (n r')] with the last core first, else [(m r'), (r n)]."""
    left, m, n, right = core.shape
    if order == "last_first":
        return np.ascontiguousarray(core.reshape(left * m, n * right))
    return np.ascontiguousarray(core.transpose(1, 3, 0, 2).reshape(m * right, left * n))


def core_of(matrix: NDArray[Real], shape: tuple[int, ...], order: Order) -> NDArray[Real]:
    """The core of `shape` [r, m, n, r'] whose `stage_matrix` is `matrix`."""
    left, m, n, right = shape
    if order == "last_first":
        # With the last core first the matrix is the core's own memory: rows (r, m), columns (n, r').
        return matrix.reshape(shape)
    return np.ascontiguousarray(matrix.reshape(m, right, left, n).transpose(2, 0, 3, 1))


def apply(cores: Sequence[Core], x: NDArray[np.floating], *, order: Order = "last_first") -> NDArray[np.floating]:
    """The rows y [batch, M] = x [batch, N] W^T, by the transpose-free contraction in `order`.

    Each stage is S'[l] = A_k S[l] for every l, with S [L, K, D] a plain reshape of the stage before it: the batch
    stays outermost and no axis ever moves.
    """
    batch = x.shape[0]
    if is_monarch(cores):
        shape = shape_of(cores)
        left, right = block_factors(cores, shape)
        between = np.einsum("iksj,bij->bkis", right, x.reshape(batch, *shape.in_dims))
        return np.asarray(np.einsum("kois,bkis->bko", left, between).reshape(batch, -1))
    # The shape of the state follows from two numbers: how many columns D (or batches L) have been made so far.
    state, columns = x, 1
    outer = batch
    for k, matrix in _stages(cores, order):
        m = cores[k].shape[1]
        if order == "last_first":
            # L = batch n_1..n_{k-1}; D = m_{k+1}..m_d grows by this stage's m.
            state = np.matmul(matrix, state.reshape(-1, matrix.shape[1], columns))
            columns *= m
        else:
            # L = batch m_1..m_{k-1} grows by this stage's m; D = n_{k+1}..n_d is what remains.
            state = np.matmul(matrix, state.reshape(outer, matrix.shape[1], -1))
            outer *= m
    return state.reshape(batch, -1)


def _stages(cores: Sequence[Core], order: Order) -> list[tuple[int, Core]]:
    """The (core index, stage matrix) pairs in execution order."""
    d = len(cores)
    indices = range(d) if order == "first_first" else range(d - 1, -1, -1)
    return list(zip(indices, stage_matrices(cores, order), strict=True))

"""Dominant subspaces of one large matrix, fast: Gram matrices, and randomised subspace iteration.

Accuracy. The Gram way (eigen-decomposition of A A^T of the smaller side) squares the condition number: singular values
below sqrt(eps) sigma_1 are lost. With products and sums in double precision that is 1.5e-8 sigma_1, below the rounding
of the float32 weights themselves: up to `DOUBLE_SIDE` it is as exact as the data. Above, products are float32 (sums
of blocks are double): twice as fast, but tail energies resolve to about 1e-7 of the total, relative errors to 3e-4.
The randomised way captures at most as much energy as the exact one (to the same rounding), never more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
FloatArray = NDArray[np.float64]

DOUBLE_SIDE = 1024
"""Gram matrices up to this side are computed wholly in double precision."""

EXACT_SIDE = 2048
"""Smaller sides up to this go the Gram way (0.7 s for 2048 x 8192 on two cores); above, eigh takes 4-10 s."""

SKETCH_SIZE = 512
"""Columns of the sketch of an unfolding too large for the Gram way."""

_BLOCK_ELEMENTS = 1 << 22  # 16 MB of float32: the double copy of one block stays small


def unfold(weight: Matrix, left_out: int, left_in: int) -> Matrix:
    """The unfolding [(i_left, j_left), (i_right, j_right)] of W [out, in], i_left < left_out and j_left < left_in.

    It depends only on the two products, not on how they split into modes: shapes share their unfoldings.
    """
    out_features, in_features = weight.shape
    split = weight.reshape(left_out, out_features // left_out, left_in, in_features // left_in)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(left_out * left_in, -1)


def gram(matrix: Matrix) -> FloatArray:
    """A A^T [rows, rows] of A [rows, columns], in double precision.

    Above DOUBLE_SIDE rows the products within a block of columns are single, and only the blocks add up in double.
    """
    rows, columns = matrix.shape
    dtype: type[np.floating] = np.float64 if rows <= DOUBLE_SIDE else np.float32
    step = max(256, _BLOCK_ELEMENTS // rows)
    total = np.zeros((rows, rows))
    for start in range(0, columns, step):
        block: NDArray[Any] = matrix[:, start : start + step].astype(dtype, copy=False)
        total += block @ block.T  # numpy sees the transpose and calls syrk: half the work
    return total


def orthonormal_columns(matrix: NDArray[Any]) -> NDArray[Any]:
    """Q of the thin QR of A [rows, columns], rows >= columns."""
    from scipy.linalg import qr  # three times numpy's speed on tall float32 matrices

    return np.asarray(qr(matrix, mode="economic", check_finite=False, overwrite_a=True)[0])


def captured_basis(matrix: Matrix, size: int, *, seed: int) -> Matrix:
    """An orthonormal Q [rows, size] that captures most of A's dominant left subspace, by one subspace iteration.

    Halko, Martinsson, Tropp, SIAM Review 53 (2011), algorithm 4.4. Three products with A of `size` columns.
    """
    probe = np.random.default_rng(seed).standard_normal((matrix.shape[1], size), dtype=np.float32)
    basis = orthonormal_columns(matrix @ probe)
    # Half-way and back: what A keeps of the first guess is weighed by its singular values twice more.
    basis = orthonormal_columns(matrix @ orthonormal_columns(matrix.T @ basis))
    return np.asarray(basis, dtype=np.float32)


def short_side_first(matrix: Matrix) -> Matrix:
    """A, or its transpose (a view), whichever has no more rows than columns."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def dominant_basis(matrix: Matrix, rank: int, *, seed: int, exact_side: int = EXACT_SIDE) -> Matrix:
    """An orthonormal Q [rows, rank] such that Q Q^T A is close to the best rank-`rank` approximation of A.

    Exact by the Gram way where the smaller side is at most `exact_side`, or the rank is too large a part of it for a
    sketch to pay; else by the sketch with which `lrf_dse.tt.spectra` bounds the error (from the same seed, so the bound
    holds to rounding), 0.2% above the optimum on noise, the worst case. Full rank needs no decomposition.
    """
    rows = matrix.shape[0]
    if rank == rows:
        return np.eye(rows, dtype=np.float32)
    small = short_side_first(matrix)
    side, size = small.shape[0], max(SKETCH_SIZE, 2 * rank)
    # A sketch of an eighth of the side or more takes about as long as the exact way.
    if side > exact_side and 8 * size <= side:
        basis = captured_basis(small, size, seed=seed)
        leading = basis @ _leading_eigenvectors(gram(basis.T @ small), rank).astype(np.float32)
    else:
        leading = _leading_eigenvectors(gram(small), rank).astype(np.float32)
    # Right vectors of a tall A span the row space to keep; QR of their image is accurate where dividing by the singular
    # values would not be.
    return leading if small is matrix else np.asarray(orthonormal_columns(matrix @ leading), dtype=np.float32)


def _leading_eigenvectors(symmetric: FloatArray, rank: int) -> FloatArray:
    """The eigenvectors [side, rank] of the largest eigenvalues, largest first."""
    # eigh sorts ascending.
    vectors = np.linalg.eigh(symmetric)[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])

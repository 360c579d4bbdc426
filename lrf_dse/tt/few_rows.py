"""A second moment of fewer rows than inputs, as the few rows that it is the sum of: products are as much shorter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEW = 0.25
"""The share of the inputs that the rows may be for their products, two thin ones, to be clearly shorter."""


def factor_of(second: FloatArray, samples: int) -> FloatArray | None:
    """Y [k, in] with Y^T Y = C to rounding, where C [in, in] is of so few `samples` that it pays; else None.

    Cholesky with pivots ends at the rank of C (Higham, Accuracy and Stability of Numerical Algorithms, section 10.3).
    """
    from scipy.linalg.lapack import dpstrf

    if samples > FEW * len(second) or not second.any():
        return None
    # lower=1: of a row-major matrix LAPACK sees the transpose, which is the same.
    triangle, pivots, rank, _ = dpstrf(second, lower=1)
    if rank > FEW * len(second):
        return None
    factor = np.zeros((rank, len(second)))
    factor[:, pivots - 1] = np.tril(triangle[:, :rank]).T
    return factor

"""The metric of a fit in single precision: where a direction is wanted, not a figure, it takes half the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MOST_VARYING = 0.9
"""Inputs that are always 0 are left out of products where at most this share of all are not: a copy takes time too."""


@dataclass(frozen=True, eq=False)
class SingleMetric:
    """A `Metric` in single precision.

    `second` is over the inputs `varying`, all by default: pixels at the edge of an image are the same in all rows.
    """

    varying: NDArray[np.intp] | None
    second: Floats | None
    rows: Floats | None
    ridge: float

    def times(self, matrix: Floats) -> Floats:
        """V (C + ridge I) of V [rows, in]."""
        image = np.float32(self.ridge) * matrix
        if self.second is None:
            assert self.rows is not None
            image += (matrix @ self.rows.T) @ self.rows
        elif self.varying is None:
            image += matrix @ self.second
        else:
            image[:, self.varying] += np.take(matrix, self.varying, axis=1) @ self.second
        return image


def single_metric(second: NDArray[np.float64] | None, rows: NDArray[np.float64] | None, ridge: float) -> SingleMetric:
    """The metric of C [in, in], or of the rows that stand for it, in single precision."""
    if second is None:
        assert rows is not None
        return SingleMetric(None, None, rows.astype(np.float32), ridge)
    # A row of C that is 0 belongs to an input that is always 0.
    varying = np.flatnonzero(second.any(axis=0))
    if len(varying) > MOST_VARYING * len(second):
        return SingleMetric(None, second.astype(np.float32), None, ridge)
    return SingleMetric(varying, second[np.ix_(varying, varying)].astype(np.float32), None, ridge)

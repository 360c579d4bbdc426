"""A quick test of what cannot be on a front of three losses any more.

The losses are a latency, a size and an error. The test looks into a grid of (latency, size) cells, each with the least
error of all points in lower cells: it never calls a point dominated that is not, and overlooks only dominating points
in the same row or column of cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.front.pareto import FloatArray, IntArray

Mask = NDArray[np.bool_]

_CELL_BITS = 6
"""2^6 cells for each doubling: cells of about 1 %."""
_LOWEST_CELL = 1023 << _CELL_BITS
"""The cell of the value 1; smaller ones share it."""

_NONE: FloatArray = np.empty(0)


class LossGrid:
    """The least errors of a set of points, by cells of their latencies and sizes."""

    def __init__(self, latency: NDArray[Any] = _NONE, size: NDArray[Any] = _NONE, error: FloatArray = _NONE) -> None:
        rows, columns = _cells(latency), _cells(size)
        self._first = (int(rows.min()), int(columns.min())) if rows.size else (0, 0)
        rows, columns = rows - self._first[0], columns - self._first[1]
        last = (int(rows.max()), int(columns.max())) if rows.size else (0, 0)
        least = np.full((last[0] + 2, last[1] + 2), np.inf)
        # Shifted by one cell: a look-up at (i, j) sees cells strictly below i and j only, whose points are better for
        # certain.
        np.minimum.at(least, (rows + 1, columns + 1), error)
        np.minimum.accumulate(least, axis=0, out=least)
        np.minimum.accumulate(least, axis=1, out=least)
        self._least = least
        """least[i, j]: of all points in cells below i and below j, counted from the first ones."""

    def may_enter(self, latency: NDArray[Any], size: NDArray[Any], error: FloatArray) -> Mask:
        """False only where some point is better in latency and size, and no worse in error."""
        rows = np.clip(_cells(latency) - self._first[0], 0, self._least.shape[0] - 1)
        columns = np.clip(_cells(size) - self._first[1], 0, self._least.shape[1] - 1)
        return np.asarray(error < self._least[rows, columns])


def _cells(values: NDArray[Any]) -> IntArray:
    """The cell of each value: exponent and first bits of the mantissa of a double, which rise with its value."""
    # The bits of positive doubles (IEEE 754) rise with their values, so the first bits are a logarithm in pieces.
    bits = np.asarray(values, dtype=np.float64).view(np.int64) >> (52 - _CELL_BITS)
    return np.asarray(np.maximum(bits - _LOWEST_CELL, 0))

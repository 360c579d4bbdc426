"""Fronts of points with three losses, and a quick test of what cannot be on one any more.

The losses are a latency, a size and an error. The test looks into a grid of (latency, size) cells, each with the least
error of all points in lower cells: it never calls a point dominated that is not, and overlooks only dominating points
in the same row or column of cells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CELL_BITS = 6
"""2^6 cells for each doubling: cells of about 1 %."""
_LOWEST_CELL = 1023 << _CELL_BITS
"""The cell of the value 1; smaller ones share it."""

_NONE: FloatArray = np.empty(0)


class Grid:
    """The least errors of a set of points, by cells of their latencies and sizes."""

    def __init__(self, latency: NDArray[Any] = _NONE, size: NDArray[Any] = _NONE, error: FloatArray = _NONE) -> None:
        rows, columns = _cells(latency), _cells(size)
        self._first = (int(rows.min()), int(columns.min())) if rows.size else (0, 0)
        rows, columns = rows - self._first[0], columns - self._first[1]
        last = (int(rows.max()), int(columns.max())) if rows.size else (0, 0)
        least = np.full((last[0] + 2, last[1] + 2), np.inf)
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
    bits = np.asarray(values, dtype=np.float64).view(np.int64) >> (52 - _CELL_BITS)
    return np.asarray(np.maximum(bits - _LOWEST_CELL, 0))


def non_dominated(latency: NDArray[Any], sizes: NDArray[Any], errors: FloatArray) -> IntArray:
    """Indices, ascending, of the points that no other is at least as good as in all three; one of each set of equals.

    A sweep by ascending latency over a staircase in (size, error): about 0.1 s for 100,000 points.
    """
    stair_sizes: list[float] = []  # ascending, with strictly descending errors beside them
    stair_errors: list[float] = []
    kept = []
    by_latency = np.lexsort((np.arange(latency.size), errors, sizes, latency))
    for i, p, e in zip(by_latency.tolist(), sizes[by_latency].tolist(), errors[by_latency].tolist(), strict=True):
        at = bisect_right(stair_sizes, p)
        if at and stair_errors[at - 1] <= e:
            continue
        kept.append(i)
        start = bisect_left(stair_sizes, p)
        end = start
        while end < len(stair_sizes) and stair_errors[end] >= e:
            end += 1
        stair_sizes[start:end], stair_errors[start:end] = [p], [e]
    return np.array(sorted(kept), dtype=np.int64)

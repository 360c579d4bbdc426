"""Pareto fronts and knees of points whose objectives are all minimised.

Owns the geometry only: a point is a sequence of numbers, and what they mean is the caller's business. Whoever
maximises something flips its sign at the edge, once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = Sequence[Sequence[float | None]]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 256
"""Points compared with the front at once: large enough to amortise numpy calls, small enough to stay in cache."""


def objective_array(points: Points) -> FloatArray:
    """Points as a float array [points, objectives], without the objectives that are None everywhere.

    A None among known values counts as infinity: an unknown is never better than a known value. NaN is a ValueError.
    """
    if len({len(point) for point in points}) > 1:
        raise ValueError("all points need the same number of objectives")
    width = len(points[0]) if points else 0
    # An objective that nobody knows tells no point from another.
    kept = [i for i in range(width) if any(point[i] is not None for point in points)]
    rows = [[np.inf if (value := point[i]) is None else float(value) for i in kept] for point in points]
    array = np.array(rows, dtype=np.float64).reshape(len(points), len(kept))
    if np.isnan(array).any():
        raise ValueError("objectives must not be NaN")
    return array


def non_dominated(points: Points) -> list[int]:
    """Indices, ascending, of the points that no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better, so equal points stay together.

    >>> non_dominated([(1, 4), (2, 2), (3, 3), (4, 1)])
    [0, 1, 3]
    """
    return [int(i) for i in np.flatnonzero(front_mask(objective_array(points)))]


def front_mask(array: FloatArray) -> NDArray[np.bool_]:
    """Which rows of `array` [points, objectives] are non-dominated; equal rows share their fate.

    Sorted lexicographically, a point is dominated only by earlier ones, so each block is compared with the front so
    far and then with itself: O(points x front), in numpy.
    """
    if array.shape[0] == 0 or array.shape[1] == 0:
        return np.ones(array.shape[0], dtype=np.bool_)
    unique, inverse = _sorted_unique(array)
    keep = np.zeros(len(unique), dtype=np.bool_)
    front = unique[:0]
    for start in range(0, len(unique), _BLOCK):
        block = unique[start : start + _BLOCK]
        alive = np.flatnonzero(~_dominated_by_earlier(block, front))
        # Within the block a row may only be dominated by an earlier row of it: the strict lower triangle.
        rows = block[alive]
        inside = np.tril(_no_worse(rows, rows), k=-1).any(axis=1)
        keep[start + alive[~inside]] = True
        front = np.concatenate([front, rows[~inside]])
    mask: NDArray[np.bool_] = keep[inverse]
    return mask


def _sorted_unique(array: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Distinct rows in lexicographic order, and where each row went (np.unique(axis=0) sorts records: 5x slower)."""
    order = np.lexsort(array.T[::-1])
    ordered = array[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    inverse = np.empty(len(array), dtype=np.intp)
    inverse[order] = np.cumsum(new) - 1
    return ordered[new], inverse


def _no_worse(rows: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """[rows, others]: whether the other is <= the row in every objective but the first, which the sorting implies."""
    result = np.ones((len(rows), len(others)), dtype=np.bool_)
    for column in range(1, rows.shape[1]):
        result &= others[None, :, column] <= rows[:, None, column]
    return result


def _dominated_by_earlier(rows: FloatArray, front: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(_no_worse(rows, front).any(axis=1), dtype=np.bool_)


def front_of_three(latency: NDArray[Any], sizes: NDArray[Any], errors: FloatArray) -> IntArray:
    """Indices, ascending, of the points that no other is at least as good as in all three; one of each set of equals.

    A sweep by ascending latency over a staircase in (size, error): about 0.1 s for 100,000 points.
    """
    stair_sizes: list[float] = []  # ascending, with strictly descending errors beside them
    stair_errors: list[float] = []
    kept = []
    by_latency = np.lexsort((np.arange(latency.size), errors, sizes, latency))
    for i, p, e in zip(by_latency.tolist(), sizes[by_latency].tolist(), errors[by_latency].tolist(), strict=True):
        at = bisect_right(stair_sizes, p)
        # Of all points that are faster and no larger this one has the least error: the staircase descends.
        if at and stair_errors[at - 1] <= e:
            continue
        kept.append(i)
        start = bisect_left(stair_sizes, p)
        end = start
        # Steps that the new point makes useless for all that is slower.
        while end < len(stair_sizes) and stair_errors[end] >= e:
            end += 1
        stair_sizes[start:end], stair_errors[start:end] = [p], [e]
    return np.array(sorted(kept), dtype=np.int64)


def scaled(array: FloatArray, *, floors: Sequence[float] | None = None) -> FloatArray:
    """Each objective shifted to start at 0 and divided by its largest magnitude, so units do not matter.

    Not divided by its range: objectives that hardly vary (40,000 and 40,100 bytes) should hardly count. `floors` are
    the least divisors, for objectives where a small magnitude is nothing to fear (0.3 points of accuracy).
    Infinities (unknown values) become twice the largest known value of the objective, i.e. clearly bad.
    """
    result = np.zeros_like(array)
    for i in range(array.shape[1]):
        column = array[:, i]
        known = column[np.isfinite(column)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        scale = max(abs(low), abs(high), high - low, floors[i] if floors else 0.0) or 1.0
        result[:, i] = np.where(np.isfinite(column), (column - low) / scale, 2.0)
    return result


def knee(points: Points, *, floors: Sequence[float] | None = None) -> int:
    """Index of the front's knee: the non-dominated point nearest to the ideal one (the best of every objective).

    Distances are Euclidean over objectives scaled by `scaled`, with one floor per objective if any are given; the
    first of equal points wins. Raises ValueError when there is no point.

    >>> knee([(10, 0), (2, 1), (1, 10)])
    1
    """
    if not points:
        raise ValueError("there are no points to find a knee in")
    members = non_dominated(points)
    kept = [i for i in range(len(points[0])) if any(point[i] is not None for point in points)]
    front = objective_array([[points[m][i] for i in kept] for m in members])
    least = [floors[i] for i in kept] if floors else None
    distance = (scaled(front, floors=least) ** 2).sum(axis=1)
    return members[int(np.argmin(distance))]

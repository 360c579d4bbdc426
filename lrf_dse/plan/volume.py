"""Hypervolumes: how much of the space below a reference point a set of points dominates, and what one more adds.

Owns the geometry only; all objectives are minimised. Points beyond the reference in an objective dominate nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from lrf_dse.front.pareto import FloatArray, front_mask


def hypervolume(points: FloatArray, reference: FloatArray) -> float:
    """The volume that `points` [n, objectives] dominate below `reference` [objectives].

    >>> hypervolume(np.array([[0.0, 2.0], [1.0, 1.0]]), np.array([3.0, 3.0]))
    5.0
    """
    edges, dominated = _cells(points, np.empty((0, len(reference))), reference)
    return float(np.sum(_sizes(edges)[dominated]))


def gains(candidates: FloatArray, points: FloatArray, reference: FloatArray) -> FloatArray:
    """What each of `candidates` [m, objectives] alone would add to the hypervolume of `points` [n, objectives].

    The volume of the box from a corner to the reference that is not dominated is linear in each coordinate between
    neighbouring coordinates of the points: summed once on their grid, and interpolated, it is exact.
    """
    if not len(candidates):
        return np.empty(0)
    # A coordinate beyond the reference gives a box of no volume.
    inside = np.minimum(candidates, reference)
    edges, dominated = _cells(points, inside, reference)
    left = np.where(dominated, 0.0, _sizes(edges))
    for axis in range(left.ndim):  # left[i, j, ..]: what is left above the nodes i, j, ..
        left = np.flip(np.cumsum(np.flip(left, axis), axis), axis)
        left = np.concatenate([left, np.zeros_like(np.take(left, [0], axis))], axis)
    return _interpolated(left, edges, inside)


def greedy(
    points: FloatArray, count: int, reference: FloatArray, *, seeds: Iterable[int] = (), least: float = 0.0
) -> list[int]:
    """Indices of `seeds`, then of the points that each time add most to the hypervolume, until there are `count`.

    Ends before that when none adds more than `least`. Of equal points the first is taken; seeds stay in any case. At
    least 1 - 1/e of what the best choice of so many would dominate (the hypervolume is submodular).
    """
    taken = list(dict.fromkeys(seeds))
    while len(taken) < count:
        added = gains(points, points[taken], reference)
        best = int(np.argmax(added)) if len(added) else 0
        if not len(added) or added[best] <= max(least, 0.0):
            break
        taken.append(best)
    return taken


def _cells(
    points: FloatArray, others: FloatArray, reference: FloatArray
) -> tuple[list[FloatArray], npt.NDArray[np.bool_]]:
    """The grid through all points, from the least coordinate up to the reference, and which cells are dominated."""
    inside = points[(points < reference).all(axis=1)]
    inside = inside[front_mask(inside)]
    # The grid must reach below every candidate, which may be better than all points.
    low = np.min(np.concatenate([inside, others, reference[None]]), axis=0)
    edges = [
        np.unique(np.concatenate([inside[:, k], [low[k], reference[k]]]))
        if low[k] < reference[k]
        else reference[[k, k]]
        for k in range(len(reference))
    ]
    dominated = np.zeros([len(e) - 1 for e in edges], dtype=np.bool_)
    dominated[tuple(np.searchsorted(e, inside[:, k]) for k, e in enumerate(edges))] = True
    for axis in range(dominated.ndim):
        # A cell is dominated where a point lies at or below its lower corner, so marks spread upwards along every axis.
        dominated = np.logical_or.accumulate(dominated, axis=axis)
    return edges, dominated


def _sizes(edges: list[FloatArray]) -> FloatArray:
    sizes = np.diff(edges[0])
    for e in edges[1:]:
        sizes = sizes[..., None] * np.diff(e)
    return sizes


def _interpolated(nodes: FloatArray, edges: list[FloatArray], at: FloatArray) -> FloatArray:
    """The multilinear interpolation of values on the nodes of a grid at points [m, axes] within it."""
    found = np.zeros(len(at))
    cell, share = [], []
    for k, e in enumerate(edges):
        i = np.clip(np.searchsorted(e, at[:, k], side="right") - 1, 0, len(e) - 2)
        width = e[i + 1] - e[i]
        cell.append(i)
        share.append(np.divide(at[:, k] - e[i], width, out=np.zeros(len(at)), where=width > 0))
    for corner in range(2 ** len(edges)):
        upper = [corner >> k & 1 for k in range(len(edges))]
        weight = np.prod([s if u else 1 - s for s, u in zip(share, upper, strict=True)], axis=0)
        found += weight * nodes[tuple(i + u for i, u in zip(cell, upper, strict=True))]
    return found

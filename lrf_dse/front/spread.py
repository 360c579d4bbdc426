"""A few points that stand for a whole front: spread over its sizes, the fastest and the most exact of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrf_dse.front.pareto import FloatArray, IntArray

_FLOOR = 1e-3  # errors below are equally good: without it, one near-zero error would stretch the log scale


def spread(params: IntArray, losses: Sequence[FloatArray], top: int) -> IntArray:
    """Indices of at most `top` points, by ascending parameters.

    `losses` are columns of what else should be small: the error, and a latency or more. The log scale of parameters is
    cut into top // len(losses) equal size levels; each level gives the least of each loss. What is left of `top` goes
    to the points farthest from all chosen ones (in normalised log parameters and losses), one after another. Ties go to
    the point with fewer parameters, then to the first: the same input gives the same points.
    """
    by_size = np.lexsort((np.arange(params.size), *losses, params))
    if by_size.size <= top:
        return by_size
    log_params = np.log(params[by_size])
    count = max(1, top // len(losses))
    levels = np.minimum((_unit(log_params) * count).astype(np.int64), count - 1)
    chosen: list[int] = []
    for level in np.unique(levels):
        members = np.flatnonzero(levels == level)
        for loss in losses:
            best = int(members[np.argmin(loss[by_size[members]])])
            if best not in chosen and len(chosen) < top:
                chosen.append(best)
    logs = (log_params, *(np.log(np.maximum(loss[by_size], _FLOOR)) for loss in losses))
    return by_size[np.sort(_fill(np.stack([_unit(log) for log in logs], axis=1), chosen, top))]


def ladder(params: IntArray, cycles: FloatArray, errors: FloatArray, top: int) -> IntArray:
    """Indices of at most `top` points, by ascending parameters: one of every size, the best bargain of its size.

    The log scale of parameters is cut into `top` equal steps. A bargain weighs what a point costs, in parameters and in
    cycles alike, against its error, at the rate at which errors of all points fall as parameters grow. What empty steps
    leave of `top` goes to the points farthest from all chosen ones, as in `spread`, whose two of every size differ
    little: of a curve, such as plain low rank, they are the ends of neighbouring levels.
    """
    by_size = np.lexsort((np.arange(params.size), errors, cycles, params))
    if by_size.size <= top:
        return by_size
    log_params, log_cycles = np.log(params[by_size]), np.log(np.maximum(cycles[by_size], 1.0))
    log_errors = np.log(np.maximum(errors[by_size], _FLOOR))
    # The slope of log error over log parameters by least squares.
    apart = log_params - log_params.mean()
    falls = max(_SLOWEST_FALL, -float(apart @ log_errors) / max(float(apart @ apart), _FLOOR))
    # Errors at that slope are worth as much as the parameters that would buy them.
    bargain = (log_params + log_cycles) / 2 + log_errors / falls
    steps = np.minimum((_unit(log_params) * top).astype(np.int64), top - 1)
    members = [np.flatnonzero(steps == step) for step in np.unique(steps)]
    chosen = [int(some[np.argmin(bargain[some])]) for some in members]
    positions = np.stack([_unit(log) for log in (log_params, log_cycles, log_errors)], axis=1)
    return by_size[np.sort(_fill(positions, chosen, top))]


_SLOWEST_FALL = 0.05
"""The least slope of errors over parameters, both on log scales; layers of noise have about this one."""


def _fill(positions: FloatArray, chosen: list[int], top: int) -> IntArray:
    """`chosen`, then farthest points until there are `top`."""
    picked = list(chosen)
    distance = np.min([((positions - positions[i]) ** 2).sum(axis=1) for i in picked], axis=0)
    distance[picked] = -1.0  # never again, even where points coincide
    while len(picked) < top:
        farthest = int(np.argmax(distance))
        picked.append(farthest)
        distance = np.minimum(distance, ((positions - positions[farthest]) ** 2).sum(axis=1))
        distance[picked] = -1.0
    return np.array(picked, dtype=np.int64)


def _unit(values: FloatArray) -> FloatArray:
    """`values` scaled to 0..1; all 0 where they are equal."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)

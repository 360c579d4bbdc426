"""What makes a front good: the space that it dominates, no gap between neighbours, and no heap on one spot.

Owns the scale on which whole models are compared, and these three rules. Latency and bytes count by their ratios, so
on logarithms; losses count in their own unit, up to the `worst` that anybody wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np
import numpy.typing as npt

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.options import FLASH, LATENCY, LOSS, RAM

WORST = 5.0
"""What a plan may lose to be of use to anybody, in points; callers that know a metric give its own."""

GAP = 1.3
"""Neighbours of a front that are farther apart in latency than this factor have a gap between them."""

SAME_RATIO = 1.01
SAME_LOSS = 0.1
"""Plans nearer than this factor in latency and in bytes, and than this in points, count as one."""

ENDS = (LATENCY, FLASH, LOSS, RAM)
"""In each of these the best plan stays, whatever it adds to the rest."""

_BEYOND = 1e9

_FLOOR = 1e-9
"""The least share of the reference that a logarithm is taken of: shifted predictions may reach 0."""


@dataclass(frozen=True)
class Terrain:
    """The scale of whole models: what they are measured against, and the largest loss that counts.

    `latency` and `flash_bytes` are usually those of the dense model: a plan that is slower or larger dominates nothing.
    """

    latency: float
    flash_bytes: float
    worst: float = WORST

    @property
    def reference(self) -> FloatArray:
        """The reference point of hypervolumes [3]."""
        return np.array([log(max(self.latency, _FLOOR)), log(max(self.flash_bytes, _FLOOR)), self.worst])

    def points(self, numbers: FloatArray, usable: Sequence[bool]) -> FloatArray:
        """(log latency, log bytes, loss) of rows of (latency, flash, ram, loss); no loss is better than none.

        What is not `usable`, since it keeps some limit not, gets a loss beyond all others.
        """
        logs = [
            np.log(np.maximum(numbers[:, column], _FLOOR * max(whole, _FLOOR)))
            for column, whole in ((LATENCY, self.latency), (FLASH, self.flash_bytes))
        ]
        # So far off that such a point dominates nothing below the reference.
        losses = np.where(np.array(usable, dtype=np.bool_), np.maximum(numbers[:, LOSS], 0.0), _BEYOND)
        return np.column_stack([*logs, losses])


_NEAR = np.array([log(SAME_RATIO), log(SAME_RATIO), SAME_LOSS, log(SAME_RATIO)])


def same(points: FloatArray, other: FloatArray) -> npt.NDArray[np.bool_]:
    """Which of `points` [n, 3] count as one with `other` [3]; with a fourth number, log RAM, that must be near too."""
    near = np.abs(points - other) < _NEAR[: points.shape[1]]
    return np.asarray(near.all(axis=1), dtype=np.bool_)


def merged(points: FloatArray, first: Sequence[int] = ()) -> list[int]:
    """For each of `points`, as `same` takes them, the index of the one that stands for it: itself, where none does.

    Those of `first` stand for themselves. A point also does where without it neighbours would have a gap in latency
    between them that they do not have with it.
    """
    stands_for = list(range(len(points)))
    kept = list(first)
    # From the fastest on: of points that count as one the fastest stands for them.
    for i in sorted(set(stands_for) - set(first), key=lambda i: tuple(points[i])):
        twins = [k for k in kept if same(points[[k]], points[i])[0]]
        if twins and not _bridges(points[:, 0], i, kept):
            stands_for[i] = twins[0]
        else:
            kept.append(i)
    return stands_for


def _bridges(latencies: FloatArray, i: int, kept: Sequence[int]) -> bool:
    """Whether point i stands in a gap between the kept ones below it and whatever is above it."""
    below = [latencies[k] for k in kept if latencies[k] <= latencies[i]]
    above = latencies[latencies > latencies[i]]
    if not below or not len(above):
        return False
    return bool(above.min() - max(below) > log(GAP) >= above.min() - latencies[i])


@dataclass(frozen=True)
class Gap:
    """Two neighbours of a front that are far apart in latency; `tried` is how many others were judged in between."""

    low: float
    high: float
    tried: int

    @property
    def ratio(self) -> float:
        """How far apart they are."""
        return self.high / self.low


def gaps(points: FloatArray, worst: float) -> list[Gap]:
    """The gaps of the front of judged `points` [n, 3] with losses of at most `worst`, fastest first.

    A gap in which something was tried is no hole: what stands there is worse. Points that count as one with an end of
    the gap were not tried in it.
    """
    front = points[front_mask(points) & (points[:, 2] <= worst)]
    latencies = np.unique(front[:, 0])
    found = []
    for low, high in pairwise(latencies.tolist()):
        if high - low > log(GAP):
            # The margin leaves out what counts as one with an end.
            between = (points[:, 0] > low + log(SAME_RATIO)) & (points[:, 0] < high - log(SAME_RATIO))
            found.append(Gap(float(np.exp(low)), float(np.exp(high)), int(between.sum())))
    return found


def best_of(members: Sequence[int], numbers: FloatArray, objectives: Sequence[int]) -> list[int]:
    """The best of `members` in each of the objectives, then in the others in their order; none of none."""
    if not members:
        return []
    return [members[int(np.lexsort((*numbers[members].T[::-1], numbers[members, k]))[0])] for k in objectives]


def ends_of(numbers: FloatArray, usable: Sequence[bool], *, dense: Sequence[bool]) -> list[int]:
    """The ends of what is no dense model: the least loss of all, and the best of every objective of what is `usable`.

    Where nothing is usable, what is nearest to keeping one of the limits.
    """
    compressed = [i for i, whole in enumerate(dense) if not whole]
    within = [i for i in compressed if usable[i]]
    ends = best_of(within, numbers, ENDS) or best_of(compressed, numbers, (LATENCY, FLASH, LOSS))
    return list(dict.fromkeys([*best_of(compressed, numbers, (LOSS,)), *ends]))

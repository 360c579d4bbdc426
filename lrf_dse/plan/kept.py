"""The finalists: about so many of the judged whole models that stand for all of them. They never get worse.

An archive: a judged model comes in, and the one that is needed least goes, if the others then dominate no less than
before. So whatever is judged after it, what finalists dominate never shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log

import numpy as np

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.terrain import ENDS, GAP, Terrain, best_of, same
from lrf_dse.plan.volume import greedy, hypervolume


class Kept:
    """At most about `count` members of a growing list; the first one, dense, always."""

    def __init__(self, terrain: Terrain, count: int) -> None:
        self._terrain, self.count = terrain, count
        self._numbers = np.empty((0, 4))
        self._usable: list[bool] = []
        self.members: list[int] = []

    def add(self, numbers: FloatArray, *, usable: bool) -> None:
        """One more judged model: its numbers [4], and whether it keeps all limits."""
        new = len(self._usable)
        self._numbers = np.vstack([self._numbers, numbers])
        self._usable.append(usable)
        before, grown = self._volume(self.members), [*self.members, new]
        # A newcomer that dominates nothing new and is no end changes nothing.
        whole, ends = self._volume(grown), self._ends(grown)
        if whole <= before and new not in ends:
            return
        *others, last = self._points(grown)
        twins = [m for m, twin in zip(self.members, same(np.array(others).reshape(-1, 3), last), strict=True) if twin]
        if new not in ends and twins:
            # They count as one: the better one stays.
            removable = [new, *(m for m in twins if m not in ends)]
            grown = max(([m for m in grown if m != gone] for gone in removable), key=self._volume)
            whole = self._volume(grown)
        # Ends and bridges are never loose: they keep the range of the front, and its gaps closed.
        while loose := sorted({*grown} - {*self._ends(grown)} - {*self._bridges(grown)}):
            worst, left = self._least_needed(loose, grown)
            # One too many goes if the others dominate no less than before; of no use is what adds nothing to them.
            if left < (before if len(grown) > self.count else whole):
                break
            grown.remove(worst)
            whole = left
        self.members = grown

    def on(self, terrain: Terrain, usable: Sequence[bool]) -> Kept:
        """The same models come in once more in their order, compared on another terrain, of which some are `usable`."""
        again = Kept(terrain, self.count)
        for numbers, ok in zip(self._numbers, usable, strict=True):
            again.add(numbers, usable=ok)
        return again

    def renew(self) -> None:
        """Choose anew among all judged models, where that dominates more."""
        everyone = list(range(len(self._usable)))
        # The archive decided as models came in; seen all together another choice may dominate more.
        chosen = greedy(self._points(everyone), self.count, self._terrain.reference, seeds=self._ends(everyone))
        chosen += self._in_gaps(chosen)
        if self._volume(chosen) > self._volume(self.members):
            self.members = sorted({*chosen})

    def _in_gaps(self, chosen: Sequence[int]) -> list[int]:
        """Models of the judged front in gaps between chosen ones, one by one the least loss in each."""
        points = self._points(range(len(self._usable)))
        front = [i for i in np.flatnonzero(front_mask(points)).tolist() if self._usable[i]]
        found: list[int] = []
        while True:
            latencies = np.sort(points[[*chosen, *found], 0])
            for low, high in pairwise(latencies.tolist()):
                inside = [i for i in front if low < points[i, 0] < high] if high - low > log(GAP) else []
                if inside:
                    found.append(min(inside, key=lambda i: (points[i, 2], points[i, 1], i)))
                    break
            else:
                return found

    def _bridges(self, members: Sequence[int]) -> list[int]:
        """Those of `members` on their front without which two neighbours in latency have a gap between them."""
        points = self._points(members)
        order = [i for i in np.argsort(points[:, 0], kind="stable") if self._usable[members[i]]]
        # Only neighbours on the front count: what is dominated bridges nothing.
        order = [i for i in order if front_mask(points[order])[order.index(i)]]
        return [
            members[i]
            for before, i, after in zip(order, order[1:], order[2:], strict=False)
            if points[after, 0] - points[before, 0] > log(GAP)
        ]

    @property
    def volume(self) -> float:
        """What the kept members dominate."""
        return self._volume(self.members)

    def _ends(self, members: Sequence[int]) -> list[int]:
        """Dense, and the best in each objective of what keeps the limits; where nothing does, of all the others."""
        # Member 0 is the dense model.
        compressed = [m for m in members if m]
        return [0, *best_of([m for m in compressed if self._usable[m]] or compressed, self._numbers, ENDS)]

    def _least_needed(self, loose: Sequence[int], members: Sequence[int]) -> tuple[int, float]:
        """The one of `loose` without which all other `members` dominate most, the last of equal ones; and how much."""
        left = [(self._volume([m for m in members if m != gone]), gone) for gone in loose]
        return max(left)[1], max(left)[0]

    def _points(self, members: Sequence[int]) -> FloatArray:
        return self._terrain.points(self._numbers[list(members)], [self._usable[m] for m in members])

    def _volume(self, members: Sequence[int]) -> float:
        return hypervolume(self._points(members), self._terrain.reference)

"""The cheapest ranks of one shape for an error: exact, by dynamic programming over its cuts.

The squared error of a TT-SVD is at most the sum of the tail energies of its cuts (docs/glossary.md), and a cost of
cores couples neighbouring ranks only. A label is a choice of all ranks up to a cut; of labels with the same rank there,
one that is better in energy and cost beats another whatever follows. Labels that cannot come below a known solution
with the least ranks that may follow are dropped too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

CoreCost = Callable[[int, IntArray, IntArray], FloatArray]
"""What core k = 0, 1, ... costs with ranks `left` and `right` (arrays, broadcast); never falling in either."""


def weighted_cost(weights: Sequence[int]) -> CoreCost:
    """The cost left * right * weights[k]: parameters with weights m_k n_k, FLOPs with those of the stages."""

    def cost(core: int, left: IntArray, right: IntArray) -> FloatArray:
        return np.asarray(left * right * float(weights[core]))

    return cost


def cheapest_ranks(
    tails: Sequence[FloatArray], sizes: Sequence[int], choices: Sequence[IntArray], cost: CoreCost, *, energy: float
) -> tuple[int, ...] | None:
    """The inner ranks of the least summed cost whose tails sum up to at most `energy`; None where there are none.

    tails[k][r] is what rank r discards at cut k, never rising; `sizes` are the m_k n_k of the cores, `choices` the
    ranks that each cut may have, ascending. No rank is larger than its neighbour times the size of the core between
    them: no decomposition fills such a one. Of tuples that cost the same, the one with the least tails.
    """
    # A rank whose own cut discards more than is allowed is in no solution.
    usable = [np.asarray(some[tail[some] <= energy], dtype=np.int64) for tail, some in zip(tails, choices, strict=True)]
    if any(not some.size for some in usable):
        return None
    problem = _Problem(tails, sizes, usable, cost, energy)
    labels = _Labels(np.zeros(1, np.int64), np.zeros(1), np.zeros(1), None, np.zeros(1, np.int64))
    for cut in range(len(tails)):
        labels = _extended(problem, labels, cut)
        if not labels.places.size:
            return None
    # The last core's right rank is 1, so its cost follows from the label alone.
    final = labels.costs + problem.core_costs[-1][labels.places, 0]
    path = labels.path(int(np.lexsort((labels.energies, final))[0]))
    return tuple(int(some[place]) for some, place in zip(usable, path, strict=True))


@dataclass(frozen=True)
class _Labels:
    """Partial choices: the last rank by its place, energy and cost so far, and the label that each one goes on from."""

    places: IntArray
    energies: FloatArray
    costs: FloatArray
    before: _Labels | None
    parents: IntArray

    def path(self, i: int) -> tuple[int, ...]:
        """The places of the ranks of a label, first cut first."""
        found: list[int] = []
        labels: _Labels | None = self
        while labels is not None and labels.before is not None:
            found.append(int(labels.places[i]))
            labels, i = labels.before, int(labels.parents[i])
        return tuple(reversed(found))


class _Problem:
    """The task, with a solution to beat and with what an end must cost at least.

    Both come from prices of energy: the chain that is cheapest in cost + price * energy is found cut by cut, backwards.
    Whatever the price, cost + price * (energy - what is allowed) of its end is no more than what any allowed end
    costs; and where the chain is itself allowed, it is a solution.
    """

    def __init__(
        self,
        tails: Sequence[FloatArray],
        sizes: Sequence[int],
        usable: Sequence[IntArray],
        cost: CoreCost,
        energy: float,
    ) -> None:
        self.tails, self.sizes, self.usable, self.cost, self.energy = tails, sizes, usable, cost, energy
        self.core_costs = [self._core(core) for core in range(len(sizes))]
        self.known = inf
        self._ends: list[tuple[float, list[FloatArray]]] = [(0.0, self._backwards(0.0))]
        self._find_price()

    def rest(self, cut: int, which: IntArray, energies: FloatArray) -> FloatArray:
        """What the cores behind `cut` cost at least, for ranks by index and the energies of all cuts up to it."""
        spare = self.energy - energies + _ROUNDING_ENERGY
        # Lagrange bounds: for any price, cost + price x (energy - allowed) is no more than the cost of an allowed end;
        # the best of the known prices counts.
        return np.asarray(np.maximum.reduce([ends[cut][which] - price * spare for price, ends in self._ends]))

    def _core(self, core: int) -> FloatArray:
        """The costs of one core [left ranks, right ranks]; infinite where one rank is too large beside the other."""
        one = np.ones(1, dtype=np.int64)
        left = self.usable[core - 1] if core else one
        right = self.usable[core] if core < len(self.tails) else one
        costs = np.broadcast_to(self.cost(core, left[:, None], right), (left.size, right.size))
        size = self.sizes[core]
        return np.where((right <= left[:, None] * size) & (left[:, None] <= right * size), costs, inf)

    def _backwards(self, price: float) -> list[FloatArray]:
        """The least cost + price * energy of all that is behind a cut, by cut, for each of its ranks."""
        ends = [self.core_costs[-1][:, 0]]
        for cut in reversed(range(len(self.tails))):
            # Backwards, so that ends[cut] holds for every rank of the cut what follows at least.
            values = ends[0] + price * self.tails[cut][self.usable[cut]]
            ends.insert(0, np.min(self.core_costs[cut] + values, axis=1))
        return ends[1:]

    def _find_price(self) -> None:
        """Bisect for the price at which the cheapest chain uses the energy up; remember the last bounds."""
        cheapest = float(np.min(self.core_costs[0] + self._ends[0][1][0]))
        if cheapest == inf:  # no chain at all is allowed
            return
        low, high = 0.0, (cheapest + 1.0) / max(self.energy, 1e-6)
        for _ in range(_GROWTHS):
            if self._try(high):
                break
            low, high = high, high * 8
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._try(middle) else (middle, high)

    def _try(self, price: float) -> bool:
        """Whether the cheapest chain at this price is allowed."""
        ends = self._backwards(price)
        at, energy, cost, path = 0, 0.0, 0.0, []
        for cut in range(len(self.tails)):
            following = self.core_costs[cut][at] + price * self.tails[cut][self.usable[cut]] + ends[cut]
            before, at = at, int(np.argmin(following))
            energy, cost = (
                energy + float(self.tails[cut][self.usable[cut][at]]),
                cost + self.core_costs[cut][before, at],
            )
            path.append(at)
        if energy <= self.energy:
            self.known = min(self.known, float(cost + self.core_costs[-1][at, 0]))
        # The bounds at price 0 stay (they hold whatever the energy), beside those of the last price tried.
        self._ends = [self._ends[0], (price, ends)]
        return energy <= self.energy


_GROWTHS, _BISECTIONS = 12, 12
"""Steps towards a price that is high enough, and back to the right one: more of these found no better bounds."""

_AT_ONCE = 1 << 20
"""Pairs of labels and ranks that are looked at together."""


def _extended(problem: _Problem, labels: _Labels, cut: int) -> _Labels:
    """The labels with a rank for `cut` more."""
    count = problem.usable[cut].size
    step = max(1, _AT_ONCE // max(1, labels.places.size))
    parts = [_grown(problem, labels, cut, np.arange(i, min(i + step, count))) for i in range(0, count, step)]
    places, energies, costs, parents = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = _undominated(places, energies, costs)
    return _Labels(places[kept], energies[kept], costs[kept], labels, parents[kept])


def _grown(
    problem: _Problem, labels: _Labels, cut: int, places: IntArray
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Labels with each of these ranks, as far as they can lead to a solution: places, energies, costs, parents."""
    energies = labels.energies[:, None] + problem.tails[cut][problem.usable[cut][places]]
    costs = labels.costs[:, None] + problem.core_costs[cut][labels.places][:, places]
    whole = costs + problem.rest(cut, np.broadcast_to(places, costs.shape), energies)
    fits = (energies <= problem.energy) & (whole <= problem.known * (1 + _ROUNDING)) & (whole < inf)
    parents, which = np.nonzero(fits)
    return places[which], energies[fits], costs[fits], parents


_ROUNDING, _ROUNDING_ENERGY = 1e-9, 1e-12
"""What sums of costs, relatively, and of energies, which are shares, may be off."""


def _undominated(places: IntArray, energies: FloatArray, costs: FloatArray) -> IntArray:
    """Labels that no other with the same rank is as good as, one of each set of equals."""
    # By rank, then energy, then cost: within a rank a label is kept where it is cheaper than all with less energy.
    order = np.lexsort((costs, energies, places))
    kept = np.zeros(places.size, dtype=np.bool_)
    bounds = np.searchsorted(places[order], np.unique(places))
    for group in np.split(order, bounds[1:]):
        least = np.minimum.accumulate(costs[group])
        kept[group] = np.concatenate([[True], costs[group][1:] < least[:-1]])[: group.size]
    return np.flatnonzero(kept)

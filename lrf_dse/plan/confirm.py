"""Which plans are frozen to be confirmed, in which order, and what came of it: a drop budget on data nobody saw.

The search has picked its plans because they lost little on the samples it saw, so there they look better than they are.
At most five of them are frozen and judged on samples that chose nothing. Each is tested for itself at 5 %, the one most
likely to pass first, and the first that fails ends the tests: in such a fixed sequence the chance to confirm even one
plan that breaks the budget is 5 % in all, so nothing has to be shared out between the five (Maurer, Hothorn, Lehmacher,
in: Biometrie in der chemisch-pharmazeutischen Industrie 6, 1995; Holm's correction would ask for twice the samples).
Pure: what a drop and its bounds are is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import erf, sqrt

from lrf_dse.judged import Accuracy, Confirmation

MOST_FROZEN = 5
"""Plans that confirmation data judges. More would hardly be confirmed: each test needs all before it to pass."""

DEVIATIONS = 1.6449
"""The normal deviate of a one-sided bound of 95 %."""


_TWO_SIDED = 1.96
"""The normal deviate of a two-sided interval of 95 %, as accuracies have it."""


def confirmable_drop(found: Accuracy, samples: int) -> float:
    """About the upper bound that a confirmation on so many `samples` would give: the drop, and what their number adds.

    Two plans that lose nothing in the search differ in how many answers they change, and so in what can be
    confirmed of them. A gain counts as no drop.
    """
    # The half-width of a two-sided interval, made that of a one-sided bound, and scaled with the root of the samples.
    half = max(0.0, found.drop_high - found.drop) * DEVIATIONS / _TWO_SIDED
    return max(0.0, found.drop) + half * sqrt(found.samples / samples)


@dataclass(frozen=True)
class Prospect:
    """A plan before it is confirmed: what it gains, and its drop with a deviation on the search's `samples`.

    `gain` is above 0 where the plan is better than dense in what the user asked for.
    """

    gain: float
    drop: float
    deviation: float
    samples: int


def chance(prospect: Prospect, budget: float, samples: int) -> float:
    """The chance that the upper bound of its drop on other `samples` is within `budget`, by normal distributions.

    >>> round(chance(Prospect(1.0, 0.0, 0.5, 400), 1.0, 400), 2)
    0.6
    """
    own = prospect.deviation
    later = own * sqrt(prospect.samples / samples)
    # Two independent samples: the search's drop is as uncertain as the later one, so their variances add up.
    spread = sqrt(own**2 + later**2)
    margin = budget - prospect.drop - DEVIATIONS * later
    return 0.5 * (1 + erf(margin / spread / sqrt(2))) if spread else float(margin >= 0)


def freeze(prospects: Sequence[Prospect], budget: float, samples: int) -> tuple[int, ...]:
    """Indices of at most MOST_FROZEN prospects, the likeliest to be confirmed first.

    They are those that together promise the most gain, where a plan is confirmed if all before it are: the sum over k
    of the chance that the k-th is the last confirmed, times its gain. A plan that gains less than a likelier one is
    never frozen.
    """
    chances = [chance(prospect, budget, samples) for prospect in prospects]
    # The fixed sequence: decided before any of the later samples is looked at.
    order = sorted(range(len(prospects)), key=lambda i: (-chances[i], -prospects[i].gain, i))
    steps: list[int] = []
    for i in order:
        if prospects[i].gain > max([0.0, *(prospects[j].gain for j in steps)]):
            steps.append(i)
    # promised[k]: the most that a sequence ending at steps[k] promises, and that sequence; longer by one each time.
    promised: list[tuple[float, tuple[int, ...]]] = [(chances[i] * prospects[i].gain, (i,)) for i in steps]
    found = list(promised)
    for _ in range(MOST_FROZEN - 1):
        longer: list[tuple[float, tuple[int, ...]]] = []
        for k, i in enumerate(steps):
            grown = [
                (promise + chances[i] * (prospects[i].gain - prospects[taken[-1]].gain), (*taken, i))
                for promise, taken in promised[:k]
                if taken
            ]
            # Sequences grow by one step at a time: dynamic programming over which step is the last.
            longer.append(max(grown, default=(0.0, ())))
        promised = longer
        found += promised
    return max(found, key=lambda item: (item[0], -len(item[1])))[1] if found else ()


def in_sequence(tested: Sequence[Confirmation]) -> tuple[Confirmation, ...]:
    """What is confirmed: the plans up to the first that does not hold the budget; numbered in that order."""
    numbered = []
    unbroken = True
    for order, result in enumerate(tested, start=1):
        # After the first failure nothing is confirmed any more, whatever its own bound says: this keeps the 5 % for all
        # together.
        unbroken = unbroken and result.holds
        numbered.append(replace(result, order=order, confirmed=unbroken))
    return tuple(numbered)

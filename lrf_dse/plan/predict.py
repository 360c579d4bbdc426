"""What a whole model is predicted to lose: its layers' losses added up, corrected by every whole model that was judged.

A first prediction adds up what each layer loses alone. Whole models lose more (errors meet) or less (later layers are
corrected), so two numbers are fitted to what was measured:
    loss = s sum_i l_i + t sqrt(sum_{i != j} l_i l_j)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from lrf_dse.front.pareto import FloatArray
from lrf_dse.plan.options import Combination

_NOISE = 0.1
"""Points by which two losses differ for nothing; deviations are relative only above it."""


@dataclass(frozen=True)
class Prediction:
    """One measured combination: the sum of its layers' losses, what was predicted when it was picked, what it is."""

    combination: Combination
    summed: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class Correction:
    """(s, t) of the formula above, and the relative `deviation` of what was measured from it."""

    scale: float = 1.0
    meeting: float = 0.0
    deviation: float = 0.0

    def loss(self, member: Combination, *, hope: float = 0.0) -> float:
        """The predicted loss of `member`, less `hope` deviations; never negative."""
        predicted = max(0.0, self.scale * member.loss + self.meeting * meeting(member))
        return max(0.0, predicted - hope * self.deviation * (predicted + _NOISE))


def meeting(member: Combination) -> float:
    """The root of the sum over pairs of layers of the product of their losses: 0 where one layer alone loses."""
    # (sum l)^2 - sum l^2 is the sum over pairs; rounding may leave it a little below 0.
    return sqrt(max(0.0, member.loss**2 - sum(option.loss**2 for option in member.options)))


def rate_at(loss: float, wholes: FloatArray, summed: Sequence[float], count: int) -> float:
    """What whole models lose for each point that their layers add up to, by the `count` of them nearest to `loss`.

    `wholes` [n] are their losses as wholes. In steps of 5 %, which let a solved program serve several rounds.
    """
    sums = np.array(summed)
    near = sums > 0
    if not near.any():
        return 1.0
    # The ratio is not the same at all losses, so the models near the wanted loss tell it.
    at = np.argsort(np.abs(wholes[near] - loss), kind="stable")[:count]
    rate = max(0.05, float(np.median(wholes[near][at] / sums[near][at])))
    return float(1.05 ** np.ceil(np.log(rate) / np.log(1.05) - 1e-9))


def fitted(known: Sequence[Prediction]) -> Correction:
    """(s, t) by least squares, drawn toward (1, 0): what one or two plans say is not yet a law.

    Residuals are relative for large losses: to tell 30 points from 40 is of no use.
    """
    rows = np.array([(p.summed, meeting(p.combination)) for p in known]).reshape(-1, 2)
    # The half point keeps models that lose nothing from deciding all.
    weights = 1.0 / (0.5 + rows[:, 0])
    a, b = rows * weights[:, None], np.array([p.measured for p in known]) * weights
    # Ridge regression around the prior (1, 0): the identity and the vector on the right are the prior's.
    s, t = np.linalg.solve(a.T @ a + np.eye(2), a.T @ b + np.array([1.0, 0.0]))
    found = Correction(max(0.05, float(s)), float(t))
    off = [(p.measured - (loss := found.loss(p.combination))) / (loss + _NOISE) for p in known]
    return replace(found, deviation=min(1.0, float(np.sqrt(np.mean(np.square(off)))))) if off else found

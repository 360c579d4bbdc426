"""Which combinations to measure as wholes, learnt from those that were: predict, measure, correct, until nothing moves.

A first prediction adds up what each layer loses alone. Whole models lose more (errors meet) or less (later layers are
corrected), so after every round two numbers are fitted to what was measured:
    loss = s sum_i l_i + t sqrt(sum_{i != j} l_i l_j)
and the combinations that look best then are measured next. Pure: to measure is the caller's function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from lrf_dse.plan.options import NO_LIMITS, Combination, LayerOption, Limits
from lrf_dse.plan.select import finalists_of, pool_of

SLACK = 1.5
"""A prediction may exceed the largest loss by this factor and is still worth measuring."""

Measure = Callable[[Combination], float]


@dataclass(frozen=True)
class Prediction:
    """One measured combination: the sum of its layers' losses, what was predicted when it was picked, what it is."""

    combination: Combination
    summed: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class Search:
    """The finalists, every prediction that was measured, and whether the last round picked nothing new."""

    finalists: tuple[Combination, ...]
    predictions: tuple[Prediction, ...]
    rounds: int
    stable: bool


def search(
    layers: Sequence[Sequence[LayerOption]],
    count: int,
    *,
    measure: Measure,
    evaluations: int,
    max_loss: float | None = None,
    within: Limits = NO_LIMITS,
) -> Search:
    """About `count` finalists (see `finalists_of`), by at most `evaluations` measured losses.

    Ends when all that would be picked were measured, or the evaluations are spent; those not measured then stand with
    their corrected prediction. Plans that are predicted to be `within` the limits of size and latency come first.
    """
    pool = pool_of(layers, within=within)
    found: dict[int, Prediction] = {}
    rounds = 0
    while True:
        scale, meeting = _correction(list(found.values()))
        losses = [
            found[i].measured if i in found else max(0.0, scale * member.loss + meeting * _meeting(member))
            for i, member in enumerate(pool)
        ]
        limits = [None if max_loss is None else max_loss * (1.0 if i in found else SLACK) for i in range(len(pool))]
        picked = finalists_of(pool, losses, count, limits=limits, within=within)
        new = [i for i in picked if i not in found and not pool[i].is_dense][: evaluations - len(found)]
        if not new:
            unmeasured = [i for i in picked if i not in found and not pool[i].is_dense]
            return Search(tuple(pool[i] for i in picked), tuple(found.values()), rounds, not unmeasured)
        rounds += 1
        for i in new:
            found[i] = Prediction(pool[i], pool[i].loss, losses[i], measure(pool[i]))


def _meeting(member: Combination) -> float:
    """The root of the sum over pairs of layers of the product of their losses: 0 where one layer alone loses."""
    return sqrt(max(0.0, member.loss**2 - sum(option.loss**2 for option in member.options)))


def _correction(known: Sequence[Prediction]) -> tuple[float, float]:
    """(s, t) by least squares, drawn toward (1, 0): what one or two plans say is not yet a law.

    Residuals are relative for large losses: to tell 30 points from 40 is of no use.
    """
    rows = np.array([(p.summed, _meeting(p.combination)) for p in known]).reshape(-1, 2)
    weights = 1.0 / (0.5 + rows[:, 0])
    a, b = rows * weights[:, None], np.array([p.measured for p in known]) * weights
    s, t = np.linalg.solve(a.T @ a + np.eye(2), a.T @ b + np.array([1.0, 0.0]))
    return max(0.05, float(s)), float(t)

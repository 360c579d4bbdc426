"""How large a drop may be, by one-sided bounds that also hold for few samples and few differences.

A bootstrap of 50 samples on which two models never differ says that the drop is 0.00 to 0.00. What it can say is "at
most 5 points". Where a metric counts rights and wrongs, the bounds here are Tango's score bounds for the difference of
two paired shares (Statistics in Medicine 17, 1998): the deviation is what it would be if the drop were as large as the
bound. Other metrics get Student's bounds of the linearised ratio. Samples that belong together count as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np

from lrf_dse.models.metrics import Floats, Metric, Scores, summed
from lrf_dse.models.parts import Units

BOUNDS_VERSION = 2
"""To be raised whenever bounds change for the same outputs and targets."""

CONFIDENCE = 0.95
"""Of each of the two bounds by itself."""

FEW_DIFFERENCES = 10
"""Units that differ, below which Student's bounds are not believed: the largest difference that could be counts too."""

POWER = 0.84
"""The normal deviate of 80 %: with the samples that are asked for, four of five tries decide."""

MOST_NEEDED = 10_000_000
"""More samples than this are not asked for: the drop lies on the budget."""


@dataclass(frozen=True)
class Bounds:
    """A drop in the metric's drop unit over `samples` samples; each bound alone holds with 95% confidence."""

    drop: float
    low: float
    high: float
    samples: int

    @property
    def deviation(self) -> float:
        """The standard deviation of the drop that the upper bound stands for, in the drop's unit."""
        return max(0.0, self.high - self.drop) / _normal_deviate()

    def samples_to_decide(self, budget: float) -> int | None:
        """About how many samples would tell whether the drop is within `budget`, were it what was measured.

        None where it lies so near to the budget that no number in reach would.
        """
        gap = abs(budget - self.drop)
        if not gap:
            return None
        # The sample size of a one-sided z test: the deviation of a mean falls with the square root of the samples.
        needed = self.samples * ((_normal_deviate() + POWER) * self.deviation / gap) ** 2
        return max(self.samples, ceil(needed)) if needed <= MOST_NEEDED else None


def drop_bounds(dense: Scores, other: Scores, metric: Metric, *, scale: float | None, units: Units) -> Bounds:
    """The drop from `dense` to `other` over the same samples, with a one-sided bound of 95% on each side.

    `scale` is as `drop_between` has it; `units` [samples] says which samples belong together.
    """
    sign = -1.0 if metric.smaller_is_better else 1.0
    lost = sign * (dense.gained - other.gained)
    if metric.relative and scale is None:
        whole, factor = np.abs(dense.gained), 100.0
    else:
        whole, factor = dense.possible, 100.0 / (abs(scale or 1.0) or 1.0) if metric.relative else 1.0
    if _counts(lost, whole, metric):
        wrong = whole - dense.gained / 100.0
        low, high = _counted(lost / 100.0, whole, units, wrong=wrong)
        low, high = 100.0 * low, 100.0 * high
    else:
        by_unit = summed(np.stack([lost, whole], axis=1), units)
        low, high = (factor * bound for bound in _linearised(by_unit))
    total = float(whole.sum()) or 1.0
    return Bounds(factor * float(lost.sum()) / total, low, high, len(lost))


def fewest_samples(metric: Metric, budget: float) -> int | None:
    """How many samples without one difference confirm a drop within `budget`; None where the metric does not count.

    The bound of no differences among n is z^2 / (n + z^2).
    """
    if metric.unit != "%" or metric.relative or budget <= 0:
        return None
    # z^2 / (n + z^2) <= budget / 100, solved for n.
    return ceil(_normal_deviate() ** 2 * max(0.0, 100.0 / budget - 1.0))


def _counts(lost: Floats, whole: Floats, metric: Metric) -> bool:
    """Whether shares count right answers: percent, of one or more answers a sample."""
    counts = np.concatenate([lost / 100.0, whole])
    return metric.unit == "%" and not metric.relative and bool(np.allclose(counts, np.round(counts), atol=1e-6))


def _counted(lost: Floats, whole: Floats, units: Units, *, wrong: Floats) -> tuple[float, float]:
    """Tango's bounds of the share of answers lost, with counts divided by the units' design effect (Rao, Scott, 1992).

    Where nothing differs, the dense model's `wrong` answers say how much samples of a unit resemble each other.
    """
    worse, better, n = float(lost.clip(0).sum()), float((-lost).clip(0).sum()), float(whole.sum())
    effect = max(1.0, _design_effect(lost if lost.any() else wrong, whole, units))
    worse, better, n = worse / effect, better / effect, n / effect
    z = _normal_deviate()
    return (
        _crossing(lambda delta: _score(worse, better, n, delta) - z, -1.0, (worse - better) / n),
        _crossing(lambda delta: _score(worse, better, n, delta) + z, (worse - better) / n, 1.0),
    )


def _design_effect(lost: Floats, whole: Floats, rows: Units) -> float:
    """The factor by which units make the variance larger than that of independent answers.

    Where nothing is lost it is not known, and is taken to be the size of the largest unit.
    """
    by_unit = summed(np.stack([lost, whole], axis=1), rows)
    units, n = len(by_unit), float(whole.sum())
    if units < 2:
        return n
    if not lost.any():
        return float(by_unit[:, 1].max())
    share = float(lost.sum()) / n
    alone = (float(np.abs(lost).sum()) / n - share**2) * n / (n - 1)  # of answers that do not know of each other
    residuals = by_unit[:, 0] - share * by_unit[:, 1]
    together = float(residuals @ residuals) * units / (units - 1) / n
    return together / alone if alone > 0 else 1.0


def _score(worse: float, better: float, n: float, delta: float) -> float:
    """Tango's score statistic of the hypothesis that the difference is `delta`; it falls with `delta`."""
    # Tango's A, B and C; `rare` is his q21, the most likely share of better answers if the drop were `delta`.
    a, b = 2 * n, -worse - better + (2 * n - worse + better) * delta
    c = -better * delta * (1 - delta)
    rare = max(0.0, (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a))
    variance = n * max(0.0, 2 * rare + delta * (1 - delta))
    excess = worse - better - n * delta
    return excess / sqrt(variance) if variance > 0 else (inf if excess > 0 else -inf if excess < 0 else 0.0)


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function becomes negative, by bisection."""
    # An interval of at most 2, halved 60 times, is below the resolution of doubles near 1.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) >= 0 else (low, middle)
    return (low + high) / 2


def _linearised(by_unit: Floats) -> tuple[float, float]:
    """Student's bounds of sum(lost) / sum(whole) (Cochran, Sampling Techniques, 1977, section 6.3)."""
    from scipy.stats import t

    units, total = len(by_unit), float(by_unit[:, 1].sum()) or 1.0
    ratio = float(by_unit[:, 0].sum()) / total
    if units < 2:
        return -inf, inf
    residuals = by_unit[:, 0] - ratio * by_unit[:, 1]
    deviation = sqrt(float(residuals @ residuals) * units / (units - 1)) / total
    half = float(t.ppf(CONFIDENCE, units - 1)) * deviation
    if np.count_nonzero(by_unit[:, 0]) < FEW_DIFFERENCES and by_unit[:, 0].any():
        # A unit may lose as much as it holds, and so rare a loss may not have been seen: the rule of three.
        # The rule of three is 3 / n at 95 %; z^2 / (n + z^2), with z^2 = 2.7, is the score bound of the same event.
        z = _normal_deviate()
        half += z * z / (units + z * z) * max(1.0, float(np.abs(by_unit[:, 0]).max()) * units / total)
    return ratio - half, ratio + half


def _normal_deviate() -> float:
    from scipy.stats import norm

    return float(norm.ppf(CONFIDENCE))

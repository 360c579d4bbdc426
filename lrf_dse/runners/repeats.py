"""How often a timing is repeated, and how the repeats are summed up. The functions are pure.

Wall times of a board are skewed (interrupts only ever add), so the headline is the median; it is stable when the
distribution-free confidence interval of the median is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 % of the normal distribution.
Z_95 = 1.96


@dataclass(frozen=True)
class RepeatPolicy:
    """When repeats stop: as soon as the median is known to within `spread` (relative), or at a limit.

    Every process first runs untimed for `warm_up_s`. A batch of repeats is one process, so that the median is also
    over the placement of its pages. `time_limit_s` bounds the timed repeats of one program.
    """

    min_repeats: int = 20
    max_repeats: int = 640
    spread: float = 0.01
    time_limit_s: float = 20.0
    warm_up_s: float = 0.2

    def __post_init__(self) -> None:
        if not 2 <= self.min_repeats <= self.max_repeats:
            raise ValueError(f"2 <= min_repeats <= max_repeats must hold, got {self}")
        if min(self.spread, self.time_limit_s) <= 0 or self.warm_up_s < 0:
            raise ValueError(f"spread and limits must be positive, got {self}")


@dataclass(frozen=True)
class Summary:
    """Minimum, median, and the width of the median's 95% confidence interval over the median."""

    minimum: float
    median: float
    spread: float


def summarise(samples: Sequence[float]) -> Summary:
    """The summary of at least two positive samples.

    The interval is between order statistics, from the binomial distribution of how many samples lie below the
    median (Conover, Practical Nonparametric Statistics, section 3.2, normal approximation).

    >>> summarise([3.0, 1.0, 2.0])
    Summary(minimum=1.0, median=2.0, spread=1.0)
    """
    ordered, n = sorted(samples), len(samples)
    # The number of samples below the median has mean n/2 and standard deviation sqrt(n)/2; both are doubled here. Ranks
    # count from 1, as in the book.
    half_width = Z_95 * math.sqrt(n)
    low = max(1, math.floor((n - half_width) / 2))
    high = min(n, math.ceil(1 + (n + half_width) / 2))
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Summary(ordered[0], median, (ordered[high - 1] - ordered[low - 1]) / median)


def next_batch(samples: Sequence[float], *, elapsed_s: float, policy: RepeatPolicy) -> int:
    """The number of repeats to take next, 0 when there are enough. Each batch doubles the number of samples."""
    count = len(samples)
    if count == 0:
        return policy.min_repeats
    if elapsed_s >= policy.time_limit_s or count >= policy.max_repeats or is_stable(samples, policy):
        return 0
    # The interval narrows with the square root of the number, so a few more samples would hardly change it.
    return min(count, policy.max_repeats - count)


def is_stable(samples: Sequence[float], policy: RepeatPolicy) -> bool:
    """Whether there are enough samples and the median is known to `policy.spread`."""
    return len(samples) >= policy.min_repeats and summarise(samples).spread <= policy.spread

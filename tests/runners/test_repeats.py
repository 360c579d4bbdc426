"""When a timing is stable, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.runners.repeats import RepeatPolicy, is_stable, next_batch, summarise

SAMPLES = st.lists(st.floats(1e-7, 1e3), min_size=2, max_size=200)


@given(samples=SAMPLES)
def test_a_summary_is_of_the_samples(samples: list[float]) -> None:
    summary = summarise(samples)
    assert summary.minimum == min(samples)
    assert summary.median == pytest.approx(float(np.median(samples)))
    assert 0 <= summary.spread <= (max(samples) - min(samples)) / summary.median * (1 + 1e-9)
    scaled = summarise([sample * 4 for sample in reversed(samples)])
    assert (scaled.median, scaled.spread) == pytest.approx((summary.median * 4, summary.spread))


@pytest.mark.parametrize("count", [20, 41, 200])
def test_the_interval_holds_the_true_median_in_95_of_100_cases(count: int) -> None:
    """For skewed samples, as of a board: a lognormal has median 1."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        samples = np.sort(random.lognormal(sigma=0.5, size=count))
        summary = summarise(list(samples))
        # The interval's ends are order statistics: find the pair that the spread names.
        half = 1.96 * count**0.5
        low, high = max(1, int((count - half) // 2)), min(count, int(-(-(1 + (count + half) / 2) // 1)))
        assert summary.spread == pytest.approx((samples[high - 1] - samples[low - 1]) / summary.median)
        held += samples[low - 1] <= 1 <= samples[high - 1]
    assert 930 <= held <= 999


@given(samples=st.lists(st.floats(1, 2), max_size=50), elapsed_s=st.floats(0, 100))
def test_batches_end_and_keep_to_the_policy(samples: list[float], elapsed_s: float) -> None:
    policy = RepeatPolicy(min_repeats=4, max_repeats=30, spread=0.05, time_limit_s=50)
    while (batch := next_batch(samples, elapsed_s=elapsed_s, policy=policy)) > 0:
        assert elapsed_s < policy.time_limit_s or not samples
        assert len(samples) + batch <= policy.max_repeats
        samples = samples + [1.0 + len(samples) % 2] * batch
    stopped = is_stable(samples, policy) or elapsed_s >= policy.time_limit_s or len(samples) >= policy.max_repeats
    assert samples and stopped


def test_a_stable_median_needs_no_more_and_an_unstable_one_does() -> None:
    policy = RepeatPolicy(min_repeats=20, max_repeats=640, spread=0.01)
    assert next_batch([1.0] * 20, elapsed_s=0, policy=policy) == 0
    assert next_batch([1.0, 1.1] * 10, elapsed_s=0, policy=policy) == 20
    assert next_batch([1.0] * 19, elapsed_s=0, policy=policy) == 19, "too few, however alike"


@pytest.mark.parametrize("bad", [{"min_repeats": 1}, {"max_repeats": 5}, {"spread": 0.0}, {"warm_up_s": -1.0}])
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RepeatPolicy(**bad)  # type: ignore[arg-type]

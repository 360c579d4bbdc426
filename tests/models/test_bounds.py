"""Bounds of a drop: right with few samples, few differences and samples that belong together."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_dse.models.bounds import Bounds, drop_bounds, fewest_samples
from lrf_dse.models.metrics import METRICS, Scores, drop_between
from lrf_dse.models.parts import Units


def top1(right: list[bool] | np.ndarray) -> Scores:
    gained = 100.0 * np.asarray(right, float)
    return Scores(gained, np.ones(len(gained)))


def alone(samples: int) -> Units:
    return np.arange(samples, dtype=np.int64)


@pytest.mark.parametrize("samples", [20, 50, 400])
def test_no_difference_on_few_samples_is_not_no_drop(samples: int) -> None:
    same = top1(np.ones(samples, bool))
    found = drop_bounds(same, same, METRICS["top1"], scale=None, units=alone(samples))
    assert found.drop == 0.0
    assert found.high == pytest.approx(100 * 2.706 / (samples + 2.706), rel=0.01)  # z^2 / (n + z^2): Wilson's
    assert found.low == pytest.approx(-found.high)


@pytest.mark.parametrize(("worse", "better", "samples"), [(1, 0, 43), (9, 3, 200), (2, 6, 80), (0, 4, 60)])
def test_bounds_are_where_the_score_statistic_is_at_its_quantile(worse: int, better: int, samples: int) -> None:
    """Against the restricted likelihood, maximised on a grid (Tango 1998, equations 3 to 5)."""
    dense, other = np.ones(samples, bool), np.ones(samples, bool)
    other[:worse] = False
    dense[worse : worse + better] = False
    found = drop_bounds(top1(dense), top1(other), METRICS["top1"], scale=None, units=alone(samples))
    for bound, sign in ((found.low / 100, 1), (found.high / 100, -1)):
        rare = np.linspace(max(0.0, -bound), (1 - bound) / 2, 2_000_001)[1:-1]  # better; worse is larger by the bound
        same = samples - worse - better
        with np.errstate(divide="ignore"):
            likelihood = worse * np.log(rare + bound) + better * np.log(rare) + same * np.log1p(-2 * rare - bound)
        best = rare[int(np.argmax(likelihood))]
        deviation = np.sqrt(samples * (2 * best + bound - bound**2))
        assert (worse - better - samples * bound) / deviation == pytest.approx(sign * 1.6449, rel=2e-3)


@pytest.mark.parametrize("drop", [0.3, 1.0, 3.0])
def test_the_upper_bound_is_broken_by_one_in_twenty(drop: float) -> None:
    random = np.random.default_rng(7)
    broken, tries, samples = 0, 400, 700
    for _ in range(tries):
        lost = random.random(samples)
        dense = lost > 0.01  # 1 % gained
        other = ~((lost > 0.01) & (lost < 0.02 + drop / 100))
        found = drop_bounds(top1(dense), top1(other), METRICS["top1"], scale=None, units=alone(samples))
        broken += found.high < drop
    assert broken / tries < 0.085


def test_samples_that_belong_together_count_as_one() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    other = np.repeat(random.random(40) > 0.1, 10)
    dense = np.ones(400, bool)
    apart, together = (
        drop_bounds(top1(dense), top1(other), METRICS["top1"], scale=None, units=units)
        for units in (alone(400), group.astype(np.int64))
    )
    assert apart.drop == together.drop
    assert together.high - together.drop > 2.5 * (apart.high - apart.drop)
    by_hand = drop_bounds(top1(dense[::10]), top1(other[::10]), METRICS["top1"], scale=None, units=alone(40))
    assert together.high == pytest.approx(by_hand.high, rel=0.1)


def test_other_metrics_get_students_bounds_and_agree_with_the_bootstrap() -> None:
    random = np.random.default_rng(3)
    squares = random.gamma(2.0, size=900) * 784
    dense, other = (
        Scores(squares, np.full(900, 784.0)),
        Scores(squares * random.normal(1.05, 0.1, 900), np.full(900, 784.0)),
    )
    metric = METRICS["mse"]
    found = drop_bounds(dense, other, metric, scale=None, units=alone(900))
    wanted = drop_between(dense, other, metric, seed=0)
    assert found.drop == pytest.approx(wanted.value)
    assert found.high - found.drop == pytest.approx((wanted.high - wanted.value) * 1.645 / 1.96, rel=0.15)
    fixed = drop_bounds(dense, other, metric, scale=2.0, units=alone(900))
    assert fixed.drop == pytest.approx(drop_between(dense, other, metric, seed=0, scale=2.0).value)


def test_one_unit_says_nothing() -> None:
    same = top1(np.ones(30, bool))
    found = drop_bounds(same, same, METRICS["top1"], scale=None, units=np.zeros(30, np.int64))
    assert found.high > 70
    values = Scores(np.arange(1.0, 31.0), np.ones(30))
    assert drop_bounds(values, values, METRICS["mse"], scale=None, units=np.zeros(30, np.int64)).high == np.inf


def test_how_many_samples_would_decide() -> None:
    found = Bounds(drop=0.5, low=-0.3, high=1.3, samples=400)
    needed = found.samples_to_decide(1.0)
    assert needed is not None and needed == pytest.approx(400 * (2.485 * found.deviation / 0.5) ** 2, rel=0.01)
    assert needed > 1000
    assert found.samples_to_decide(0.5) is None
    assert found.samples_to_decide(0.5001) is None, "more than can be had"
    assert found.samples_to_decide(50.0) == 400


def test_what_so_few_samples_can_never_confirm() -> None:
    fewest = fewest_samples(METRICS["top1"], 1.0)
    assert fewest == 268
    for samples, within in ((fewest, True), (fewest - 1, False)):
        same = top1(np.ones(samples, bool))
        found = drop_bounds(same, same, METRICS["top1"], scale=None, units=alone(samples))
        assert (found.high <= 1.0) == within
    assert fewest_samples(METRICS["mse"], 1.0) is None
    assert fewest_samples(METRICS["top1"], 0.0) is None
    assert fewest_samples(METRICS["top1"], 200.0) == 0

"""Freezing and confirming: at most five, safest first, and the chance of any wrong one stays at 5 %."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.judged import Confirmation
from lrf_dse.plan.budgets import Budgets, confirmation_sentence, over_budget
from lrf_dse.plan.confirm import MOST_FROZEN, Prospect, chance, freeze, in_sequence
from lrf_dse.schema import Plan

prospects = st.builds(
    Prospect, st.floats(-0.5, 3.0), st.floats(-1.0, 4.0), st.floats(0.05, 1.5), st.integers(100, 2000)
)


def promise(chosen: tuple[int, ...], known: list[Prospect], budget: float, samples: int) -> float:
    """What a sequence promises: each plan's step in gain times the chance that it is confirmed."""
    gains = [0.0, *(known[i].gain for i in chosen)]
    chances = [chance(known[i], budget, samples) for i in chosen]
    return sum(p * (after - before) for p, before, after in zip(chances, gains[:-1], gains[1:], strict=True))


@given(st.lists(prospects, max_size=9))
def test_the_five_promise_the_most_and_come_safest_first(known: list[Prospect]) -> None:
    frozen = freeze(known, 1.0, 700)
    chances = [chance(known[i], 1.0, 700) for i in frozen]
    assert len(frozen) <= MOST_FROZEN
    assert chances == sorted(chances, reverse=True)
    assert [known[i].gain for i in frozen] == sorted(known[i].gain for i in frozen)
    assert all(known[i].gain > 0 for i in frozen)
    ordered = sorted(range(len(known)), key=lambda i: (-chance(known[i], 1.0, 700), -known[i].gain, i))
    best = 0.0
    for size in range(1, MOST_FROZEN + 1):
        for chosen in combinations(ordered, size):
            gains = [known[i].gain for i in chosen]
            if gains == sorted(gains) and gains[0] > 0:
                best = max(best, promise(chosen, known, 1.0, 700))
    assert promise(frozen, known, 1.0, 700) == pytest.approx(best, abs=1e-9)


def test_a_plan_that_gains_less_than_a_safer_one_is_not_frozen() -> None:
    safe, useless, fast = Prospect(1.0, 0.0, 0.2, 700), Prospect(0.9, 0.3, 0.3, 700), Prospect(2.0, 0.5, 0.4, 700)
    assert freeze([useless, fast, safe], 1.0, 700) == (2, 1)
    assert freeze([], 1.0, 700) == ()
    assert freeze([Prospect(-0.1, 0.0, 0.2, 700)], 1.0, 700) == ()


def test_the_first_that_fails_ends_the_tests() -> None:
    holds, fails = Confirmation(holds=True, drop=0.1, high=0.5), Confirmation(holds=False, drop=0.9, high=1.4)
    found = in_sequence([holds, fails, holds])
    assert [c.confirmed for c in found] == [True, False, False]
    assert [c.order for c in found] == [1, 2, 3]


def test_the_chance_to_confirm_any_wrong_plan_is_five_percent() -> None:
    """Five plans that all lose a little more than the budget, judged on the same samples: independent is the worst."""
    random = np.random.default_rng(0)
    wrong, tries = 0, 4000
    for _ in range(tries):
        drops = 1.0001 + 0.3 * random.standard_normal(5)
        tested = [Confirmation(drop=d, high=d + 1.6449 * 0.3, holds=d + 1.6449 * 0.3 <= 1.0) for d in drops]
        wrong += any(c.confirmed for c in in_sequence(tested))
    assert wrong / tries < 0.062


def plan_of(*, drop_points: float = 0.0, confirmation: Confirmation | None = None) -> Plan:
    return Plan("p1", (), 100.0, "model", 100, 100, 100, 0.1, None, drop_points, confirmation=confirmation)


def test_only_confirmed_plans_keep_a_drop_budget() -> None:
    budgets = Budgets(max_drop=1.0)
    held = Confirmation(confirmed=True, order=1, drop=0.3, low=0.0, high=0.8, samples=700, holds=True)
    late = Confirmation(confirmed=False, order=3, drop=0.1, low=-0.2, high=0.5, samples=700, holds=True)
    wide = Confirmation(order=2, drop=0.6, low=-0.1, high=1.4, samples=700, needed=2100)
    assert budgets.admits(plan_of(drop_points=5.0, confirmation=held))
    for known in (late, wide, Confirmation()):
        assert not budgets.admits(plan_of(drop_points=0.0, confirmation=known))
    assert "about 2,100 such samples would decide" in (over_budget(plan_of(confirmation=wide), budgets) or "")
    assert "a plan more likely to hold the limit did not" in confirmation_sentence(late)
    assert "not among the plans" in confirmation_sentence(Confirmation())
    assert budgets.admits(plan_of(drop_points=0.5)), "where nothing was confirmed the search's drop counts"

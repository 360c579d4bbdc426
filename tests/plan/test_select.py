"""Whole-model composition against brute force, with limits and without."""

import numpy as np
import pytest
from hypothesis import given
from plan.options import LAYERS, LIMITS, everything, is_within, numbers, option

from lrf_dse.front.pareto import non_dominated
from lrf_dse.plan.options import LayerOption, Limits, shifted_to
from lrf_dse.plan.search import finalists
from lrf_dse.plan.select import SLACK, compose


@given(LAYERS)
def test_compose_is_the_exact_front(layers: list[list[LayerOption]]) -> None:
    whole = everything(layers)
    expected = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    found = compose(layers)
    assert [numbers(member) for member in found] == sorted(expected)
    assert all(choice in options for m in found for choice, options in zip(m.options, layers, strict=True))


@given(LAYERS, LIMITS)
def test_compose_within_limits_is_the_front_of_what_is_within_them(
    layers: list[list[LayerOption]], limits: Limits
) -> None:
    whole = [row for row in map(numbers, everything(layers)) if is_within(row, limits, SLACK)]
    expected = {whole[i] for i in non_dominated(whole)}
    assert [numbers(member) for member in compose(layers, within=limits)] == sorted(expected)


def test_limits_leave_room_where_a_front_is_thinned() -> None:
    """A thousand combinations cannot hold a front of six layers of twelve options; limits are kept all the same."""
    rng = np.random.default_rng(3)
    layers = [
        [option(r, *rng.integers(1, 1000, 2).tolist(), 1, float(rng.random())) for r in range(12)] for _ in range(6)
    ]
    exact = compose(layers, cap=200_000)
    limits = Limits(flash_bytes=float(np.quantile([member.flash_bytes for member in exact], 0.02)))
    within = [member.loss for member in exact if limits.admits(member)]
    found = [member.loss for member in compose(layers, within=limits) if limits.admits(member)]
    assert min(found) <= min(within) + 0.02 * np.ptp([member.loss for member in exact])


@given(LAYERS)
def test_shifted_options_make_up_the_dense_model_and_keep_differences(layers: list[list[LayerOption]]) -> None:
    dense, *others = everything(layers)
    again = everything(shifted_to(layers, latency=100, flash_bytes=1000, ram_bytes=50))
    assert numbers(again[0])[:3] == pytest.approx((100, 1000, 50))
    for before, after in zip(others, again[1:], strict=True):
        assert after.choices == before.choices
        assert after.latency - 100 == pytest.approx(before.latency - dense.latency)
        assert after.flash_bytes - 1000 == pytest.approx(before.flash_bytes - dense.flash_bytes)
        assert after.ram_bytes - 50 == pytest.approx(before.ram_bytes - dense.ram_bytes)


@given(LAYERS)
def test_a_capped_front_keeps_its_ends_and_invents_nothing(layers: list[list[LayerOption]]) -> None:
    whole = [numbers(member) for member in everything(layers)]
    found = [numbers(member) for member in compose(layers, cap=8)]
    assert len(found) <= 8
    assert set(found) <= set(whole)
    for k in range(4):
        assert min(row[k] for row in found) == min(row[k] for row in whole)


def test_a_capped_front_stays_near_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    layers = [
        [option(r, *rng.integers(1, 1000, 2).tolist(), 1, float(rng.random())) for r in range(6)] for _ in range(5)
    ]
    exact = np.array([numbers(member) for member in compose(layers, cap=100_000)])
    capped = np.array([numbers(member) for member in compose(layers, cap=60)])
    assert len(capped) <= 60 < len(exact)
    span = np.ptp(exact, axis=0) + 1e-9
    worst = max(((capped - row) / span).max(axis=1).min() for row in exact)
    assert worst < 0.25


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="dense option"):
        finalists([[option(3, 1, 1, 1, 1)]], 4)
    with pytest.raises(ValueError, match="at least one option"):
        compose([[]])
    with pytest.raises(ValueError, match="finite"):
        compose([[option(0, float("nan"), 1, 1, 1)]])
    with pytest.raises(ValueError, match="cap"):
        compose([[option(0, 1, 1, 1, 1)]], cap=3)

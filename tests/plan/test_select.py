"""Whole-model composition against brute force, with limits and without."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.plan.front import non_dominated
from lrf_dse.plan.options import Combination, LayerOption, Limits, shifted_to
from lrf_dse.plan.select import SLACK, compose, finalists
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate

LAYER = FcLayer("fc", 64, 64, 1, True)


def option(rank: int, latency: float, flash: int, ram: int, loss: float) -> LayerOption:
    """Rank 0 is the dense layer; other ranks only tell the candidates apart."""
    shape = TTShape((64, 1), (1, 64), (1, rank, 1)) if rank else None
    candidate = dense_candidate(LAYER) if shape is None else Candidate(LAYER, shape)
    return LayerOption(candidate, latency, flash, ram, loss)


NUMBERS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(-1, 5))
LAYERS = st.lists(st.lists(NUMBERS, min_size=1, max_size=3), min_size=1, max_size=4).map(
    lambda layers: [[option(rank, *numbers) for rank, numbers in enumerate(rows)] for rows in layers]
)


def numbers(member: Combination) -> tuple[float, ...]:
    return member.latency, member.flash_bytes, member.ram_bytes, member.loss


def everything(layers: list[list[LayerOption]]) -> list[Combination]:
    return [Combination(options) for options in itertools.product(*layers)]


@given(LAYERS)
def test_compose_is_the_exact_front(layers: list[list[LayerOption]]) -> None:
    whole = everything(layers)
    expected = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    found = compose(layers)
    assert [numbers(member) for member in found] == sorted(expected)
    assert all(choice in options for m in found for choice, options in zip(m.options, layers, strict=True))


LIMITS = st.builds(Limits, *[st.none() | st.integers(0, 24)] * 2, st.none() | st.integers(0, 3))


def is_within(row: tuple[float, ...], limits: Limits, slack: float = 1.0) -> bool:
    given = (limits.latency, limits.flash_bytes, limits.ram_bytes)
    return all(limit is None or value <= slack * limit for value, limit in zip(row[:3], given, strict=True))


@given(LAYERS, LIMITS)
def test_compose_within_limits_is_the_front_of_what_is_within_them(
    layers: list[list[LayerOption]], limits: Limits
) -> None:
    whole = [row for row in map(numbers, everything(layers)) if is_within(row, limits, SLACK)]
    expected = {whole[i] for i in non_dominated(whole)}
    assert [numbers(member) for member in compose(layers, within=limits)] == sorted(expected)


@given(LAYERS, LIMITS, st.integers(1, 12), st.none() | st.integers(-1, 8))
def test_finalists_hold_the_best_of_every_objective_within_the_limits(
    layers: list[list[LayerOption]], limits: Limits, count: int, max_loss: int | None
) -> None:
    """Whatever is wanted least of, the best combination within all limits is built and measured."""
    best = [row for row in map(numbers, everything(layers)) if is_within(row, limits)]
    best = [row for row in best if max_loss is None or row[3] <= max_loss]
    found = finalists(layers, count, max_loss=max_loss, within=limits)
    rows = [numbers(member) for member in found if is_within(numbers(member), limits)]
    rows = [row for row in rows if max_loss is None or row[3] <= max_loss]
    for objective in range(4) if best else ():
        assert min(row[objective] for row in rows) == min(row[objective] for row in best)


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


def test_a_hundred_layers_of_ten_options_take_seconds() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 10**6, (100, 10, 3)).tolist()
    losses = rng.random((100, 10)).tolist()
    layers = [[option(r, *sizes[k][r], losses[k][r]) for r in range(10)] for k in range(100)]
    start = time.process_time()  # not the wall's: others may be at work on this machine
    found = finalists(layers, 8)
    assert time.process_time() - start < 30
    assert len(found) == 8


@given(LAYERS, st.integers(1, 12), st.none() | st.integers(-1, 8))
@settings(max_examples=60)
def test_finalists_hold_the_reference_and_the_ends(
    layers: list[list[LayerOption]], count: int, max_loss: int | None
) -> None:
    whole = everything(layers)
    found = finalists(layers, count, max_loss=max_loss)
    assert found[0] == whole[0]  # option 0 of every layer is dense
    assert found[0].is_dense
    rest = [numbers(member) for member in found[1:]]
    assert len(set(rest)) == len(rest)
    compressed = [member for member in whole if not member.is_dense]
    if not compressed:
        assert len(found) == 1
        return
    assert min(row[3] for row in rest) == min(member.loss for member in compressed)
    front = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    if ends := [numbers(member) for member in compressed if numbers(member) in front - {numbers(whole[0])}]:
        assert min(row[0] for row in rest) <= min(row[0] for row in ends)
        assert min(row[1] for row in rest) <= min(row[1] for row in ends)
    assert len(found) <= max(count, 8)
    if max_loss is not None and count > 8:
        assert sum(row[3] > max_loss for row in rest) <= 3


def test_finalists_spread_within_the_loss_that_matters() -> None:
    layers = [[option(r, 100.0 - r, 1000 - 9 * r, 64, 0.01 * r**2) for r in range(60)]]
    wide = finalists(layers, 8)
    narrow = finalists(layers, 8, max_loss=1.0)
    assert sum(m.loss <= 1.0 for m in wide) < sum(m.loss <= 1.0 for m in narrow) == 7
    assert [m.latency for m in narrow[1:]] == sorted(m.latency for m in narrow[1:])


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="dense option"):
        finalists([[option(3, 1, 1, 1, 1)]], 4)
    with pytest.raises(ValueError, match="at least one option"):
        compose([[]])
    with pytest.raises(ValueError, match="finite"):
        compose([[option(0, float("nan"), 1, 1, 1)]])
    with pytest.raises(ValueError, match="cap"):
        compose([[option(0, 1, 1, 1, 1)]], cap=3)

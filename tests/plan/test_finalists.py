"""Finalists: the ends of the front, its spread, and nothing beyond the limits while others keep them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.options import LAYERS, LIMITS, everything, is_within, numbers, option

from lrf_dse.front.pareto import non_dominated
from lrf_dse.plan.options import Combination, LayerOption, Limits
from lrf_dse.plan.search import finalists, search

COUNTS = st.integers(1, 12)


def lost(member: Combination) -> float:
    return max(0.0, member.loss)


@given(LAYERS, LIMITS, COUNTS, st.none() | st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_the_best_of_every_objective_within_the_limits_is_a_finalist(
    layers: list[list[LayerOption]], limits: Limits, count: int, max_loss: int | None
) -> None:
    """Whatever is wanted least of, the best combination within all limits is built and measured."""

    def within(members: list[Combination]) -> list[tuple[float, ...]]:
        most = 100.0 if max_loss is None else max_loss
        kept = [m for m in members if is_within(numbers(m), limits) and lost(m) <= most and not m.is_dense]
        return [(*numbers(m)[:3], lost(m)) for m in kept]

    found = search(layers, count, measure=lost, evaluations=10**6, max_loss=max_loss, worst=100.0, within=limits)
    best, rows = within(everything(layers)), within(list(found.finalists))
    for objective in range(4) if best else ():
        assert min(row[objective] for row in rows) == min(row[objective] for row in best)
    assert not best or all(is_within(numbers(m), limits) for m in found.finalists[1:])


@given(LAYERS, COUNTS)
@settings(max_examples=60, deadline=None)
def test_predicted_finalists_hold_the_reference_and_the_ends(layers: list[list[LayerOption]], count: int) -> None:
    whole = everything(layers)
    found = finalists(layers, count, worst=100.0).finalists
    assert found[0] == whole[0]  # option 0 of every layer is dense
    assert found[0].is_dense
    rest = [numbers(member) for member in found[1:]]
    assert len(set(rest)) == len(rest)
    compressed = [member for member in whole if not member.is_dense]
    if not compressed:
        assert len(found) == 1
        return
    assert min(max(row[3], 0) for row in rest) == min(map(lost, compressed))
    front = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    if ends := [numbers(member) for member in compressed if numbers(member) in front - {numbers(whole[0])}]:
        assert min(row[0] for row in rest) <= min(row[0] for row in ends)
        assert min(row[1] for row in rest) <= min(row[1] for row in ends)
    assert len(found) <= max(count, 6)


def test_they_spread_within_the_loss_that_matters() -> None:
    layers = [[option(r, 100.0 - r, 1000 - 9 * r, 64, 0.01 * r**2) for r in range(60)]]
    wide = search(layers, 8, measure=lost, evaluations=100).finalists
    narrow = search(layers, 8, measure=lost, evaluations=100, max_loss=1.0).finalists
    assert all(m.loss <= 1.0 for m in narrow)
    assert sum(m.loss <= 1.0 for m in wide) < len(narrow)
    assert [m.latency for m in narrow[1:]] == sorted(m.latency for m in narrow[1:])


def test_where_nothing_keeps_the_limits_the_nearest_are_finalists() -> None:
    layers = [[option(r, 100.0 - r, 1000 - 9 * r, 64, 5.0 + 0.01 * r**2 if r else 0.0) for r in range(60)]]
    found = search(layers, 8, measure=lost, evaluations=100, max_loss=1.0, within=Limits(latency=10.0)).finalists
    assert len(found) > 1
    assert min(m.latency for m in found) == 41.0
    assert min(m.loss for m in found[1:]) == pytest.approx(5.01)


def test_a_hundred_layers_of_ten_options_take_seconds() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 10**6, (100, 10, 3)).tolist()
    losses = rng.random((100, 10)).tolist()
    layers = [[option(r, *sizes[k][r], losses[k][r]) for r in range(10)] for k in range(100)]
    start = time.process_time()  # not the wall's: others may be at work on this machine
    found = finalists(layers, 8, worst=100.0).finalists
    assert time.process_time() - start < 30
    assert len(found) == 8

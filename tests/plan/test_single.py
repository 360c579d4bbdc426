"""The single best answer against brute force, and against the merge on models of many layers."""

from __future__ import annotations

import itertools
import time
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.options import LAYERS, LIMITS, everything, is_within, numbers, option, random_layers

from lrf_dse.plan.options import LayerOption, Limits, totals_of
from lrf_dse.plan.select import compose
from lrf_dse.plan.single import COLUMN, best_within

OBJECTIVES = st.sampled_from(sorted(COLUMN))


@given(LAYERS, LIMITS, OBJECTIVES, st.none() | st.integers(-1, 8), st.none() | st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_nothing_within_the_limits_is_better(
    layers: list[list[LayerOption]], limits: Limits, objective: str, max_loss: int | None, min_latency: int | None
) -> None:
    whole = [row for row in map(numbers, everything(layers)) if is_within(row, limits)]
    whole = [row for row in whole if max_loss is None or row[3] <= max_loss]
    whole = [row for row in whole if min_latency is None or row[0] >= min_latency]
    found = best_within(layers, objective, within=limits, max_loss=max_loss, min_latency=min_latency)
    assert found.proved
    if not whole:
        assert found.combination is None and found.value == inf
        return
    assert found.combination is not None
    row, column = numbers(found.combination), COLUMN[objective]
    assert row in whole
    assert row[column] == found.value == min(other[column] for other in whole)
    tied = [other for other in whole if other[column] == found.value]
    sums = {(other[0], other[1], other[3]) for other in tied}
    mine = (row[0], row[1], row[3])
    assert not any(all(b <= a for a, b in zip(mine, other, strict=True)) for other in sums - {mine})


def test_of_many_layers_the_answer_is_no_worse_than_that_of_the_merge() -> None:
    """Ranks of 24 layers as they are: less of all three numbers costs loss. The merge thins; the proof stays."""
    layers = random_layers(24, 12, seed=5)
    dense = np.sum([totals_of_option(options[0]) for options in layers], axis=0)
    limits = Limits(flash_bytes=float(dense[1] / 4))
    found = best_within(layers, "latency", within=limits, max_loss=6.0)
    merged = [m for m in compose(layers, within=limits) if limits.admits(m) and m.loss <= 6.0]
    assert found.combination is not None and found.gap < 1e-3
    assert limits.admits(found.combination) and found.combination.loss <= 6.0
    assert found.value <= min(m.latency for m in merged)
    assert found.bound <= found.value


def totals_of_option(option: LayerOption) -> np.ndarray:
    return np.array([option.latency, option.flash_bytes, option.ram_bytes, option.loss])


def test_a_layer_without_options_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one option"):
        best_within([[]], "latency")


@pytest.mark.soak
def test_an_encoder_of_72_layers_takes_seconds() -> None:
    layers = random_layers(72, 40, seed=1)
    start = time.process_time()
    found = best_within(
        layers, "latency", within=Limits(flash_bytes=0.2 * sum(o[0].flash_bytes for o in layers)), max_loss=9.0
    )
    assert time.process_time() - start < 30
    assert found.gap < 1e-3
    assert found.combination is not None and totals_of(found.combination)[3] <= 9.0


def test_brute_force_is_what_it_says() -> None:
    layers = [[option(0, 3, 3, 1, 0), option(1, 1, 1, 2, 2)]] * 2
    assert sorted(numbers(m) for m in everything(layers)) == [(2, 2, 2, 4), (4, 4, 2, 2), (4, 4, 2, 2), (6, 6, 1, 0)]
    assert len(list(itertools.product(*layers))) == 4

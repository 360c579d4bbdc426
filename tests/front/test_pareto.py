"""Fronts against brute force, and knees against their definition."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.front.pareto import knee, non_dominated, objective_array, scaled

VALUES = st.integers(0, 5) | st.none() | st.floats(-3, 3)
POINTS = st.integers(1, 4).flatmap(lambda k: st.lists(st.tuples(*[VALUES] * k), min_size=0, max_size=12))


def dominates(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    left = [float("inf") if x is None else x for x in a]
    right = [float("inf") if x is None else x for x in b]
    return all(x <= y for x, y in zip(left, right, strict=True)) and left != right


@given(POINTS)
def test_front_equals_brute_force(points: list[tuple[float | None, ...]]) -> None:
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)]
    assert non_dominated(points) == expected


@pytest.mark.parametrize("size", [255, 256, 257, 700])
def test_front_equals_brute_force_across_blocks(size: int) -> None:
    array = np.random.default_rng(size).integers(0, 12, (size, 3)).astype(float)
    no_worse = (array[None] <= array[:, None]).all(axis=2)
    better = (array[None] < array[:, None]).any(axis=2)
    expected = np.flatnonzero(~(no_worse & better).any(axis=1))
    assert non_dominated(array.tolist()) == expected.tolist()


def test_an_objective_that_is_none_everywhere_is_left_out() -> None:
    assert non_dominated([(None, 1, 2), (None, 2, 1), (None, 2, 2)]) == [0, 1]
    assert non_dominated([(None,), (None,)]) == [0, 1]
    assert objective_array([(None, 1), (None, 2)]).shape == (2, 1)


def test_an_unknown_value_is_the_worst() -> None:
    assert non_dominated([(None, 1), (5, 1), (9, 0)]) == [1, 2]


def test_bad_points_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        non_dominated([(float("nan"), 1)])
    with pytest.raises(ValueError, match="same number"):
        non_dominated([(1,), (1, 2)])
    with pytest.raises(ValueError, match="no points"):
        knee([])


@given(POINTS.filter(bool))
def test_knee_is_on_the_front_and_nearest_to_the_ideal(points: list[tuple[float | None, ...]]) -> None:
    found = knee(points)
    members = non_dominated(points)
    distance = (scaled(objective_array([points[i] for i in members])) ** 2).sum(axis=1)
    assert found in members
    assert distance[members.index(found)] == distance.min()


def test_knee_prefers_the_bend_and_ignores_units() -> None:
    points = [(100, 0), (30, 1), (25, 5), (20, 50)]
    assert knee(points) == 1
    assert knee([(x * 1e9, y * 1e-6) for x, y in points]) == 1
    # 40,000 against 40,100 bytes is no reason to give up half the speed.
    assert knee([(100, 40_000), (50, 40_100)]) == 1

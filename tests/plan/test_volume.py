"""Hypervolumes against counting cells of a grid of integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.plan.volume import gains, greedy, hypervolume

REFERENCE = np.array([4.0, 4.0, 4.0])
POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=6).map(
    lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 3)
)


def counted(points: np.ndarray) -> int:
    """How many unit cells below the reference have a lower corner that a point does not exceed."""
    corners = itertools.product(range(4), repeat=3)
    return sum(any(all(p <= c for p, c in zip(row, corner, strict=True)) for row in points) for corner in corners)


@given(POINTS)
def test_the_volume_is_that_of_the_cells(points: np.ndarray) -> None:
    assert hypervolume(points, REFERENCE) == pytest.approx(counted(points))


@given(POINTS, POINTS, st.floats(0.0, 1.0))
def test_a_gain_is_the_difference_of_two_volumes(points: np.ndarray, candidates: np.ndarray, shift: float) -> None:
    moved = candidates + shift
    whole = hypervolume(points, REFERENCE)
    expected = [hypervolume(np.vstack([points, row]), REFERENCE) - whole for row in moved]
    assert gains(moved, points, REFERENCE) == pytest.approx(expected, abs=1e-9)


@given(POINTS, st.integers(0, 4))
def test_greedy_takes_what_adds_most_and_nothing_that_adds_nothing(points: np.ndarray, count: int) -> None:
    taken = greedy(points, count, REFERENCE)
    assert len(taken) == len(set(taken)) <= count
    volumes = [hypervolume(points[taken[:k]], REFERENCE) for k in range(len(taken) + 1)]
    assert all(b > a for a, b in itertools.pairwise(volumes))
    best = max(
        (hypervolume(points[list(c)], REFERENCE) for c in itertools.combinations(range(len(points)), count)),
        default=0.0,
    )
    assert volumes[-1] >= (1 - 1 / np.e) * best - 1e-9
    assert len(taken) == count or volumes[-1] == pytest.approx(hypervolume(points, REFERENCE))

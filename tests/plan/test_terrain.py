"""Gaps and heaps of fronts against their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.plan.terrain import GAP, SAME_LOSS, SAME_RATIO, Gap, gaps, merged, same

ROWS = st.lists(
    st.tuples(st.sampled_from([100, 100.5, 101.5, 125, 131, 160, 164, 300]), st.integers(1, 3), st.integers(0, 3)),
    min_size=1,
    max_size=9,
)


def points_of(rows: list[tuple[float, float, float]]) -> np.ndarray:
    return np.array([(np.log(a), np.log(b), 0.06 * c) for a, b, c in rows])


@given(ROWS)
def test_what_is_merged_counts_as_one_with_what_stands_for_it(rows: list[tuple[float, float, float]]) -> None:
    points = points_of(rows)
    found = merged(points)
    for i, k in enumerate(found):
        assert found[k] == k, "what stands for another stands for itself"
        near = np.abs(points[i] - points[k])
        assert i == k or (near < [np.log(SAME_RATIO), np.log(SAME_RATIO), SAME_LOSS]).all()
    assert merged(points, range(len(points))) == list(range(len(points)))


@given(ROWS)
def test_merging_opens_no_gap(rows: list[tuple[float, float, float]]) -> None:
    points = points_of(rows)

    def widest(members: set[int]) -> float:
        latencies = sorted(points[list(members), 0])
        return max((b - a for a, b in pairwise(latencies)), default=0.0)

    everyone = set(range(len(points)))
    assert widest(set(merged(points))) <= max(widest(everyone), np.log(GAP)) + 1e-12


def test_of_a_heap_one_stays_unless_it_bridges() -> None:
    heap = points_of([(100, 1, 0), (100.5, 1, 1), (130.5, 1, 0)])
    assert merged(heap) == [0, 1, 2], "130.5 / 100 is a gap, 130.5 / 100.5 is none"
    assert merged(points_of([(100, 1, 0), (100.5, 1, 1), (129, 1, 0)])) == [0, 0, 2]
    far = points_of([(100, 1, 0), (100.5, 1, 1), (300, 1, 0)])
    assert merged(far) == [0, 0, 2], "a gap that is there anyway is no reason to keep both"
    with_ram = np.column_stack([heap[:2], [0.0, 1.0]])
    assert merged(with_ram) == [0, 1]
    assert same(heap, heap[0]).tolist() == [True, True, False]


def test_a_gap_counts_what_was_judged_in_between() -> None:
    judged = points_of([(100, 3, 3), (125, 2, 2), (200, 1, 0), (150, 3, 2), (140, 2, 9), (199.9, 9, 9)])
    assert gaps(judged, 5.0) == [Gap(pytest.approx(125), pytest.approx(200), 2)]

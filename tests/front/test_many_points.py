"""Fronts of many points with three losses against brute force, and the points that stand for them."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.front.pareto import front_of_three
from lrf_dse.front.spread import spread


def columns(points):
    return [np.array(column, dtype=dtype) for column, dtype in zip(points.T, (np.int64, np.int64, float), strict=True)]


def at_least_as_good(points):
    """[i, j]: point i is no worse than point j in every column; each point is so with itself."""
    return (points[:, None, :] <= points[None, :, :]).all(axis=2)


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=40))
def test_the_front_by_brute_force(rows):
    points = np.array(rows).reshape(-1, 3)
    kept = front_of_three(*columns(points))
    good = at_least_as_good(points)
    assert np.array_equal(good[np.ix_(kept, kept)], np.eye(len(kept), dtype=bool))  # mutually non-dominated
    assert good[kept].any(axis=0).all()  # every point is kept, or no better than a kept one


def test_a_hundred_thousand_points_take_a_second_or_two():
    rng = np.random.default_rng(0)
    # A thick shell around the origin: a long front, and many points just behind it.
    shell = np.abs(rng.standard_normal((100_000, 3)))
    shell *= rng.uniform(1.0, 1.01, (100_000, 1)) / np.linalg.norm(shell, axis=1, keepdims=True)
    points = (shell * 1e9).astype(np.int64)
    started = time.perf_counter()
    kept = front_of_three(*columns(points))
    assert time.perf_counter() - started < 10  # 0.1 s when the machine is idle; comparing all pairs takes minutes
    assert 1000 < kept.size < 99_000


@given(st.lists(st.tuples(*[st.integers(1, 10**6)] * 3), min_size=1, max_size=60, unique=True), st.integers(1, 20))
def test_spread_takes_the_best_of_every_size_level(rows, top):
    flops, params, errors = columns(np.array(rows))
    errors = errors / 10**6
    picked = spread(params, [errors, flops.astype(float)], top)
    assert len(picked) == len(set(picked.tolist())) == min(top, len(rows))
    assert (np.diff(params[picked]) >= 0).all()
    if top >= 2 and len(rows) > top:
        log = np.log(params)
        level = np.zeros_like(params) if log.max() == log.min() else (log - log.min()) / (log.max() - log.min())
        level = np.minimum((level * (top // 2)).astype(int), top // 2 - 1)
        for members in (np.flatnonzero(level == value) for value in np.unique(level)):
            assert errors[members].min() in errors[np.intersect1d(members, picked)]
            assert flops[members].min() in flops[np.intersect1d(members, picked)]

"""Rounding in the metric of the inputs: never worse than to the nearest code, much better where inputs correlate."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lrf_dse.schema import Storage
from lrf_dse.tt.feedback import Inputs, rounded, squared_error
from lrf_dse.tt.grid import Stored, nearest

INTEGERS: tuple[Storage, ...] = ("int8", "int4")


def correlated(columns: int, *, seed: int = 0) -> np.ndarray:
    """The second moment of inputs with a few strong directions, as activations have."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((4 * columns, columns // 8)) @ random.standard_normal((columns // 8, columns))
    rows += 0.1 * random.standard_normal(rows.shape)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("storage", [*INTEGERS, "fp16"])
@pytest.mark.parametrize("columns", [40, 150])
def test_feedback_is_never_worse_than_the_nearest_code(storage: Storage, columns: int) -> None:
    weight, second = np.random.default_rng(1).standard_normal((20, columns)), correlated(columns)
    plain = squared_error(weight, nearest(weight, storage), second)
    assert squared_error(weight, rounded(weight, storage, Inputs(second)), second) <= plain


@pytest.mark.parametrize("storage", INTEGERS)
def test_feedback_halves_the_error_on_correlated_inputs(storage: Storage) -> None:
    weight, second = np.random.default_rng(2).standard_normal((40, 160)), correlated(160)
    plain = squared_error(weight, nearest(weight, storage, np.diag(second)), second)
    assert squared_error(weight, rounded(weight, storage, Inputs(second)), second) < plain / 4


def test_descent_comes_near_the_best_codes_there_are() -> None:
    """Brute force over the neighbouring codes of one row of six elements: most often the best ones are found."""
    second = correlated(48)[:6, :6]
    ratios = []
    for seed in range(8):
        row = np.random.default_rng(seed).standard_normal((1, 6))
        found = rounded(row, "int8", Inputs(second))
        assert found.scales is not None
        scale = float(found.scales[0, 0])
        floor = np.floor(row / scale)
        best = min(
            squared_error(row, Stored("int8", np.clip(floor + up, -127, 127).astype(np.int8), found.scales), second)
            for up in product((-1, 0, 1, 2), repeat=6)
        )
        ratios.append(squared_error(row, found, second) / best)
    assert np.median(ratios) < 1.001 and max(ratios) < 2


def test_a_singular_moment_is_no_obstacle() -> None:
    second = np.zeros((10, 10))
    second[0, 0] = 1.0
    found = rounded(np.random.default_rng(3).standard_normal((3, 10)), "int4", Inputs(second))
    assert np.isfinite(found.values).all()


def test_inputs_that_never_vary_leave_the_nearest_codes() -> None:
    weight = np.random.default_rng(4).standard_normal((3, 10))
    assert squared_error(weight, rounded(weight, "int8", Inputs(np.zeros((10, 10)))), np.eye(10)) < 1e-3


def test_fp32_is_left_alone() -> None:
    weight = np.random.default_rng(5).standard_normal((3, 10)).astype(np.float32)
    assert np.array_equal(
        rounded(weight.astype(np.float64), "fp32", Inputs(correlated(10 * 8)[:10, :10])).values, weight
    )

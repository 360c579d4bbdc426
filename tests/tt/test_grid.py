"""The grids of int8, int4 and fp16: what is stored, and what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.schema import Storage
from lrf_dse.tt.grid import CODES, GROUP, Stored, nearest, scales_of, spread

INTEGERS: tuple[Storage, ...] = ("int8", "int4")


def matrix(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def relative_error(wanted: np.ndarray, stored: Stored) -> float:
    return float(np.linalg.norm(wanted - stored.values) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("storage", "worst"), [("fp32", 1e-7), ("fp16", 3e-4), ("int8", 8e-3), ("int4", 0.09)])
def test_a_storage_keeps_normal_weights_as_well_as_its_bits_allow(storage: Storage, worst: float) -> None:
    wanted = matrix(50, 100)
    assert relative_error(wanted, nearest(wanted, storage)) < worst


@given(st.sampled_from(INTEGERS), st.integers(1, 5), st.integers(1, 80), st.integers(0, 99))
def test_codes_are_in_range_and_scales_have_their_place(storage: Storage, rows: int, columns: int, seed: int) -> None:
    stored = nearest(matrix(rows, columns, seed), storage)
    low, high = CODES[storage]
    assert stored.scales is not None
    assert stored.codes.dtype == np.int8 and low <= stored.codes.min() and stored.codes.max() <= high
    assert stored.scales.shape == (rows, 1 if storage == "int8" else -(-columns // GROUP))
    assert stored.scales.dtype == (np.float32 if storage == "int8" else np.float16)


@given(st.sampled_from(INTEGERS), st.integers(0, 99))
def test_what_lies_on_the_grid_stays(storage: Storage, seed: int) -> None:
    once = nearest(matrix(4, 70, seed), storage)
    assert once.scales is not None
    again = nearest(once.values, storage)
    assert relative_error(once.values.astype(np.float64), again) < 1e-6 or storage == "int4"
    # A second rounding is never further from what it is given than rounding with the scales of the first.
    assert np.abs(once.values - again.values).max() <= np.abs(once.scales).max()


def test_values_are_codes_times_scales_in_single_precision() -> None:
    stored = nearest(matrix(3, 70), "int4")
    assert stored.scales is not None
    for row in range(3):
        for k in range(70):
            scale = np.float32(stored.scales[row, k // GROUP])
            assert stored.values[row, k] == np.float32(stored.codes[row, k]) * scale


def test_a_clipped_scale_is_taken_where_it_pays() -> None:
    """One element far out: int4 gives the many others a finer grid and cuts that one off."""
    wanted = np.full((1, GROUP), 0.2) * np.sign(matrix(1, GROUP))
    wanted[0, 0] = 1.0
    scale = abs(float(scales_of(wanted, "int4")[0, 0]))
    assert scale < 1.0 / 8


def test_importance_decides_what_is_cut_off() -> None:
    wanted = np.full((1, GROUP), 0.2) * np.sign(matrix(1, GROUP))
    wanted[0, 0] = 1.0
    importance = np.full(GROUP, 1e-6)
    importance[0] = 1.0
    stored = nearest(wanted, "int4", importance)
    assert abs(stored.values[0, 0] - 1.0) < 1e-3


def test_the_largest_element_may_be_of_either_sign() -> None:
    """-8 is one more than 7: with scales of both signs the finer side is always usable."""
    wanted = matrix(1, GROUP)
    assert relative_error(wanted, nearest(wanted, "int4")) == pytest.approx(
        relative_error(-wanted, nearest(-wanted, "int4"))
    )


@pytest.mark.parametrize("storage", INTEGERS)
def test_zeros_stay_zeros(storage: Storage) -> None:
    assert not nearest(np.zeros((2, 40)), storage).values.any()


@pytest.mark.parametrize("storage", ["fp16", "int4"])
def test_what_half_precision_cannot_hold_is_cut_off(storage: Storage) -> None:
    stored = nearest(np.full((1, 4), 1e7), storage)
    assert np.isfinite(stored.values).all() and stored.values.min() >= 65504


def test_spread_gives_every_element_its_group() -> None:
    assert spread(np.array([[1.0, 2.0]], np.float32), 40)[0, [0, 31, 32, 39]].tolist() == [1, 1, 2, 2]

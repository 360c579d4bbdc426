"""Samples in two data sets: refused where fits have seen what judges them, not where rows repeat by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrf_dse.errors import DataError
from lrf_dse.models.data import Dataset
from lrf_dse.models.overlap import refuse_shared


def dataset(name: str, *arrays: np.ndarray) -> Dataset:
    return Dataset(Path(name), {f"x{k}": array for k, array in enumerate(arrays)}, None, "")


def check(calibration: Dataset, data: Dataset) -> None:
    refuse_shared(calibration, data, option="--calibration")


def normal(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("shared", [1, 3, 50])
def test_samples_of_the_data_are_refused(shared: int) -> None:
    data = normal(100, 0)
    calibration = np.concatenate([normal(60, 1), data[::-1][:shared]])
    with pytest.raises(
        DataError, match=rf"^--calibration c\.npz: {shared} of its {60 + shared} samples are in --data d"
    ):
        check(dataset("c.npz", calibration), dataset("d.npz", data))


def test_the_data_themselves_are_refused_also_where_rows_repeat() -> None:
    data = normal(100, 0)
    repeating = np.concatenate([data, data[:20]])
    for same in (data, repeating, np.repeat(data, 3, axis=0)):
        with pytest.raises(DataError, match=f"{len(same)} of its {len(same)} samples"):
            check(dataset("c.npz", same), dataset("d.npz", repeating))


def test_other_samples_are_taken() -> None:
    check(dataset("c.npz", normal(60, 1)), dataset("d.npz", normal(100, 0)))


def test_rows_of_one_value_tell_nothing() -> None:
    """A sensor that is off, silence, a blank image: in both, however often."""
    blank = np.zeros((30, 3, 4), np.float32)
    full = np.ones((1, 3, 4), np.float32)
    check(
        dataset("c.npz", np.concatenate([blank, -blank, full, normal(9, 1)])),
        dataset("d.npz", np.concatenate([normal(100, 0), full, blank[:2]])),
    )


@pytest.mark.parametrize("seed", range(20))
def test_readings_of_few_digits_repeat_by_themselves(seed: int) -> None:
    """Rows drawn from a few hundred are equal by chance: in both halves as within each."""
    rows = np.random.default_rng(seed).integers(0, 5, (600, 4)).astype(np.float32)
    check(dataset("c.npz", rows[:250]), dataset("d.npz", rows[250:]))


def test_a_leak_shows_among_rows_that_repeat() -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, 12, (600, 4)).astype(np.float32)
    check(dataset("c.npz", rows[:250]), dataset("d.npz", rows[250:]))
    with pytest.raises(DataError, match="samples are in --data"):
        check(dataset("c.npz", np.concatenate([rows[:250], rows[300:400]])), dataset("d.npz", rows[250:]))


def test_all_inputs_make_a_sample() -> None:
    a, b = normal(50, 0), np.arange(50)[:, None]
    check(dataset("c.npz", a, b), dataset("d.npz", a, b[::-1].copy() + 100))
    with pytest.raises(DataError, match="50 of its 50 samples"):
        check(dataset("c.npz", a, b), dataset("d.npz", a[::-1].copy(), b[::-1].copy()))

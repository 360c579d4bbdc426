"""Parts: units stay whole, every class is in every part, whatever the order of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.models.data import JUDGING_SHARES, SHARES
from lrf_dse.models.parts import deal, one_label_each, units_of


@given(st.integers(4, 60), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_every_unit_is_whole_in_one_part_and_no_part_is_empty(
    units: int, classes: int, seed: int, labelled: bool
) -> None:
    random = np.random.default_rng(seed)
    unit = np.concatenate([np.arange(units), random.integers(0, units, 3 * units)])
    labels = random.integers(0, classes, len(unit)) if labelled else None
    parts = deal(unit, SHARES, seed=seed, labels=labels)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(unit)))
    assert all(len(rows) for rows in parts.values())
    assert sum(len(set(unit[rows].tolist())) for rows in parts.values()) == units


@pytest.mark.parametrize(("classes", "each"), [(10, 200), (100, 20), (400, 5), (2, 1000)])
@pytest.mark.parametrize("shares", [SHARES, JUDGING_SHARES], ids=["whole", "judging"])
def test_a_file_sorted_by_class_leaves_every_class_in_every_part(
    classes: int, each: int, shares: dict[str, float]
) -> None:
    labels = np.repeat(np.arange(classes), each)
    parts = deal(units_of(len(labels), labels=labels), shares, seed=0, labels=labels)
    for name, rows in parts.items():
        assert len(rows) == pytest.approx(shares[name] * len(labels), rel=0.1)
        counts = np.bincount(labels[rows], minlength=classes)
        # A class of 20 has runs of one sample, and a part its share of them to the nearest whole one.
        assert abs(counts - shares[name] * each).max() <= max(1.5, 0.15 * each)


def test_neighbours_are_dealt_out_together_and_runs_are_short_enough() -> None:
    assert len(set(units_of(2000).tolist())) == 125
    assert len(set(units_of(400).tolist())) == 50
    assert len(set(units_of(40).tolist())) == 40
    unit = units_of(2000)
    parts = deal(unit, JUDGING_SHARES, seed=1)
    apart = np.zeros(2000, int)
    for number, rows in enumerate(parts.values()):
        apart[rows] = number
    assert np.count_nonzero(np.diff(apart)) < 125, "most neighbours lie in the same part"


def test_other_labels_than_one_whole_number_balance_nothing() -> None:
    assert one_label_each(np.zeros(3)) is None
    assert one_label_each(np.zeros((3, 2), int)) is None
    assert one_label_each(None) is None
    assert one_label_each(np.arange(3)) is not None

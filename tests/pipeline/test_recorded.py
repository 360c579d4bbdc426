"""A record in the form of another release is no record: what it holds is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf_dse.jsonform import to_json
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.schema import Failure, FcLayer, Measurement, Outcome
from lrf_dse.store import Store

LAYER = FcLayer("fc", 4, 3, 1, has_bias=True)


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("layer", "test", to_json(LAYER))
        assert recorded(store, "layer", FcLayer) == LAYER
        assert recorded(store, "another", FcLayer) is None


@pytest.mark.parametrize(
    "value",
    [
        {"name": "fc", "in_features": 4, "out_features": 3, "batch": 1},  # a field that came later
        {**to_json(LAYER), "batch": "one"},
        {**to_json(LAYER), "batch": 0},  # a check that came later
        "fc",
        17,
        [],
    ],
)
def test_a_value_of_another_form_is_made_again(tmp_path: Path, value: object) -> None:
    with Store(tmp_path) as store:
        store.put("layer", "test", value)
        assert recorded(store, "layer", FcLayer) is None


def test_an_outcome_is_a_measurement_or_a_failure(tmp_path: Path) -> None:
    measured = Measurement("by hand", 1, {}, 1, 1, {}, max_abs_error=0.0, max_rel_error=0.0, cycles=7.0)
    with Store(tmp_path) as store:
        for outcome in (measured, Failure("verify", "wrong")):
            store.put("timing", "test", to_json(outcome))
            assert recorded(store, "timing", Outcome) == outcome  # type: ignore[arg-type]
        store.put("timing", "test", {"source": "by hand"})
        assert recorded(store, "timing", Outcome) is None  # type: ignore[arg-type]

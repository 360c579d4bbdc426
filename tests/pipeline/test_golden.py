"""Golden inputs are samples of the data, whole tensors of inferences, and are kept for exports."""

from __future__ import annotations

from pathlib import Path

import explored
import numpy as np
import pytest
from models.graphs import model as onnx_model
from models.graphs import node, saved, values

from lrf_dse.models.data import Dataset, load_data
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.golden import GOLDEN_CASES, GOLDEN_FILE, golden_cases, golden_key, keep_golden, kept_golden


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return read_model(explored.tiny_model(tmp_path))


@pytest.fixture
def data(tmp_path: Path, model: Model) -> Dataset:
    return load_data(explored.tiny_data(tmp_path), model)


def test_cases_spread_over_the_data_from_the_first_sample_on(model: Model, data: Dataset) -> None:
    cases = golden_cases(model, data, seed=0)
    starts = [k * data.samples // GOLDEN_CASES for k in range(GOLDEN_CASES)]
    assert starts[0] == 0 and len(set(starts)) == GOLDEN_CASES
    (name,) = data.x
    for (tensor,), start in zip(cases, starts, strict=True):
        np.testing.assert_array_equal(tensor, data.x[name][start : start + 1])


@pytest.mark.parametrize("samples", [2, 3, 9])
def test_a_batch_holds_the_samples_that_follow(tmp_path: Path, samples: int) -> None:
    """Also where the data hold fewer than one inference takes, or end within it."""
    model = read_model(explored.tiny_model(tmp_path, batch=4))
    x = values(samples, 64, seed=1)
    data = Dataset(tmp_path, {"x": x}, None, "")
    for k, (tensor,) in enumerate(golden_cases(model, data, seed=0, count=2)):
        start = k * samples // 2
        np.testing.assert_array_equal(tensor, x[[(start + i) % samples for i in range(4)]])


def test_a_model_without_a_batch_takes_a_sample_as_it_is(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["a", "w"], ["h"], "fc"), node("Add", ["h", "b"], ["y"])]
    proto = onnx_model(nodes, inputs={"a": (12,), "b": (8,)}, outputs={"y": (8,)}, constants={"w": values(12, 8)})
    model = read_model(saved(proto, tmp_path))
    data = Dataset(tmp_path, {"a": values(5, 12), "b": values(5, 8, seed=1)}, None, "")
    cases = golden_cases(model, data, seed=0, count=5)
    for k, case in enumerate(cases):
        for tensor, name in zip(case, ("a", "b"), strict=True):
            np.testing.assert_array_equal(tensor, data.x[name][k])


def test_what_is_kept_is_found_again_and_damage_is_no_input(tmp_path: Path, model: Model, data: Dataset) -> None:
    run, key = tmp_path / "run", golden_key(model.sha256, data.sha256, seed=0)
    keep_golden(run, model, data, seed=0)
    cases = kept_golden(run, key, inputs=1)
    assert cases is not None
    for found, wanted in zip(cases, golden_cases(model, data, seed=0), strict=True):
        np.testing.assert_array_equal(found[0], wanted[0])
    for other in ((model.sha256, None, 0), (model.sha256, data.sha256, 1), ("another", data.sha256, 0)):
        assert kept_golden(run, golden_key(*other[:2], seed=other[2]), inputs=1) is None, "of another exploration"
    content = bytearray((run / GOLDEN_FILE).read_bytes())
    content[100] ^= 1
    (run / GOLDEN_FILE).write_bytes(bytes(content))
    for folder in (run, tmp_path / "none"):
        assert kept_golden(folder, key, inputs=1) is None


def test_without_data_inputs_are_random_and_follow_the_seed(tmp_path: Path, model: Model) -> None:
    keep_golden(tmp_path, model, None, seed=3)
    cases = kept_golden(tmp_path, golden_key(model.sha256, None, seed=3), inputs=1)
    assert cases is not None
    assert [case[0].tobytes() for case in cases] == [case[0].tobytes() for case in golden_cases(model, None, seed=3)]

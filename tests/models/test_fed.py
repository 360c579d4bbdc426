"""Weights that are fed, and inferences that run side by side where that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.errors import ModelError
from lrf_dse.models import fed as module
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.fed import WIDTH, FedModel
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model

SAMPLES = 2 * WIDTH + 3


def read_between(nodes: list[onnx.NodeProto], folder: Path, constants: dict[str, Any]) -> Model:
    """x [1, 4, 6] -> h = fc1 -> `nodes` -> a -> fc2 -> y [1, 4, 3]."""
    whole = [node("MatMul", ["x", "w1"], ["h"], "fc1"), *nodes, node("MatMul", ["a", "w2"], ["y"], "fc2")]
    weights = {"w1": values(6, 5), "w2": values(5, 3, seed=1)}
    proto = model(whole, inputs={"x": (1, 4, 6)}, outputs={"y": (1, 4, 3)}, constants=weights | constants)
    return read_model(saved(proto, folder))


BETWEEN: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int]] = {
    "elementwise": ([node("Relu", ["h"], ["a"])], {}, WIDTH),
    "sizes in Reshape": (
        [
            node("Reshape", ["h", "flat"], ["f"]),
            node("Sigmoid", ["f"], ["g"]),
            node("Reshape", ["g", "back"], ["a"]),
        ],
        {"flat": np.array([4, 5]), "back": np.array([1, 4, 5])},
        WIDTH,
    ),
    "attention between the tokens of a sample": (
        [
            node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["h", "t"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("MatMul", ["p", "h"], ["a"]),
        ],
        {},
        WIDTH,
    ),
    "samples that mix": ([node("Softmax", ["h"], ["a"], axis=0)], {}, 1),
    "the first sample alone": (
        [node("Slice", ["h", "start", "end", "axis"], ["first"]), node("Add", ["h", "first"], ["a"])],
        {"start": np.array([0]), "end": np.array([1]), "axis": np.array([0])},
        1,
    ),
    "a layer that reads the mean of all samples": (
        [node("ReduceMean", ["h"], ["m"], axes=[0, 1, 2], keepdims=1), node("Add", ["h", "m"], ["a"])],
        {},
        1,
    ),
    "a size that is no Reshape's": (
        [node("Split", ["h", "sizes"], ["a"], axis=0)],
        {"sizes": np.array([1])},
        1,
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_inferences_run_side_by_side_only_where_that_changes_nothing(name: str, tmp_path: Path) -> None:
    nodes, constants, width = BETWEEN[name]
    read = read_between(nodes, tmp_path, constants)
    x = {"x": values(SAMPLES, 4, 6, seed=2)}
    fed = FedModel(read, x)
    got = fed.first_output({}, x)
    assert fed._ready.width == width
    assert (fed._ready.segments is not None) == (width > 1)
    np.testing.assert_allclose(got, outputs(to_onnx(read), x)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (WIDTH + 1, 2)])
def test_a_value_that_is_not_of_so_many_inferences_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=f"is not of {WIDTH} inferences"):
        module._first_of(np.zeros(shape), 1, WIDTH)


def test_values_of_no_elements_are_compared_too(tmp_path: Path) -> None:
    """Mutated files have them, whatever shape they declare."""
    fed = FedModel(read_between(BETWEEN["elementwise"][0], tmp_path, {}), {"x": values(3, 4, 6)})
    nothing = [(first, {"y": np.zeros((0, 4, 3)), "a": np.zeros((0, 5))}) for first in range(3)]
    with mock.patch.object(fed, "_runs", return_value=iter(nothing)):
        assert fed._everything(module._Way(mock.Mock(), 1))["y"].shape == (3, 0)


def test_large_values_are_not_multiplied(tmp_path: Path) -> None:
    read = read_between(BETWEEN["elementwise"][0], tmp_path, {})
    x = {"x": values(7, 4, 6, seed=2)}
    with mock.patch.object(module, "WIDE_BYTES", 3 * 4 * 24 + 1):  # three times the largest value, x itself
        fed = FedModel(read, x)
    got = fed.first_output({}, x)
    assert fed._ready.width == 3
    np.testing.assert_allclose(got, outputs(to_onnx(read), x)["y"], rtol=1e-4, atol=1e-5)


def test_what_layers_read_comes_inference_by_inference(tmp_path: Path) -> None:
    read = read_between(*BETWEEN["elementwise"][:1], tmp_path, {})
    x = {"x": values(WIDTH + 2, 4, 6, seed=2)}
    runs = list(FedModel(read, x).layer_inputs({}, x, ["x", "a"]))
    assert [first for first, _ in runs] == [0, WIDTH]
    assert [len(found["a"]) for _, found in runs] == [len(found["x"]) for _, found in runs] == [WIDTH, 2]
    want = np.maximum(x["x"] @ values(6, 5), 0)
    np.testing.assert_allclose(np.concatenate([found["a"] for _, found in runs]), want, rtol=1e-5, atol=1e-6)

"""Hidden units: where they are found, what sees their order, and that a reordered model computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.models.evaluate import outputs
from lrf_dse.models.hidden import Hidden, hidden_units, reordered
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model

CONSTANTS = {
    "wa": values(5, 8),
    "ba": values(8, seed=1),
    "wb": values(6, 8, seed=2),
    "bb": values(1, 6, seed=3),
    "wc": values(6, 4, seed=4),
    "half": np.array(0.5, np.float32),
    "each": values(8, seed=5),
}
WRITES = [node("MatMul", ["x", "wa"], ["ma"], "a"), node("Add", ["ma", "ba"], ["ha"])]
READS = [
    node("Gemm", ["r", "wb", "bb"], ["hb"], "b", transB=1, alpha=0.5),
    node("Tanh", ["hb"], ["t"]),
    node("MatMul", ["t", "wc"], ["y"], "c"),
]
GELU = [
    node("Div", ["ha", "half"], ["d"]),
    node("Erf", ["d"], ["e"]),
    node("Add", ["e", "half"], ["f"]),
    node("Mul", ["ha", "f"], ["r"]),
]


def read(folder: Path, between: list[onnx.NodeProto], more: list[onnx.NodeProto] | None = None, **outs: Any) -> Model:
    nodes = [*WRITES, *between, *READS, *(more or [])]
    proto = model(nodes, inputs={"x": (2, 5)}, outputs={"y": (2, 4)} | outs, constants=CONSTANTS)
    return read_model(saved(proto, folder))


@pytest.mark.parametrize("between", [[node("Relu", ["ha"], ["r"])], GELU, [node("Identity", ["ha"], ["r"])]])
def test_a_reordered_model_computes_the_same(tmp_path: Path, between: list[onnx.NodeProto]) -> None:
    before = read(tmp_path, between)
    assert hidden_units(before) == (Hidden("a", ("b",)), Hidden("b", ("c",)))
    after = before
    for hidden, order in zip(hidden_units(before), ([7, 2, 0, 1, 5, 4, 3, 6], [1, 2, 3, 4, 5, 0]), strict=True):
        after = reordered(after, hidden, np.array(order))
    assert after.fc_layers == before.fc_layers
    np.testing.assert_array_equal(after.weights("a")[0], before.weights("a")[0][[7, 2, 0, 1, 5, 4, 3, 6]])
    np.testing.assert_array_equal(after.weights("c")[0], before.weights("c")[0][:, [1, 2, 3, 4, 5, 0]])
    x = {"x": values(6, 5, seed=9)}
    np.testing.assert_allclose(outputs(to_onnx(after), x)["y"], outputs(to_onnx(before), x)["y"], rtol=1e-4, atol=1e-5)


def test_all_readers_are_reordered(tmp_path: Path) -> None:
    nodes = [
        node("Gemm", ["x", "wa"], ["h"], "a"),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "wb"], ["y"], "b"),
        node("Gemm", ["r", "wc", "bias"], ["z"], "c", transB=1),
    ]
    constants = {f"w{k}": values(6, 6, seed=n) for n, k in enumerate("abc")} | {"bias": values(6, seed=1)}
    proto = model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 6), "z": (1, 6)}, constants=constants)
    before = read_model(saved(proto, tmp_path))
    (hidden,) = hidden_units(before)
    assert hidden == Hidden("a", ("b", "c"))
    after = reordered(before, hidden, np.array([5, 3, 1, 0, 2, 4]))
    x = {"x": values(6, 6, seed=9)}
    for name, value in outputs(to_onnx(before), x).items():
        np.testing.assert_allclose(outputs(to_onnx(after), x)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("between", "more", "outs"),
    [
        ([node("Add", ["ha", "each"], ["r"])], [], {}),
        ([node("Softmax", ["ha"], ["r"])], [], {}),
        ([node("Relu", ["ha"], ["r"])], [], {"r": (2, 8)}),
        ([node("Relu", ["ha"], ["r"])], [], {"ha": (2, 8)}),
        ([node("Relu", ["ha"], ["r"])], [node("ReduceSum", ["r"], ["s"])], {"s": (1, 1)}),
        ([node("Gemm", ["x", "wa"], ["other"]), node("Add", ["ha", "other"], ["r"])], [], {}),
    ],
    ids=["a number per unit", "across units", "an output", "an output before", "another reader", "a residual"],
)
def test_what_sees_the_order_keeps_it(
    tmp_path: Path, between: list[onnx.NodeProto], more: list[onnx.NodeProto], outs: dict[str, Any]
) -> None:
    assert [hidden.writer for hidden in hidden_units(read(tmp_path, between, more, **outs))] == ["b"]

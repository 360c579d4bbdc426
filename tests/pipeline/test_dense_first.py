"""What is wrong with the model as it is ends an exploration before anything else is measured, with the node's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from explored import command, figures, rows
from models.graphs import model, node, saved, values
from onnx import TensorProto, helper


def with_a_branch() -> onnx.ModelProto:
    """Which body of the If runs is known at run time only, so the host would have to read a buffer."""

    def body(name: str, made: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 24))])

    nodes = [
        node("Gemm", ["x", "w"], ["h"], "fc"),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node(
            "If",
            ["c"],
            ["k"],
            "either way",
            then_branch=body("t", node("Relu", ["h"], ["t"])),
            else_branch=body("e", node("Identity", ["h"], ["e"])),
        ),
        node("Gemm", ["k", "v"], ["y"], "last"),
    ]
    constants = {"w": values(16, 24), "v": values(24, 5), "zero": np.asarray(0, np.float32)}
    return model(nodes, inputs={"x": (1, 16)}, outputs={"y": (1, 5)}, constants=constants)


def with_an_unknown_operator() -> onnx.ModelProto:
    """onnxruntime knows it, the compiler does not."""
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "fc"),
        node("Det", ["m"], ["d"], "determinant"),
        node("Add", ["h", "d"], ["y"]),
        node("Reshape", ["x", "four"], ["m"]),
    ]
    nodes = [nodes[0], nodes[3], nodes[1], nodes[2]]
    constants = {"w": values(16, 24), "four": np.array([4, 4])}
    return model(nodes, inputs={"x": (1, 16)}, outputs={"y": (1, 24)}, constants=constants)


def not_finite() -> onnx.ModelProto:
    """The logarithm of numbers below 0."""
    nodes = [node("Gemm", ["x", "w"], ["h"], "fc"), node("Log", ["h"], ["y"])]
    return model(nodes, inputs={"x": (1, 16)}, outputs={"y": (1, 24)}, constants={"w": values(16, 24)})


def hidden_not_finite() -> onnx.ModelProto:
    """exp overflows, and what comes out of the model is finite all the same."""
    nodes = [
        node("Mul", ["x", "large"], ["a"]),
        node("Exp", ["a"], ["e"]),
        node("Gemm", ["e", "w"], ["h"], "fc"),
        node("Tanh", ["h"], ["y"]),
    ]
    constants = {"w": np.abs(values(16, 24)), "large": np.asarray(1000, np.float32)}
    return model(nodes, inputs={"x": (1, 16)}, outputs={"y": (1, 24)}, constants=constants)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_a_branch, ("the dense model fails at stage build", "hal.buffer.load", "the If node 'either way'")),
        (with_an_unknown_operator, ("the dense model fails at stage build", "the Det node 'determinant'")),
        (not_finite, ("the model as it is gives NaN or Inf for", "samples of the validation part")),
        (hidden_not_finite, ("the calibration data makes NaN or Inf in 'e', the input of an FC layer",)),
    ],
)
def test_the_model_as_it_is_comes_first(make, words: tuple[str, ...], tmp_path: Path) -> None:
    path = saved(make(), tmp_path)
    np.savez(tmp_path / "data.npz", x=values(60, 16))
    run = tmp_path / "run"
    done = command("explore", path, "--data", tmp_path / "data.npz", "--target", "spacemit-k1", "-o", run, "--quiet")
    assert done.code == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err, done.err
    assert {row[1] for row in figures(run)} <= {"accuracy", "plan_timing"}, "nothing of layers or plans"


def test_the_dense_model_is_measured_once_and_first(finished: Path) -> None:
    timed = [row for row in rows(finished / "run") if row[1] in {"timing", "plan_timing"}]
    assert timed[0][1] == "plan_timing"
    assert len({row[2] for row in timed}) == len(timed)

"""Every operation is what onnxruntime computes, alone and for many inferences at a time; and gradients pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.errors import UsageError
from lrf_dse.finetune.graph import TrainableGraph, require_known
from lrf_dse.finetune.operations import OPERATIONS
from lrf_dse.models.evaluate import run_once

OPSET = 20


@dataclass(frozen=True)
class Case:
    """A node on an input x of `shape` and constants; `positive` for operations without an answer below 0."""

    op: str
    shape: tuple[int, ...] = (1, 6, 4)
    constants: tuple[NDArray[Any], ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    positive: bool = False


def _f(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape) + 1).uniform(0.5, 1.5, shape).astype(np.float32)


def _i(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


CASES = [
    *(Case(op, constants=(_f(4),)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    Case("Pow", constants=(np.float32(1.5),), positive=True),
    *(Case(op) for op in ("Erf", "Exp", "Identity", "Neg", "Relu", "Sigmoid", "Softplus", "Tanh")),
    *(Case(op, positive=True) for op in ("Log", "Sqrt")),
    Case("Elu"),
    Case("LeakyRelu", attributes={"alpha": 0.2}),
    Case("HardSigmoid", attributes={"alpha": 0.3, "beta": 0.4}),
    Case("Gelu"),
    Case("Gelu", attributes={"approximate": "tanh"}),
    Case("Dropout"),
    Case("Clip", constants=(np.float32(-0.3), np.float32(0.4))),
    Case("Softmax", attributes={"axis": 1}),
    Case("LogSoftmax"),
    Case("Gemm", (3, 4), (_f(4, 5), _f(5)), {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (3, 4), (_f(5, 4),), {"transB": 1}),
    Case("Conv", (1, 4, 3, 3), (_f(6, 4, 1, 1), _f(6))),
    Case("Conv", (1, 4, 6), (_f(6, 4, 3),), {"pads": [1, 0], "dilations": [2]}),
    Case("Conv", (1, 4, 5, 6), (_f(6, 2, 3, 3), _f(6)), {"group": 2, "strides": [2, 1], "auto_pad": "SAME_LOWER"}),
    Case("Conv", (1, 4, 5, 6), (_f(4, 1, 3, 2),), {"group": 4, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MatMul", constants=(_f(4, 5),)),
    Case("MatMul", (3, 4), (_f(4, 5),)),
    Case("MatMul", constants=(_f(1, 4, 2),)),
    Case("MatMul", constants=(_f(4),)),
    Case("Reshape", constants=(_i(0, -1, 2),)),
    Case("Flatten", attributes={"axis": 2}),
    Case("Flatten", attributes={"axis": -1}),
    Case("Flatten", attributes={"axis": 3}),
    Case("Transpose", attributes={"perm": [2, 0, 1]}),
    Case("Transpose"),
    Case("Squeeze", constants=(_i(0),)),
    Case("Unsqueeze", constants=(_i(0, -1),)),
    Case("Concat", (2, 3), (_f(2, 2),), {"axis": 1}),
    Case("Gather", constants=(_i(2, 0),), attributes={"axis": 1}),
    Case("ReduceMean", constants=(_i(1),), attributes={"keepdims": 0}),
    Case("ReduceSum", constants=(_i(1, 2),)),
    Case("ReduceMax", constants=(_i(-1),)),
    Case("LayerNormalization", constants=(_f(4), _f(4)), attributes={"epsilon": 1e-3}),
    Case("LayerNormalization", constants=(_f(6, 4),), attributes={"axis": 1}),
    Case("BatchNormalization", (2, 3, 4), (_f(3), _f(3), _f(3), _f(3))),
    Case("GlobalAveragePool", (1, 3, 4, 5)),
    Case("GlobalMaxPool", (1, 3, 4, 5)),
]


def _model(case: Case) -> onnx.ModelProto:
    names = [f"c{k}" for k in range(len(case.constants))]
    node = helper.make_node(case.op, ["x", *names], ["y"], "node", **case.attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in zip(names, case.constants, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def test_every_operation_has_a_case() -> None:
    assert {case.op for case in CASES} == set(OPERATIONS)


@pytest.mark.parametrize("case", CASES, ids=[f"{k}-{case.op}" for k, case in enumerate(CASES)])
def test_operation_is_onnxruntimes(case: Case) -> None:
    model = _model(case)
    graph = TrainableGraph(model)
    x = np.random.default_rng(0).standard_normal((2, *case.shape)).astype(np.float32)
    x = np.abs(x) + np.float32(0.1) if case.positive else x
    expected = np.stack([run_once(model, [one])[0] for one in x])
    np.testing.assert_allclose(graph.many([x]).numpy(), expected, rtol=2e-5, atol=1e-5)


def test_gradients_reach_the_constants() -> None:
    import tensorflow as tf

    graph = TrainableGraph(_model(Case("Gemm", (3, 4), (_f(4, 5), _f(5)))))
    x = np.random.default_rng(0).standard_normal((7, 3, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(graph.many([x]))
    weight, bias = tape.gradient(loss, [graph.variables["c0"], graph.variables["c1"]])
    np.testing.assert_allclose(weight.numpy(), np.repeat(x.sum(axis=(0, 1))[:, None], 5, axis=1), rtol=1e-4)
    np.testing.assert_allclose(bias.numpy(), np.full(5, 21.0), rtol=1e-5)


def test_statistics_are_not_trained() -> None:
    graph = TrainableGraph(_model(Case("BatchNormalization", (2, 3, 4), (_f(3), _f(3), _f(3), _f(3)))))
    assert set(graph.variables) == {"c0", "c1"}


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(UsageError, match="node node: cannot train through Det"):
        require_known(_model(Case("Det", (3, 3))))

"""Weights in few bits in a model file: plain operators, and onnxruntime computes with the very numbers of the codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.models.evaluate import run_once
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.schema import Storage
from lrf_dse.tt.grid import Stored, nearest

STORAGES: tuple[Storage, ...] = ("fp16", "int8", "int4")


def stored(rows: int, columns: int, storage: Storage) -> Stored:
    return nearest(np.random.default_rng(rows).standard_normal((rows, columns)), storage)


def model_of(constants: dict[str, np.ndarray], nodes: list[onnx.NodeProto], shapes: dict[str, list[int]], opset: int):
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value["x"]], [value["y"]], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """onnxruntime may fuse DequantizeLinear with what follows, and sums in another order then."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def chain_of_two(first: Stored, second: Stored, opset: int) -> onnx.ModelProto:
    """x [1, 70] by a constant on the right, then by one on the left, as the stages of a chain have them."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Reshape", ["h", "column"], ["hc"]),
        helper.make_node("MatMul", ["b", "hc"], ["y"]),
    ]
    constants = {
        "a": np.ascontiguousarray(first.values.T),
        "b": second.values,
        "column": np.array([second.values.shape[1], 1], np.int64),
    }
    return model_of(constants, nodes, {"x": [1, first.values.shape[1]], "y": [len(second.values), 1]}, opset)


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("storage", STORAGES)
def test_the_file_holds_codes_and_gives_the_same_numbers(storage: Storage, opset: int) -> None:
    first, second = stored(9, 70, storage), stored(33, 9, storage)
    plain = chain_of_two(first, second, opset)
    made = in_few_bits(plain, [first, second])
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 70), dtype=np.float32)
    (wanted,), (found,) = run_once(plain, [x]), run_once(made, [x])
    assert_same(found, wanted)
    weights = [t for t in made.graph.initializer if t.data_type == TensorProto.FLOAT and min(t.dims) > 1]
    assert not weights, "no fp32 copy of a weight stays in the file"
    operators = {node.op_type for node in made.graph.node}
    assert operators <= {"MatMul", "Reshape", "Cast", "DequantizeLinear", "Mul", "Transpose"}


def test_bytes_of_the_file_are_those_of_the_codes() -> None:
    weight = stored(256, 256, "int4")
    plain = model_of(
        {"a": np.ascontiguousarray(weight.values.T)},
        [helper.make_node("MatMul", ["x", "a"], ["y"])],
        {"x": [1, 256], "y": [1, 256]},
        21,
    )
    size = len(in_few_bits(plain, [weight]).SerializeToString())
    assert size < 256 * 256 / 2 + 256 * 8 * 2 + 1000


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("window", [(1, 1), (2, 3)])
def test_convolutions(storage: Storage, window: tuple[int, int]) -> None:
    """1x1, and one that covers its whole input: there K is no axis of the file, and a Mul applies the scales."""
    channels = 40
    weight = stored(12, channels * window[0] * window[1], storage)
    constants = {"w": weight.values.reshape(12, channels, *window)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    plain = model_of(constants, nodes, {"x": [1, channels, *window], "y": [1, 12, 1, 1]}, 21)
    made = in_few_bits(plain, [weight])
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(0).standard_normal((1, channels, *window), dtype=np.float32)
    assert_same(run_once(made, [x])[0], run_once(plain, [x])[0])
    assert made.graph.initializer[0].data_type in (TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT4)


def test_a_model_in_fp32_is_left_alone() -> None:
    weight = stored(5, 8, "fp32")
    plain = chain_of_two(weight, stored(4, 5, "fp32"), 17)
    assert in_few_bits(plain, [weight]) is plain

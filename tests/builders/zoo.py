"""Small ONNX models that together make IREE emit every kind of schedule the host knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Maker = Callable[[], onnx.ModelProto]


def _weights(name: str, *shape: int) -> onnx.TensorProto:
    """The same values for the same name and shape, however often a model is made."""
    random = np.random.default_rng([*name.encode(), *shape])
    return numpy_helper.from_array((random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32), name)


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _port(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list, inputs: list, outputs: list, constants: list) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "zoo", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


_node = helper.make_node


def fully_connected() -> onnx.ModelProto:
    nodes = [_node("MatMul", ["x", "W"], ["a"]), _node("Add", ["a", "b"], ["h"]), _node("Tanh", ["h"], ["y"])]
    return _model(nodes, [_port("x", 3, 40)], [_port("y", 3, 24)], [_weights("W", 40, 24), _weights("b", 24)])


def convolution_with_padding() -> onnx.ModelProto:
    """The padding is a fill, the pooling a second kernel."""
    nodes = [
        _node("Conv", ["x", "k"], ["a"], pads=[1, 1, 1, 1]),
        _node("MaxPool", ["a"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        _node("Flatten", ["c"], ["d"]),
        _node("MatMul", ["d", "W"], ["y"]),
    ]
    return _model(
        nodes, [_port("x", 1, 3, 8, 8)], [_port("y", 1, 10)], [_weights("k", 4, 3, 3, 3), _weights("W", 64, 10)]
    )


def two_inputs_two_outputs_with_copies() -> onnx.ModelProto:
    nodes = [
        _node("MatMul", ["x", "W"], ["a"]),
        _node("Add", ["a", "z"], ["y"]),
        _node("Concat", ["a", "z"], ["c"], axis=0),
        _node("Slice", ["c", "from", "to"], ["q"]),
    ]
    inputs, outputs = [_port("x", 3, 16), _port("z", 3, 8)], [_port("y", 3, 8), _port("q", 3, 8)]
    return _model(nodes, inputs, outputs, [_weights("W", 16, 8), _ints("from", 1), _ints("to", 4)])


def outputs_that_no_kernel_computes() -> onnx.ModelProto:
    """One output is an input, one a constant."""
    nodes = [_node("Identity", ["x"], ["y"]), _node("Identity", ["B"], ["b"]), _node("MatMul", ["x", "W"], ["z"])]
    outputs = [_port("y", 3, 16), _port("b", 8), _port("z", 3, 8)]
    return _model(nodes, [_port("x", 3, 16)], outputs, [_weights("W", 16, 8), _weights("B", 8)])


def integer_ports() -> onnx.ModelProto:
    """An embedding: int64 in, int64 out."""
    nodes = [_node("Gather", ["E", "ids"], ["e"]), _node("ArgMax", ["e"], ["y"], axis=2, keepdims=0)]
    return _model(
        nodes,
        [_port("ids", 1, 6, kind=TensorProto.INT64)],
        [_port("y", 1, 6, kind=TensorProto.INT64)],
        [_weights("E", 50, 8)],
    )


def attention() -> onnx.ModelProto:
    """One kernel is used twice, told apart by constants."""
    nodes = [
        _node("MatMul", ["x", "Wq"], ["q"]),
        _node("MatMul", ["x", "Wk"], ["k"]),
        _node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        _node("MatMul", ["q", "kt"], ["s"]),
        _node("Softmax", ["s"], ["p"]),
        _node("MatMul", ["p", "x"], ["y"]),
    ]
    return _model(
        nodes, [_port("x", 2, 7, 16)], [_port("y", 2, 7, 16)], [_weights("Wq", 16, 16), _weights("Wk", 16, 16)]
    )


def tt_layer_as_einsums() -> onnx.ModelProto:
    """The t3f form of a TT layer: IREE transposes it in registers, with vrgatherei16.vv."""
    nodes = [
        _node("Reshape", ["x", "s"], ["a"]),
        _node("Einsum", ["a", "g2"], ["b"], equation="pq,kmq->pkm"),
        _node("Einsum", ["b", "g1"], ["y"], equation="pkm,npk->nm"),
    ]
    constants = [_weights("g2", 5, 10, 20), _weights("g1", 12, 20, 5), _ints("s", 20, 20)]
    return _model(nodes, [_port("x", 1, 400)], [_port("y", 12, 10)], constants)


ZOO: tuple[Maker, ...] = (
    fully_connected,
    convolution_with_padding,
    two_inputs_two_outputs_with_copies,
    outputs_that_no_kernel_computes,
    integer_ports,
    attention,
)

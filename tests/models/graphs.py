"""Small ONNX models for the tests of lrf_dse.models, made by hand with onnx.helper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal random float32 of `shape`."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def node(op: str, inputs: list[str], outs: list[str], name: str = "", **attributes: Any) -> onnx.NodeProto:
    """One node."""
    return helper.make_node(op, inputs, outs, name, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    constants: Mapping[str, NDArray[Any]] | Sequence[onnx.TensorProto] = (),
    opset: int = 17,
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of `nodes`; not checked, so that it may be a bad one."""
    if isinstance(constants, Mapping):
        constants = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, input_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_type, shape) for name, shape in outputs.items()],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 19 else 12)


def matmul_model(
    weight: NDArray[Any] | None = None, *, in_shape: Shape = (1, 6), out_shape: Shape = (1, 4), **options: Any
) -> onnx.ModelProto:
    """x -> MatMul with `weight` [in, out] -> y, the node named fc."""
    weight = values(6, 4) if weight is None else weight
    fc = node("MatMul", ["x", "w"], ["y"], "fc")
    return model([fc], inputs={"x": in_shape}, outputs={"y": out_shape}, constants={"w": weight}, **options)


def saved(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Where `proto` was written."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path

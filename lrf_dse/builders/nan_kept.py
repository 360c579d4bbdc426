"""Write Clip, Max and Min so that a NaN goes through them, as it does in onnxruntime.

IREE 3.13 makes minimum and maximum instructions of them, which drop a NaN: a broken sensor would give plausible
outputs. A comparison with a NaN is false, so a choice by comparison keeps it.

    max(a, b)          b where a < b, else a; where b may be NaN, then b where b != b
    clip(x, low, high) min(max(x, low), high)

The module rewrites these three operators; everything else stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_COMPARISON = {"Max": "Less", "Min": "Greater"}
# Constants of more elements are not looked through; they are compared as if they held a NaN.
_SMALL = 4096


def with_nan_kept(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the operators of its graph rewritten; the bodies of If and Loop stay."""
    import onnx

    floats = _floats(model.graph)
    if not any(_drops_nan(node, floats) for node in model.graph.node):
        return model
    constants = {tensor.name for tensor in model.graph.initializer if _is_finite(tensor)}
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:]
    for node in model.graph.node:
        kept.graph.node.extend(_kept(node, constants) if _drops_nan(node, floats) else [node])
    return kept


def _drops_nan(node: onnx.NodeProto, floats: set[str]) -> bool:
    """Whether `node` is one of the three, on floating-point numbers."""
    # Integers have no NaN, and IREE's instructions for them are exact.
    return node.op_type in ("Clip", *_COMPARISON) and node.domain in ("", "ai.onnx") and node.input[0] in floats


def _floats(graph: onnx.GraphProto) -> set[str]:
    """The values that are known to be floating-point."""
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    known = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in known if value.type.tensor_type.elem_type in kinds}


def _is_finite(tensor: onnx.TensorProto) -> bool:
    """Whether a small constant, such as a bound, holds no NaN and no infinity."""
    from onnx import numpy_helper

    return prod(tensor.dims) <= _SMALL and bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def _kept(node: onnx.NodeProto, constants: set[str]) -> Iterator[onnx.NodeProto]:
    """The nodes that compute what `node` computes, the last one its output."""
    if node.op_type == "Clip":
        bounds = [(op, name) for op, name in zip(("Max", "Min"), node.input[1:], strict=False) if name]
    else:
        bounds = [(node.op_type, name) for name in node.input[1:]]
    value, output = node.input[0], node.output[0]
    if not bounds:
        yield node
    for number, (op, other) in enumerate(bounds):
        last = number == len(bounds) - 1
        result = output if last else f"{output}.step{number}"
        # Bounds of a Clip are taken to be numbers: a model whose bound is a NaN computes nothing of use.
        sure = node.op_type == "Clip" or other in constants
        yield from _chosen(op, value, other, result, other_is_finite=sure)
        value = result


def _chosen(op: str, value: str, other: str, result: str, *, other_is_finite: bool) -> Iterator[onnx.NodeProto]:
    from onnx import helper

    where = f"{result}.where"
    yield helper.make_node(_COMPARISON[op], [value, other], [where])
    if not other_is_finite:
        # Only a NaN differs from itself.
        equal, unequal, either = f"{result}.equal", f"{result}.unequal", f"{result}.either"
        yield helper.make_node("Equal", [other, other], [equal])
        yield helper.make_node("Not", [equal], [unequal])
        yield helper.make_node("Or", [where, unequal], [either])
        where = either
    yield helper.make_node("Where", [where, other, value], [result], name=f"{result}.choice")

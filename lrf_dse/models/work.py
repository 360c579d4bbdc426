"""How much a model computes, from its ONNX form alone: for limits of time, not for figures."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def operations(proto: onnx.ModelProto) -> int:
    """About how many multiply-adds, or operations on elements, one inference takes; unknown shapes count nothing.

    A kernel's call counts as the dense layer that it stands for.
    """
    graph = proto.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return sum(_operations(node, shapes) for node in graph.node)


def _operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    elements = sum(prod(shapes.get(name, (0,))) for name in node.output)
    read = [shapes.get(name, ()) for name in node.input]
    if node.op_type == "Conv" and len(read) > 1:
        # The weights are [out, in / groups, height, width].
        return elements * prod(read[1][1:])
    # The largest axis of the first operand stands for the length of the sums. That is too much where it is the batch,
    # which a limit of time may be.
    if node.op_type == "Gemm" or node.op_type.endswith("MatMul") or node.domain not in ("", "ai.onnx"):
        return elements * max((max(shape, default=1) for shape in read[:1]), default=1)
    return elements

"""Operations of classical learners (domain ai.onnx.ml) as standard ones: a linear model is an FC layer.

Trees, kernels and text stay as they are. A class label is left out with the outputs (`results`), so that only scores
are written out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.models.canonical.emit import Emitter, Expansion, expand_all
from lrf_dse.models.canonical.results import ML_DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir


def expand_learners(graph: ir.Graph) -> bool:
    """Write out the linear operations of ai.onnx.ml. Returns whether there was one."""
    return expand_all(graph, lambda node: _EXPANSIONS.get(node.op_type) if node.domain == ML_DOMAIN else None)


def _scaler(emit: Emitter, node: ir.Node) -> list[Any]:
    """Scaler: (x - offset) scale, one of each for a feature."""
    value = _as_float(emit, node)
    for name, kind in (("offset", "Sub"), ("scale", "Mul")):
        if name in node.attributes:
            value = emit.op(kind, value, emit.constant(np.asarray(node.attributes[name].value, np.float32), name))
    return [value]


def _normalizer(emit: Emitter, node: ir.Node) -> list[Any]:
    """Each row over its norm along the last axis."""
    kind = node.attributes.get_string("norm", "MAX")
    value = _as_float(emit, node)
    size = emit.op("Abs", value)
    axis = emit.constant([-1], "axis")
    if kind == "L2":
        norm = emit.op("Sqrt", emit.op("ReduceSum", emit.op("Mul", value, value), axis, keepdims=1))
    elif kind == "L1":
        norm = emit.op("ReduceSum", size, axis, keepdims=1)
    else:
        # ReduceMax takes its axes as an attribute before opset 18 and as an input from there on; TopK and ReduceSum
        # look the same in every opset that is kept.
        norm = emit.several("TopK", 2, size, emit.constant([1], "one"), axis=-1)[0]
    return [emit.op("Div", value, norm)]


def _linear_regressor(emit: Emitter, node: ir.Node) -> list[Any] | None:
    if node.attributes.get_string("post_transform", "NONE") != "NONE":
        return None
    return [_linear(emit, node, node.attributes.get_int("targets", 1) or 1)]


def _linear_classifier(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """The scores, where no output of the model needs the label; what was made of the label (a Cast) goes with it."""
    made = _made_of(node.outputs[0])
    if made is None:
        return None
    classes = [name for name in ("classlabels_ints", "classlabels_strings") if name in node.attributes]
    count = len(node.attributes[classes[0]].value) if classes else 0
    coefficients, intercepts = (np.asarray(node.attributes[k].value) for k in ("coefficients", "intercepts"))
    transform = node.attributes.get_string("post_transform", "NONE")
    if count < 2 or len(intercepts) != count or coefficients.size % count:
        return None  # one row of coefficients for two classes has rules of its own
    if transform not in ("SOFTMAX", "LOGISTIC", "NONE"):
        return None
    # What was made of the label would otherwise keep the node, which is replaced without a label.
    emit.graph.remove(made, safe=True)
    scores = _linear(emit, node, count)
    if transform == "SOFTMAX":
        return [None, emit.op("Softmax", scores, axis=-1)]
    if transform == "LOGISTIC":
        return [None, emit.op("Sigmoid", scores)]
    return [None, scores]


def _made_of(value: ir.Value) -> list[ir.Node] | None:
    """The nodes that depend on `value`; None if an output of the model is one."""
    if value.is_graph_output():
        return None
    found: dict[ir.Node, None] = {}
    waiting = list(value.consumers())
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found[node] = None
        if any(output.is_graph_output() for output in node.outputs):
            return None
        waiting += [user for output in node.outputs for user in output.consumers()]
    return list(found)


def _linear(emit: Emitter, node: ir.Node, rows: int) -> ir.Value:
    # ai.onnx.ml stores the coefficients in one list, [classes or targets, features] in row-major order.
    matrix = np.asarray(node.attributes["coefficients"].value, np.float32).reshape(rows, -1)
    operands = [_as_float(emit, node), emit.constant(matrix, "weight")]
    if "intercepts" in node.attributes:
        operands.append(emit.constant(np.asarray(node.attributes["intercepts"].value, np.float32), "bias"))
    value = emit.op("Gemm", *operands, transB=1)
    emit.name_last()
    return value


def _as_float(emit: Emitter, node: ir.Node) -> ir.Value:
    import onnx_ir as ir

    value = node.inputs[0]
    assert value is not None
    return value if value.dtype == ir.DataType.FLOAT else emit.op("Cast", value, to=int(ir.DataType.FLOAT))


def _extractor(emit: Emitter, node: ir.Node) -> list[Any]:
    return [emit.op("Gather", node.inputs[0], node.inputs[1], axis=-1)]


_EXPANSIONS: dict[str, Expansion] = {
    "ArrayFeatureExtractor": _extractor,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}

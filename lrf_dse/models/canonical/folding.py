"""What depends on no input becomes a constant: weights behind Transpose, Slice, Concat or Mul, and shape arithmetic.

onnxruntime computes the values, so that any operation it knows can be folded; every value keeps its name. Its own
optimiser is not used for it: that fuses and renames nodes on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.canonical.emit import inline_branch
from lrf_dse.models.canonical.tensors import BIG_BYTES
from lrf_dse.models.constants import is_looked_up, static_shape
from lrf_dse.models.evaluate import run_session, session_of
from lrf_dse.models.surgery import drop_if_unused

if TYPE_CHECKING:
    import onnx_ir as ir

# fmt: off
NEVER = frozenset((
    "Bernoulli", "Dropout", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Scan", "SequenceMap",
))
# fmt: on
"""Operations with another result each time, or with a body."""

QUANTISED = frozenset(("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"))
"""Folding these would undo a quantisation, which is the user's to ask for."""

MOST_GROWTH = 4
"""A constant that is made from much smaller ones (an Expand of a scalar) stays computed above BIG_RESULT."""

BIG_RESULT = 1 << 20
"""Elements that a constant may always have: 4 MB of float32."""


def fold_constants(model: ir.Model, *, keep_quantised: bool) -> bool:
    """Make every value that depends on no input an initializer. Returns whether anything changed.

    An If whose condition became constant is replaced by the branch that is taken.
    """
    changed = _constant_nodes(model.graph)
    changed |= _known_shapes(model.graph)
    changed |= _known_branches(model.graph)
    never = NEVER | QUANTISED if keep_quantised else NEVER
    found = _foldable(model.graph, never)
    if found:
        changed |= _fold(model, found)
    return changed


def set_constant(graph: ir.Graph, value: ir.Value, array: NDArray[Any] | ir.TensorProtocol) -> None:
    """Let `value`, computed by a node of `graph`, be a constant of the same name; the node goes if it is not needed."""
    import onnx_ir as ir

    node, name = value.producer(), value.name
    assert node is not None and name, "a constant has its own name"
    tensor = ir.tensor(np.asarray(array, order="C"), name=name) if isinstance(array, np.ndarray) else array
    tensor.name = name
    constant = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)  # type: ignore[arg-type]
    ir.convenience.replace_all_uses_with(value, constant)
    # The node stays if another of its outputs is used, and a graph may not hold one name twice.
    value.name = f"{name}.folded"
    graph.register_initializer(constant)
    _drop(graph, node)


def _drop(graph: ir.Graph, node: ir.Node) -> None:
    """Remove `node` if nobody uses what it gives, and what only it used."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        unused = not any(output.uses() or output.is_graph_output() for output in node.outputs)
        if not unused or node.graph is not graph:
            continue
        operands = tuple(node.inputs)
        graph.remove(node, safe=True)
        for operand in operands:
            producer = None if operand is None else operand.producer()
            if producer is not None:
                waiting.append(producer)
            drop_if_unused(graph, operand)


def _constant_nodes(graph: ir.Graph) -> bool:
    changed = False
    for node in list(graph):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or node.outputs[0].is_graph_output():
            continue
        tensor = _attribute_tensor(node)
        if tensor is not None:
            set_constant(graph, node.outputs[0], tensor)
            changed = True
    return changed


def _attribute_tensor(node: ir.Node) -> NDArray[Any] | ir.TensorProtocol | None:
    if "value" in node.attributes:
        return node.attributes["value"].as_tensor()
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in node.attributes:
            return np.asarray(node.attributes[name].value, dtype)
    if "value_floats" in node.attributes:
        return np.asarray(node.attributes["value_floats"].value, np.float32)
    # A Constant of text or of sparse data stays a node: nothing here computes with it.
    return None


def _known_shapes(graph: ir.Graph) -> bool:
    """Make the Shape and Size of values whose shape is known constants."""
    changed = False
    for node in list(graph):
        if node.op_type not in ("Shape", "Size") or node.domain not in ("", "ai.onnx"):
            continue
        shape = static_shape(node.inputs[0])
        if shape is None or node.outputs[0].is_graph_output():
            continue
        start, end = (node.attributes.get_int(key, default) for key, default in (("start", 0), ("end", len(shape))))
        # Opset 15 gave Shape `start` and `end`, with the rules of a Python slice: negative ones count from the back,
        # and too large ones are clamped.
        known = shape[start:end] if node.op_type == "Shape" else prod(shape)
        set_constant(graph, node.outputs[0], np.asarray(known, np.int64))
        changed = True
    return changed


def _known_branches(graph: ir.Graph) -> bool:
    """Put the branch that is taken in the place of an If with a constant condition."""
    changed = False
    for node in list(graph):
        if node.op_type != "If" or node.domain not in ("", "ai.onnx") or not is_constant(node.inputs[0]):
            continue
        condition = node.inputs[0].const_value.numpy()  # type: ignore[union-attr]
        branch = "then_branch" if bool(np.ravel(condition)[0]) else "else_branch"
        inline_branch(graph, node, node.attributes[branch].as_graph())
        changed = True
    return changed


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is an initializer."""
    return value is not None and value.is_initializer() and value.const_value is not None


def _foldable(graph: ir.Graph, never: frozenset[str]) -> list[ir.Node]:
    """The nodes whose operands are all constant, or computed by such nodes, in execution order."""
    found: dict[ir.Node, None] = {}
    # ONNX lists nodes in topological order, so that one pass sees each producer before its users.
    for node in graph:
        operands = [value for value in node.inputs if value is not None]
        known = all(is_constant(value) or value.producer() in found for value in operands)
        given = any(output.is_graph_output() for output in node.outputs)
        # An output head that shares the matrix of an embedding would get a copy of its own.
        tied = node.op_type == "Transpose" and is_looked_up(node.inputs[0])
        if known and not given and not tied and node.op_type not in never and _is_worth_it(node):
            found[node] = None
    return list(found)


def _has_body(node: ir.Node) -> bool:
    import onnx_ir as ir

    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())


def _is_worth_it(node: ir.Node) -> bool:
    """Whether no body runs, and the results are tensors that are not much larger than what they are made of."""
    import onnx_ir as ir

    if (not node.inputs and node.op_type != "Constant") or _has_body(node):
        return False
    if any(output.type is not None and not isinstance(output.type, ir.TensorType) for output in node.outputs):
        return False
    shapes = [static_shape(output) for output in node.outputs if output.name]
    if any(shape is None for shape in shapes):
        # These can make a large tensor out of a few numbers; the results of all others are about as large as their
        # operands.
        return node.op_type not in ("ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "OneHot", "Pad")
    given = sum(prod(static_shape(value) or ()) for value in node.inputs if value is not None)
    made = sum(prod(shape) for shape in shapes if shape is not None)
    return made <= max(BIG_RESULT, MOST_GROWTH * given)


def _fold(model: ir.Model, nodes: Sequence[ir.Node]) -> bool:
    """Compute `nodes` at once, or one by one where one of them cannot be."""
    results = _computed(model, nodes)
    if results is None and len(nodes) > 1:
        results = {}
        for node in nodes:
            if all(value is None or is_constant(value) or value in results for value in node.inputs):
                results |= _computed(model, [node], results) or {}
    for value, array in (results or {}).items():
        set_constant(model.graph, value, array)
    return bool(results)


def _computed(
    model: ir.Model, nodes: Sequence[ir.Node], known: dict[ir.Value, NDArray[Any]] | None = None
) -> dict[ir.Value, NDArray[Any]] | None:
    """What `nodes` give to other nodes, by value; None if onnxruntime refuses."""
    import onnx
    import onnx_ir as ir

    inside = set(nodes)
    wanted = [
        output
        for node in nodes
        for output in node.outputs
        if output.name and any(use.node not in inside for use in output.uses())
    ]
    if not wanted:
        return None
    graph, feed = onnx.GraphProto(name="constants"), {}
    operands = {
        value for node in nodes for value in node.inputs if value is not None and value.producer() not in inside
    }
    for operand in operands:
        array = (known or {}).get(operand)
        tensor = operand.const_value if array is None else ir.tensor(array, name=operand.name)
        assert tensor is not None and operand.name, "only constants are folded"
        # Small operands travel inside the protobuf, large ones beside it: a protobuf would hold one more copy of each.
        if tensor.nbytes <= BIG_BYTES or tensor.dtype not in _FED:
            graph.initializer.append(ir.to_proto(tensor))
            graph.initializer[-1].name = operand.name
            continue
        feed[operand.name] = np.ascontiguousarray(tensor.numpy())
        code = int(tensor.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(operand.name, code, tensor.shape.numpy()))
    graph.node.extend(ir.to_proto(node) for node in nodes)
    graph.output.extend(onnx.ValueInfoProto(name=output.name) for output in wanted)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in model.graph.opset_imports.items()]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    try:
        arrays = run_session(session_of(proto, optimise=False), feed)
    except ModelError:
        return None
    return {v: a for v, a in zip(wanted, arrays, strict=True) if isinstance(a, np.ndarray) and a.dtype.kind in "fiub"}


_FED = (1, 2, 3, 4, 5, 6, 7, 9, 11)
"""Element types that onnxruntime takes as numpy arrays: float32 and float64, integers of whole bytes, booleans."""

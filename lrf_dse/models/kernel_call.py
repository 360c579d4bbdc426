"""An FC layer as a call of an ONNX function: how a generated kernel stands in a model.

The function (domain "lrf_dse") has the layer's weights as inputs, cores or a dense matrix, and as body the reference of
Reshape and MatMul, with the bias and the activation that are computed with it. So onnxruntime runs the model as it is,
and a builder replaces the call by a kernel made from the same weights. The call's attributes hold the KernelSpec, and
the KernelSchedule where one was tuned, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen import Activation, KernelSchedule, KernelSpec
from lrf_dse.jsonform import to_json
from lrf_dse.models.chain import chain
from lrf_dse.models.constants import resolve, static_shape
from lrf_dse.models.surgery import add_constant, drop_if_unused
from lrf_dse.schema import Order, Storage, TTShape
from lrf_dse.tt.contraction import Core, shape_of
from lrf_dse.tt.grid import GROUP, Stored

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "lrf_dse"
"""The domain of these functions; nothing else in a model has it."""
SPEC, SCHEDULE = "kernel_spec", "kernel_schedule"
"""The attributes of a call."""

_LEAST_IR_VERSION = 8  # older models have no functions
_CALL = "call"

_AXES = {
    ("last_first", "left"): (0, 1, 2, 3),
    ("last_first", "right"): (2, 3, 0, 1),
    ("first_first", "left"): (1, 3, 0, 2),
    ("first_first", "right"): (0, 2, 1, 3),
}
"""The axes of a core [r, m, n, r'] in the matrix of its stage (left), or in its transpose: see tt.contraction."""


@dataclass(frozen=True)
class KernelChoice:
    """A layer is to be computed by a generated kernel on so many threads; without a schedule by its default one."""

    threads: int = 1
    schedule: KernelSchedule | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """What a call computes: by cores [r, m, n, r'], or by the one matrix [out, in] of a dense layer.

    `order` is that of the reference, a schedule has its own. `stored` are the matrices of the stages of `order`, by
    core, where some are stored in few bits: weights are their values.
    """

    weights: Sequence[Core]
    order: Order
    kernel: KernelChoice
    stored: Sequence[Stored] = ()

    @property
    def shape(self) -> TTShape | None:
        """The TT shape of the cores; None for a dense layer."""
        return None if self.weights[0].ndim == 2 else shape_of(self.weights)

    @property
    def storages(self) -> tuple[Storage, ...]:
        """How each core is stored; none if all are in fp32."""
        storages = tuple(stored.storage for stored in self.stored)
        return storages if any(storage != "fp32" for storage in storages) else ()

    def constants(self) -> list[NDArray[Any]]:
        """The inputs of the call besides x: fp32 weights as they are, else codes [rows, K] and their scales."""
        if not self.storages:
            return list(self.weights)
        arrays: list[NDArray[Any]] = []
        for weight, stored in zip(self.weights, self.stored, strict=True):
            arrays.append(weight if stored.storage == "fp32" else stored.codes)
            arrays += [] if stored.scales is None else [stored.scales]
        return arrays


def call_node(inputs: Sequence[ir.Value], call: Call, *, out_shape: tuple[int, ...], name: str) -> ir.Node:
    """A node, not yet in a graph, for x W^T of `out_shape` from x and the weights; `define_functions` completes it."""
    import onnx_ir as ir

    output = ir.val(f"{name}_out", ir.DataType.FLOAT, out_shape)
    node = ir.node("Dense" if call.shape is None else "TTDense", inputs, domain=DOMAIN, outputs=[output], name=name)
    # `meta` lives in memory only; onnx_ir writes `attributes` and `metadata_props` to the file.
    node.meta[_CALL] = call
    return node


def define_functions(model: ir.Model, taken: set[str]) -> None:
    """Complete every call in `model`: join bias and activation to it, write its attributes and its function."""
    nodes = [node for node in model.graph if _CALL in node.meta]
    # The body of a function names an opset of its own; here it is the model's.
    (opset,) = {v for domain, v in model.graph.opset_imports.items() if domain in ("", "ai.onnx")}
    for index, node in enumerate(nodes, 1):
        call: Call = node.meta[_CALL]
        bias = _join_bias(model.graph, node, taken)
        activation = _join_activation(model.graph, node)
        spec = _spec_of(node, call, bias=bias, activation=activation)
        _set_text(node, SPEC, to_json(spec))
        if call.kernel.schedule is not None:
            _set_text(node, SCHEDULE, to_json(call.kernel.schedule))
        # One function a layer: its shapes are part of it.
        node.op_type = f"{node.op_type}_{index}"
        function = _function(node, call, spec, opset=opset)
        model.functions[function.identifier()] = function
    if nodes:
        model.graph.opset_imports[DOMAIN] = 1
        model.ir_version = max(model.ir_version, _LEAST_IR_VERSION)


def activation_of(node: ir.Node) -> Activation | None:
    """What `node` clamps to, if it is a Relu or a Clip (Relu6) with constant bounds; else None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Relu":
        return Activation(0.0, None)
    if node.op_type != "Clip":
        return None
    # Clip takes its bounds as optional inputs since opset 11; the canonical form has 13 at least.
    bounds = [float("-inf"), float("inf")]
    for side, value in enumerate(node.inputs[1:3]):
        constant = resolve(value)
        if value is not None and constant is None:
            return None
        if constant is not None:
            bounds[side] = float(constant.array().reshape(-1)[0])
    low, high = bounds
    if not low <= high or high < 0:  # NaN, bounds that cross, which ONNX allows, or one that no kernel computes
        return None
    return Activation(low if isfinite(low) else None, high if isfinite(high) else None)


def _join_bias(graph: ir.Graph, call: ir.Node, taken: set[str]) -> bool:
    """Make a constant vector that alone is added to the call's value an input of the call; whether there was one."""
    add = _sole_user(call.outputs[0], "Add")
    shape = static_shape(call.outputs[0])
    if add is None or shape is None:
        return False
    constant = resolve(next((value for value in add.inputs if value is not call.outputs[0]), None))
    if constant is None or constant.dtype != "FLOAT" or len(constant.shape) > len(shape):
        return False
    # A bias is one number for each output, along the last axis; anything else is a tensor that happens to be added.
    if prod(constant.shape) not in (1, shape[-1]) or prod(constant.shape[:-1]) != 1:
        return False
    bias = np.ascontiguousarray(np.broadcast_to(constant.array().reshape(-1), (shape[-1],)))
    call.resize_inputs(len(call.inputs) + 1)
    call.replace_input_with(len(call.inputs) - 1, add_constant(graph, bias, f"{call.name}.bias", taken))
    _absorb(graph, call, add)
    return True


def _join_activation(graph: ir.Graph, call: ir.Node) -> Activation | None:
    """Let the call compute the activation that alone uses its value; None if there is none."""
    node = _sole_user(call.outputs[0], "Relu", "Clip")
    activation = None if node is None else activation_of(node)
    if node is not None and activation is not None:
        _absorb(graph, call, node)
    return activation


def _sole_user(value: ir.Value, *ops: str) -> ir.Node | None:
    """The node of one of `ops` that alone uses `value`, which is no output of the model."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.graph is not value.producer().graph:  # type: ignore[union-attr]
        return None
    node = uses[0].node
    return node if node.op_type in ops and node.domain in ("", "ai.onnx") else None


def _absorb(graph: ir.Graph, call: ir.Node, node: ir.Node) -> None:
    """Remove `node`, a user of the call's value: the call now gives the value that `node` gave, under its name."""
    import onnx_ir as ir

    operands = tuple(value for value in node.inputs if value is not call.outputs[0])
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], [node.outputs[0]], [call.outputs[0]])
    for value in operands:
        drop_if_unused(graph, value)


def _spec_of(node: ir.Node, call: Call, *, bias: bool, activation: Activation | None) -> KernelSpec:
    shape = call.shape
    out_shape = static_shape(node.outputs[0])
    assert out_shape is not None, "calls are made with known shapes"
    out_features, in_features = (shape.out_features, shape.in_features) if shape else call.weights[0].shape
    return KernelSpec(
        shape=shape,
        out_features=out_features,
        in_features=in_features,
        batch=prod(out_shape) // out_features,
        has_bias=bias,
        activation=activation,
        threads=call.kernel.threads,
        storages=call.storages,
        order=call.order,
    )


def _set_text(node: ir.Node, name: str, value: Any) -> None:
    import onnx_ir as ir

    node.attributes[name] = ir.AttrString(name, json.dumps(value))


def _function(node: ir.Node, call: Call, spec: KernelSpec, *, opset: int) -> ir.Function:
    """The function that `node` calls: the reference of the layer, in nodes of the standard domain."""
    import onnx_ir as ir

    body = _Body()
    inputs = [ir.val(f"input_{index}") for index in range(len(node.inputs))]
    x, constants = inputs[0], inputs[1 : 1 + len(call.constants())]
    weights = _dequantized(body, call, constants) if call.storages else constants
    if spec.shape is None:
        # The kernel wants W [out, in], MatMul on rows its transpose.
        x = body.add("MatMul", x, body.add("Transpose", weights[0], perm=[1, 0]))
    else:
        x = _chained(body, node, call, x, weights)
    if spec.has_bias:
        x = body.add("Add", x, inputs[-1])
    if spec.activation is not None:
        for op, bound in (("Max", spec.activation.low), ("Min", spec.activation.high)):
            x = x if bound is None else body.add(op, x, body.constant(np.array(bound, np.float32)))
    graph = ir.Graph(inputs, [x], nodes=body.nodes, opset_imports={"": opset})
    attributes = [ir.Attr(name, ir.AttributeType.STRING, None) for name in (SPEC, SCHEDULE)]
    return ir.Function(DOMAIN, node.op_type, graph=graph, attributes=attributes)


def _dequantized(body: _Body, call: Call, constants: Sequence[ir.Value]) -> list[ir.Value]:
    """The cores, or the dense matrix, that codes and scales stand for."""
    given, weights = iter(constants), []
    for weight, stored in zip(call.weights, call.stored, strict=True):
        value = next(given)
        if stored.storage != "fp32":
            value = body.cast(value)
            if stored.scales is not None:
                value = body.add("Mul", value, _spread(body, next(given), stored))
            if weight.ndim == 4:
                value = _core(body, value, weight.shape, call.order)
        weights.append(value)
    return weights


def _spread(body: _Body, scales: ir.Value, stored: Stored) -> ir.Value:
    """Scales [rows, groups] for every element: as they are for int8, repeated along K for int4."""
    scales = body.cast(scales)
    if stored.storage == "int8":
        return scales
    rows, k = stored.codes.shape
    groups = -(-k // GROUP)
    sizes = [(rows, groups, 1), (rows, groups, GROUP), (rows, groups * GROUP)]
    one, many, flat = (body.constant(np.array(size, np.int64)) for size in sizes)
    scales = body.add("Reshape", body.add("Expand", body.add("Reshape", scales, one), many), flat)
    # The last group may be shorter than GROUP: what was repeated beyond K is cut off.
    begin, end, axis = (body.constant(np.array([place], np.int64)) for place in (0, k, 1))
    return body.add("Slice", scales, begin, end, axis)


def _core(body: _Body, matrix: ir.Value, shape: tuple[int, ...], order: Order) -> ir.Value:
    """The core [r, m, n, r'] of its stage's matrix."""
    left, m, n, right = shape
    if order == "last_first":
        # With the last core first A_k is [(r m), (n r')]: a core in its own order of axes.
        return body.add("Reshape", matrix, body.constant(np.array(shape, np.int64)))
    # With the first core first A_k is [(m r'), (r n)].
    apart = body.add("Reshape", matrix, body.constant(np.array((m, right, left, n), np.int64)))
    return body.add("Transpose", apart, perm=[2, 0, 3, 1])


def _chained(body: _Body, node: ir.Node, call: Call, x: ir.Value, cores: Sequence[ir.Value]) -> ir.Value:
    """The value of the reference chain of a call, whose cores are inputs of the function."""
    in_shape, out_shape = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    assert in_shape is not None and out_shape is not None, "calls are made with known shapes"
    matrices = iter(cores if call.order == "first_first" else reversed(cores))
    for step in chain(call.weights, call.order, in_shape=in_shape, out_shape=out_shape):
        if step.op == "Reshape":
            x = body.add("Reshape", x, body.constant(step.constant))
            continue
        if step.op == "Transpose":
            x = body.add("Transpose", x, perm=step.constant.tolist())
            continue
        matrix = body.add("Transpose", next(matrices), perm=list(_AXES[call.order, step.form]))
        matrix = body.add("Reshape", matrix, body.constant(np.array(step.view, np.int64)))
        x = body.add("MatMul", *((matrix, x) if step.form == "left" else (x, matrix)))
    return x


class _Body:
    """The nodes of a function, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def add(self, op: str, *operands: ir.Value, **attributes: Any) -> ir.Value:
        """The value of a new node."""
        import onnx_ir as ir

        node = ir.node(op, operands, attributes)
        self.nodes.append(node)
        return node.outputs[0]

    def cast(self, value: ir.Value) -> ir.Value:
        """`value` in single precision."""
        return self.add("Cast", value, to=1)  # ONNX's code of float32

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """The value of a new Constant node."""
        import onnx_ir as ir

        # An ONNX function has no initializers.
        return self.add("Constant", value=ir.tensor(array))

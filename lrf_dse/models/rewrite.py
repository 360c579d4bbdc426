"""Rewrite FC layers of a model: as chains of Reshape and MatMul (`chain`), or as calls of generated kernels.

Owns the surgery on the graph: what computes the layer takes the place of the MatMul or Conv, the value that came out
keeps its name, a bias stays an Add (and may be shifted), and constants that nobody uses any more go. The model that was
read is never changed: the work is on a copy that shares its tensors. The calls are those of `kernel_call`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import UsageError
from lrf_dse.models.chain import Step, chain, reshape_step
from lrf_dse.models.constants import resolve, static_shape
from lrf_dse.models.kernel_call import Call, KernelChoice, call_node, define_functions
from lrf_dse.models.model import Model
from lrf_dse.models.site import Array, FcSite, FcUse, bias_input
from lrf_dse.models.surgery import add_constant, drop_if_unused, fresh, make_node, names_in
from lrf_dse.schema import FcLayer, Order, TTShape
from lrf_dse.tt.contraction import Core, shape_of
from lrf_dse.tt.grid import Stored

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

SINGLE_LAYER_OPSET = 17

REWRITE_VERSION = 1
"""To be raised whenever the graph around a layer changes; the form of a layer itself is part of its key."""


@dataclass(frozen=True, eq=False)
class Replacement:
    """What takes the place of a layer: its cores and their contraction order, or a dense `weight` [out, in].

    With neither the layer keeps its own weight. `bias_shift` [out] is added to the layer's constant bias, in every use.
    With a `kernel` cores or weight are those of a call of that generated kernel, else of a chain. `stored` are the
    matrices of the cores' stages, by core, or of the one weight, as they are stored in few bits: cores and weight are
    their values.
    """

    cores: Sequence[Core] | None = None
    order: Order = "last_first"
    weight: Array | None = None
    bias_shift: Array | None = None
    kernel: KernelChoice | None = None
    stored: Sequence[Stored] | None = None


KEPT = Replacement()
"""The layer stays as it is."""


def rewrite(
    model: Model, replacements: Mapping[str, Replacement], values: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """`model` with each named layer computed by its replacement; the other layers are kept.

    `values` are those of other constants of the result, by name, before kernels join them. A layer with several uses is
    replaced in all of them, and they share its constants. Raises UsageError for an unknown layer, cores of another
    size, or a shift of a bias that is not there.
    """
    import onnx_ir as ir

    for name, replacement in replacements.items():
        _check(model.site(name), replacement)
    copy = model.ir.clone()
    nodes = {node.name: node for node in copy.graph}
    taken = names_in(copy.graph)
    for name, replacement in replacements.items():
        constants = _Constants(copy.graph, name, taken)
        made = replacement
        # A kernel is generated with its weights, so that a kept layer gets its own here.
        if made.kernel is not None and made.cores is None and made.weight is None:
            made = replace(made, weight=model.weights(name)[0])
        for use in model.site(name).uses:
            node = nodes[use.node.name]
            if made.bias_shift is not None:
                _shift_bias(node, use, made.bias_shift, constants)
            if made.cores is not None or made.kernel is not None:
                _replace(node, use, made, constants)
            elif made.weight is not None:
                _set_weight(node, use.weight_at, use.stored(made.weight), constants)
    for name, value in (values or {}).items():
        if name in copy.graph.initializers:
            copy.graph.initializers[name].const_value = ir.tensor(np.asarray(value, np.float32), name=name)
    # Last: it joins biases to the calls as constants of other names, and `values` go by the names before.
    define_functions(copy, taken)
    return ir.to_proto(copy)


class _Constants:
    """The constants that one layer gets, each once: its uses share them."""

    def __init__(self, graph: ir.Graph, layer: str, taken: set[str]) -> None:
        self.graph, self.layer, self.taken = graph, layer, taken
        self._known: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def add(self, array: NDArray[Any], kind: str) -> ir.Value:
        """`array` as an initializer, named by its kind; an equal one that is there already serves again."""
        key = (array.dtype.str, array.shape, sha256(np.ascontiguousarray(array).tobytes()).digest())
        if key not in self._known:
            self._known[key] = add_constant(self.graph, array, f"{self.layer}.{kind}", self.taken)
        return self._known[key]


def _check(site: FcSite, replacement: Replacement) -> None:
    if replacement.cores is not None:
        _check_sizes(site.layer, replacement.cores)
    if replacement.bias_shift is not None and any(use.bias is None for use in site.uses):
        raise UsageError(f"layer {site.layer.name} has no constant bias to shift")


def single_layer_model(
    layer: FcLayer, replacement: Replacement, *, bias: Array | None = None, opset: int = SINGLE_LAYER_OPSET
) -> onnx.ModelProto:
    """A model that holds only `layer`: x [batch, in] -> y [batch, out].

    It is computed by the cores or the weight of `replacement`; `bias` [out] or [batch, out] is added.
    """
    import onnx_ir as ir

    if replacement.cores is not None:
        _check_sizes(layer, replacement.cores)
    rows = (layer.batch, layer.out_features)
    x = ir.val("x", ir.DataType.FLOAT, (layer.batch, layer.in_features))
    graph = ir.Graph([x], [], nodes=[], name="layer", opset_imports={"": opset})
    taken = {"x", "y"}
    nodes = _computed(x, replacement, _Constants(graph, "layer", taken), out_shape=rows)
    if bias is not None:
        operands = [nodes[-1].outputs[0], add_constant(graph, bias, "bias", taken)]
        nodes.append(make_node("Add", operands, rows, "layer.bias_add", taken))
    graph.extend(nodes)
    nodes[-1].outputs[0].name = "y"
    graph.outputs.append(nodes[-1].outputs[0])
    # IR version 8 came with opset 15-18; a newer opset needs a newer one.
    model = ir.Model(graph, ir_version=8 if opset <= 18 else 10, producer_name="lrf-dse")
    define_functions(model, taken)
    return ir.to_proto(model)


def _check_sizes(layer: FcLayer, cores: Sequence[Core]) -> None:
    shape = shape_of(cores)
    if (shape.out_features, shape.in_features) != (layer.out_features, layer.in_features):
        raise UsageError(
            f"layer {layer.name} is [{layer.out_features}, {layer.in_features}], but the cores given for it "
            f"multiply to [{shape.out_features}, {shape.in_features}]"
        )


def _replace(node: ir.Node, use: FcUse, replacement: Replacement, constants: _Constants) -> None:
    """Put a chain, or the call of a kernel, in the place of `node`."""
    import onnx_ir as ir

    graph, output, x = constants.graph, node.outputs[0], node.inputs[use.x_at]
    out_shape = static_shape(output)
    assert x is not None and out_shape is not None, "discover() takes only known shapes"
    bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
    if replacement.kernel is not None and use.form != "rows":
        nodes = _call_between_transposes(x, use, replacement, constants, bias=bias, out_shape=out_shape)
    else:
        nodes = _computed(x, replacement, constants, out_shape=out_shape, columns=use.columns)
        if bias is not None:
            # Conv adds its bias along axis 1; an Add aligns axes from the last one, so that the bias needs ones behind
            # it.
            column = constants.add(_array(bias).reshape(-1, *(1 for _ in out_shape[2:])), "bias")
            nodes.append(
                make_node(
                    "Add", [nodes[-1].outputs[0], column], out_shape, f"{constants.layer}.bias_add", constants.taken
                )
            )
    operands = tuple(node.inputs)  # removing a node empties its inputs
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [output], [nodes[-1].outputs[0]])
    for value in operands:
        drop_if_unused(graph, value)


def _call_between_transposes(
    x: ir.Value,
    use: FcUse,
    replacement: Replacement,
    constants: _Constants,
    *,
    bias: ir.Value | None,
    out_shape: tuple[int, ...],
) -> list[ir.Node]:
    """A kernel takes rows: x [outer, in, columns] is turned before it, and y after it; the bias is the kernel's."""
    prefix, taken = f"{constants.layer}.rows", constants.taken
    out_features = use.matrix().shape[0]
    nodes: list[ir.Node] = []

    def reshaped(value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        if static_shape(value) == shape:
            return value
        nodes.extend(_emit(value, (reshape_step(shape),), constants))
        return nodes[-1].outputs[0]

    def turned(value: ir.Value, shape: tuple[int, int, int]) -> ir.Value:
        outer, first, second = shape
        # With one row or one column both orders are the same bytes.
        if 1 in (first, second):
            return reshaped(value, (outer, second, first))
        value = reshaped(value, shape)
        nodes.append(make_node("Transpose", [value], (outer, second, first), prefix, taken, perm=[0, 2, 1]))
        return nodes[-1].outputs[0]

    rows = turned(x, (use.outer, use.matrix().shape[1], use.columns))
    made_shape = (use.outer, use.columns, out_features)
    nodes.extend(_computed(rows, replacement, constants, out_shape=made_shape))
    if bias is not None:
        operands = [nodes[-1].outputs[0], constants.add(_array(bias).reshape(-1), "bias")]
        nodes.append(make_node("Add", operands, made_shape, f"{constants.layer}.bias_add", taken))
    reshaped(turned(nodes[-1].outputs[0], made_shape), out_shape)
    return nodes


def _computed(
    x: ir.Value, replacement: Replacement, constants: _Constants, *, out_shape: tuple[int, ...], columns: int = 1
) -> list[ir.Node]:
    """The nodes of W x of `out_shape`, the last one giving it: not yet in the graph, but their constants are."""
    cores, order, weight = replacement.cores, replacement.order, replacement.weight
    weights = cores if cores is not None else [np.asarray(weight, np.float32)]
    if replacement.kernel is not None:
        name = fresh(f"{constants.layer}.kernel", constants.taken)
        kind = "weight" if cores is None else "core"
        call = Call(weights, order, replacement.kernel, replacement.stored or ())
        inputs = [x, *(constants.add(array, kind) for array in call.constants())]
        return [call_node(inputs, call, out_shape=out_shape, name=name)]
    in_shape = static_shape(x)
    assert in_shape is not None, "the shapes around a layer are known"
    return _emit(x, _steps(replacement, in_shape, out_shape, columns=columns), constants)


def _steps(
    replacement: Replacement, in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, columns: int = 1
) -> tuple[Step, ...]:
    """The steps of a layer without a generated kernel, from x of `in_shape`; a dense layer takes x as rows."""
    cores, order = replacement.cores, replacement.order
    if cores is not None:
        return chain(cores, order, in_shape=in_shape, out_shape=out_shape, columns=columns)
    return (Step("MatMul", "right", np.asarray(replacement.weight, np.float32).T, out_shape),)


def layer_form(layer: FcLayer, shape: TTShape | None, order: Order) -> list[Any]:
    """What a compiler is given of a layer besides the values of its weights, as JSON: part of a timing's key.

    The steps of the layer, dense without a `shape`, and how it stands in a model of its own.
    """
    # Only the shapes of constants enter the form, so that any values will do; a broadcast zero takes no memory.
    weight = np.broadcast_to(np.float32(0), (layer.out_features, layer.in_features))
    zeros = None if shape is None else [np.zeros(size, np.float32) for size in shape.core_shapes]
    replacement = Replacement(zeros, order, weight=None if zeros else weight)
    steps = _steps(replacement, (layer.batch, layer.in_features), (layer.batch, layer.out_features))
    form = [
        [step.op, step.form, step.view if step.op == "MatMul" else step.constant.tolist(), step.shape] for step in steps
    ]
    return [SINGLE_LAYER_OPSET, layer.has_bias, form]


def _shift_bias(node: ir.Node, use: FcUse, shift: Array, constants: _Constants) -> None:
    """Add `shift` [out] to the constant bias: Conv's own, or the operand of the Add."""
    adder, at = bias_input(node)
    stored = resolve(adder.inputs[at])
    assert stored is not None, "discover() takes only a constant for a bias"
    # Where x has an axis of columns, the matrix on the left of it, a bias is a column too.
    column = use.form == "columns" and len(static_shape(node.outputs[0]) or ()) > 1
    shifted = stored.array() + (shift.reshape(-1, 1) if column else shift)
    _exchange(adder, at, constants.add(shifted.astype(np.float32), "bias"), constants)


def _set_weight(node: ir.Node, at: int, array: Array, constants: _Constants) -> None:
    """Let `node` have another matrix: under the same name, unless something else reads the old one."""
    import onnx_ir as ir

    old = node.inputs[at]
    assert old is not None and old.name, "discover() takes only a constant for a matrix"
    # The name stays where it can: constants that were trained are found by their names.
    if all(use.node is node for use in old.uses()):
        old.const_value = ir.tensor(array, name=old.name)
    else:
        _exchange(node, at, constants.add(array, "weight"), constants)


def _exchange(node: ir.Node, at: int, value: ir.Value, constants: _Constants) -> None:
    """Give `node` another operand; the old one goes where nobody else uses it."""
    old = node.inputs[at]
    node.replace_input_with(at, value)
    drop_if_unused(constants.graph, old)


def _array(value: ir.Value) -> NDArray[Any]:
    stored = resolve(value)
    assert stored is not None, "a bias that is replaced is constant"
    return stored.array()


def _emit(x: ir.Value, steps: Sequence[Step], constants: _Constants) -> list[ir.Node]:
    """The nodes of `steps`, not yet in the graph; their constants are registered."""
    nodes: list[ir.Node] = []
    for step in steps:
        name = f"{constants.layer}.{step.op.lower()}"
        if step.op == "Transpose":
            axes = step.constant.tolist()
            nodes.append(make_node("Transpose", [x], step.shape, name, constants.taken, perm=axes))
            x = nodes[-1].outputs[0]
            continue
        constant = constants.add(step.constant, "shape" if step.op == "Reshape" else "weight")
        if step.blocks > 1:  # the file holds the matrix as it is for all other layers: its blocks below each other
            view = constants.add(np.array(step.view, np.int64), "shape")
            nodes.append(
                make_node("Reshape", [constant, view], step.view, f"{constants.layer}.blocks", constants.taken)
            )
            constant = nodes[-1].outputs[0]
        operands = [constant, x] if step.form == "left" else [x, constant]
        nodes.append(make_node(step.op, operands, step.shape, name, constants.taken))
        x = nodes[-1].outputs[0]
    return nodes

"""Rewrite FC layers of a model: as chains of Reshape and MatMul (`chain`), or as calls of generated kernels.

Owns the surgery on the graph: what computes the layer takes the place of the Gemm or MatMul, the value that came out
keeps its name, a bias stays an Add (and may be shifted), and constants that nobody uses any more go. The model that was
read is never changed: the work is on a copy that shares its tensors. The calls are those of `kernel_call`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.models.chain import Step, chain, reshape_step
from lrf_dse.models.constants import resolve
from lrf_dse.models.discover import Array, FcSite, bias_input, is_set, static_shape
from lrf_dse.models.kernel_call import Call, KernelChoice, call_node, define_functions
from lrf_dse.models.model import Model
from lrf_dse.models.surgery import add_constant, drop_if_unused, fresh, make_node, names_in
from lrf_dse.schema import FcLayer, Order, TTShape
from lrf_dse.tt.contraction import Core

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

SINGLE_LAYER_OPSET = 17

REWRITE_VERSION = 1
"""To be raised whenever the graph around a layer changes; the form of a layer itself is part of its key."""


@dataclass(frozen=True, eq=False)
class Replacement:
    """What takes the place of a layer: its cores and their contraction order, or a dense `weight` [out, in].

    With neither the layer keeps its own weight. `bias_shift` [out] is added to the layer's constant bias. With a
    `kernel` cores or weight are those of a call of that generated kernel, else of a chain.
    """

    cores: Sequence[Core] | None = None
    order: Order = "last_first"
    weight: Array | None = None
    bias_shift: Array | None = None
    kernel: KernelChoice | None = None


KEPT = Replacement()
"""The layer stays dense, in the layout that compilers like."""


def rewrite(
    model: Model, replacements: Mapping[str, Replacement], values: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """`model` with each named layer computed by its replacement; the other layers are kept.

    `values` are those of other constants of the result, by name, before kernels join them.

    A layer without cores stays dense, as x W^T with W^T stored [in, out] as compilers like it. (IREE 3.13 makes scalar
    code of Gemm with transB = 1 at batch 1: 1.06 million instructions for 784x300, else 32 thousand.) Cores stand for W
    as `model.weights` gives it, so Gemm's alpha is already in them. Raises UsageError for an unknown layer, cores of
    another size, or a shift of a bias that is not there.
    """
    import onnx_ir as ir

    for name, replacement in replacements.items():
        _check(model.site(name), replacement)
    copy = model.ir.clone()
    nodes = {node.name: node for node in copy.graph if node.name in replacements}
    taken = names_in(copy.graph)
    for name, replacement in replacements.items():
        if replacement.bias_shift is not None:
            _shift_bias(copy.graph, nodes[name], replacement.bias_shift, taken)
        keeps_weight = replacement.cores is None and replacement.weight is None
        computed = replace(replacement, weight=model.weights(name)[0]) if keeps_weight else replacement
        _replace(copy.graph, nodes[name], computed, taken)
    for name, value in (values or {}).items():
        if name in copy.graph.initializers:
            copy.graph.initializers[name].const_value = ir.tensor(np.asarray(value, np.float32), name=name)
    define_functions(copy, taken)
    return ir.to_proto(copy)


def _check(site: FcSite, replacement: Replacement) -> None:
    if replacement.cores is not None:
        _check_sizes(site.layer, replacement.cores)
    if replacement.bias_shift is not None and site.bias is None:
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
    nodes = _layer_nodes(graph, x, replacement, out_shape=rows, prefix="layer", taken=taken)
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
    out_features = int(np.prod([core.shape[1] for core in cores]))
    in_features = int(np.prod([core.shape[2] for core in cores]))
    if (out_features, in_features) != (layer.out_features, layer.in_features):
        raise UsageError(
            f"layer {layer.name} is [{layer.out_features}, {layer.in_features}], but the cores given for it "
            f"multiply to [{out_features}, {in_features}]"
        )


def _replace(graph: ir.Graph, node: ir.Node, replacement: Replacement, taken: set[str]) -> None:
    """Put what computes a layer in the place of `node`."""
    import onnx_ir as ir

    prefix, output = node.name or "", node.outputs[0]
    in_shape, out_shape = static_shape(node.inputs[0]), static_shape(output)
    x = node.inputs[0]
    assert x is not None and in_shape is not None and out_shape is not None, "discover() takes only known shapes"
    nodes: list[ir.Node] = []
    if node.op_type == "Gemm" and is_set(node, "transA"):
        x, nodes = _transposed(graph, x, (in_shape[1], in_shape[0]), prefix, taken)
    nodes += _layer_nodes(graph, x, replacement, out_shape=out_shape, prefix=prefix, taken=taken)
    if node.op_type == "Gemm":
        nodes += _gemm_bias(graph, node, nodes[-1].outputs[0], prefix, taken)
    operands = tuple(node.inputs)  # removing a node empties its inputs
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [output], [nodes[-1].outputs[0]])
    for value in operands:
        drop_if_unused(graph, value)


def _layer_nodes(
    graph: ir.Graph,
    x: ir.Value,
    replacement: Replacement,
    *,
    out_shape: tuple[int, ...],
    prefix: str,
    taken: set[str],
) -> list[ir.Node]:
    """The nodes of x W^T of `out_shape`, the last one giving it: not yet in `graph`, but their constants are."""
    cores, order, weight = replacement.cores, replacement.order, replacement.weight
    weights = cores if cores is not None else [np.asarray(weight, np.float32)]
    if replacement.kernel is not None:
        name = fresh(f"{prefix}.kernel", taken)
        kind = "weight" if cores is None else "core"
        inputs = [x, *(add_constant(graph, array, f"{prefix}.{kind}", taken) for array in weights)]
        return [call_node(inputs, Call(weights, order, replacement.kernel), out_shape=out_shape, name=name)]
    in_shape = static_shape(x)
    assert in_shape is not None, "the shapes around a layer are known"
    return _emit(graph, x, _steps(replacement, in_shape, out_shape), prefix, taken)[1]


def _steps(replacement: Replacement, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> tuple[Step, ...]:
    """A layer without a kernel of its own, from rows of `in_shape`."""
    if replacement.cores is not None:
        return chain(replacement.cores, replacement.order, in_shape=in_shape, out_shape=out_shape)
    return (Step("MatMul", "right", np.asarray(replacement.weight, np.float32).T, out_shape),)


def layer_form(layer: FcLayer, shape: TTShape | None, order: Order) -> list[Any]:
    """What a compiler is given of a layer besides the values of its weights, as JSON: part of a timing's key.

    The steps of the layer, dense without a `shape`, and how it stands in a model of its own.
    """
    weight = np.broadcast_to(np.float32(0), (layer.out_features, layer.in_features))
    zeros = None if shape is None else [np.zeros(size, np.float32) for size in shape.core_shapes]
    replacement = Replacement(zeros, order, weight=None if zeros else weight)
    steps = _steps(replacement, (layer.batch, layer.in_features), (layer.batch, layer.out_features))
    form = [
        [step.op, step.form, step.constant.tolist() if step.op == "Reshape" else step.constant.shape, step.shape]
        for step in steps
    ]
    return [SINGLE_LAYER_OPSET, layer.has_bias, form]


def _shift_bias(graph: ir.Graph, node: ir.Node, shift: Array, taken: set[str]) -> None:
    """Add `shift` [out] to the constant bias: Gemm's C (which is scaled by beta later), or the operand of the Add."""
    adder, at = bias_input(node)
    beta = np.float32(node.attributes.get_float("beta", 1.0) if adder is node else 1.0)
    old = adder.inputs[at]
    stored = resolve(old)
    assert stored is not None, "discover() takes only a constant for a bias"
    shifted = (stored.array() + shift / beta).astype(np.float32)
    adder.replace_input_with(at, add_constant(graph, shifted, f"{node.name}.bias", taken))
    drop_if_unused(graph, old)


def _transposed(
    graph: ir.Graph, x: ir.Value, shape: tuple[int, int], prefix: str, taken: set[str]
) -> tuple[ir.Value, list[ir.Node]]:
    """Gemm's transA: `x` as rows. One row is only a matter of shape."""
    if shape[0] == 1:
        return _emit(graph, x, (reshape_step(shape),), f"{prefix}.x", taken)
    node = make_node("Transpose", [x], shape, f"{prefix}.x", taken, perm=[1, 0])
    return node.outputs[0], [node]


def _emit(
    graph: ir.Graph, x: ir.Value, steps: Sequence[Step], prefix: str, taken: set[str]
) -> tuple[ir.Value, list[ir.Node]]:
    """The nodes of `steps`, not yet in `graph`, and the value that comes out; constants are registered."""
    nodes: list[ir.Node] = []
    for step in steps:
        kind = "shape" if step.op == "Reshape" else "weight"
        constant = add_constant(graph, step.constant, f"{prefix}.{kind}", taken)
        operands = [constant, x] if step.form == "left" else [x, constant]
        node = make_node(step.op, operands, step.shape, f"{prefix}.{step.op.lower()}", taken)
        nodes.append(node)
        x = node.outputs[0]
    return x, nodes


def _gemm_bias(graph: ir.Graph, gemm: ir.Node, y: ir.Value, prefix: str, taken: set[str]) -> list[ir.Node]:
    """The nodes that add beta C, of whatever shape; none if there is nothing to add."""
    c = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    beta = gemm.attributes.get_float("beta", 1.0)
    shape = static_shape(y)
    if c is None or beta == 0.0 or shape is None:
        return []
    nodes: list[ir.Node] = []
    if beta != 1.0:
        stored = resolve(c)
        if stored is not None:
            c = add_constant(graph, np.float32(beta) * stored.array(), f"{prefix}.bias", taken)
        else:
            scale = add_constant(graph, np.array(beta, np.float32), f"{prefix}.beta", taken)
            nodes.append(make_node("Mul", [c, scale], static_shape(c), f"{prefix}.bias_scale", taken))
            c = nodes[0].outputs[0]
    return [*nodes, make_node("Add", [y, c], shape, f"{prefix}.bias_add", taken)]

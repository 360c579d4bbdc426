"""Rewrite FC layers of a model as transpose-free chains of Reshape and MatMul (see `chain`).

Owns the surgery on the graph: the chain takes the place of the Gemm or MatMul, the value that came out keeps
its name, a bias stays an Add (and may be shifted), and constants that nobody uses any more go. The model that was read
is never changed: the work is on a copy that shares its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.models.chain import Step, chain, reshape_step
from lrf_dse.models.constants import resolve
from lrf_dse.models.discover import Array, FcSite, is_set, static_shape
from lrf_dse.models.model import Model
from lrf_dse.schema import FcLayer, Order
from lrf_dse.tt.contraction import Core

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

SINGLE_LAYER_OPSET = 17


@dataclass(frozen=True, eq=False)
class Replacement:
    """What takes the place of a layer: its cores and their contraction order, or a dense `weight` [out, in].

    With neither the layer keeps its own weight. `bias_shift` [out] is added to the layer's constant bias.
    """

    cores: Sequence[Core] | None = None
    order: Order = "last_first"
    weight: Array | None = None
    bias_shift: Array | None = None


KEPT = Replacement()
"""The layer stays dense, in the layout that compilers like."""

ChainMaker = Callable[[tuple[int, ...], tuple[int, ...]], Sequence[Step]]
"""The steps of a layer, from the shapes of its input and output."""


def rewrite(model: Model, replacements: Mapping[str, Replacement]) -> onnx.ModelProto:
    """`model` with each named layer computed by its replacement; the other layers are kept.

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
    taken = _names(copy.graph)
    for name, replacement in replacements.items():
        if replacement.bias_shift is not None:
            _shift_bias(copy.graph, nodes[name], replacement.bias_shift, taken)
        _replace(copy.graph, nodes[name], _chain_maker(model, name, replacement), taken)
    return ir.to_proto(copy)


def _chain_maker(model: Model, name: str, replacement: Replacement) -> ChainMaker:
    """How the steps of a layer follow from the shapes around it."""
    cores, order = replacement.cores, replacement.order
    if cores is None:
        weight = model.weights(name)[0] if replacement.weight is None else replacement.weight
        transposed = np.ascontiguousarray(weight.T, np.float32)
        return lambda _in_shape, out_shape: (Step("MatMul", "right", transposed, out_shape),)
    return lambda in_shape, out_shape: chain(cores, order, in_shape=in_shape, out_shape=out_shape)


def _check(site: FcSite, replacement: Replacement) -> None:
    if replacement.cores is not None:
        _check_sizes(site.layer, replacement.cores)
    if replacement.bias_shift is not None and site.bias is None:
        raise UsageError(f"layer {site.layer.name} has no constant bias to shift")


def single_layer_model(
    layer: FcLayer,
    cores: Sequence[Core] | None,
    *,
    weight: Array | None = None,
    bias: Array | None = None,
    order: Order = "last_first",
    opset: int = SINGLE_LAYER_OPSET,
) -> onnx.ModelProto:
    """A model that holds only `layer`: x [batch, in] -> y [batch, out].

    With `cores` the TT chain; without, the dense layer x W^T from `weight` [out, in], stored [in, out] as
    compilers like it. `bias` [out] or [batch, out] is added.
    """
    import onnx_ir as ir

    rows = (layer.batch, layer.out_features)
    x = ir.val("x", ir.DataType.FLOAT, (layer.batch, layer.in_features))
    graph = ir.Graph([x], [], nodes=[], name="layer", opset_imports={"": opset})
    if cores is not None:
        _check_sizes(layer, cores)
        steps: tuple[Step, ...] = chain(cores, order, in_shape=(layer.batch, layer.in_features), out_shape=rows)
    elif weight is not None:
        steps = (Step("MatMul", "right", np.ascontiguousarray(weight.T), rows),)
    else:
        raise ValueError(f"layer {layer.name}: give cores or a weight")
    taken = {"x", "y"}
    y, nodes = _emit(graph, x, steps, "layer", taken)
    if bias is not None:
        nodes.append(_node("Add", [y, _constant(graph, bias, "bias", taken)], rows, "layer.bias_add", taken))
    graph.extend(nodes)
    nodes[-1].outputs[0].name = "y"
    graph.outputs.append(nodes[-1].outputs[0])
    # IR version 8 came with opset 15-18; a newer opset needs a newer one.
    return ir.to_proto(ir.Model(graph, ir_version=8 if opset <= 18 else 10, producer_name="lrf-dse"))


def _check_sizes(layer: FcLayer, cores: Sequence[Core]) -> None:
    out_features = int(np.prod([core.shape[1] for core in cores]))
    in_features = int(np.prod([core.shape[2] for core in cores]))
    if (out_features, in_features) != (layer.out_features, layer.in_features):
        raise UsageError(
            f"layer {layer.name} is [{layer.out_features}, {layer.in_features}], but the cores given for it "
            f"multiply to [{out_features}, {in_features}]"
        )


def _replace(graph: ir.Graph, node: ir.Node, make_chain: ChainMaker, taken: set[str]) -> None:
    """Put a chain of steps in the place of `node`."""
    import onnx_ir as ir

    prefix, output = node.name or "", node.outputs[0]
    in_shape, out_shape = static_shape(node.inputs[0]), static_shape(output)
    x = node.inputs[0]
    assert x is not None and in_shape is not None and out_shape is not None, "discover() takes only known shapes"
    nodes: list[ir.Node] = []
    if node.op_type == "Gemm" and is_set(node, "transA"):
        in_shape = (in_shape[1], in_shape[0])
        x, nodes = _transposed(graph, x, in_shape, prefix, taken)
    y, chain_nodes = _emit(graph, x, make_chain(in_shape, out_shape), prefix, taken)
    nodes += chain_nodes
    if node.op_type == "Gemm":
        nodes += _gemm_bias(graph, node, y, prefix, taken)
    operands = tuple(node.inputs)  # removing a node empties its inputs
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [output], [nodes[-1].outputs[0]])
    for value in operands:
        _drop_if_unused(graph, value)


def _shift_bias(graph: ir.Graph, node: ir.Node, shift: Array, taken: set[str]) -> None:
    """Add `shift` [out] to the constant bias: Gemm's C (which is scaled by beta later), or the operand of the Add."""
    beta = np.float32(1.0)
    if node.op_type == "Gemm":
        adder, at = node, 2
        beta = np.float32(node.attributes.get_float("beta", 1.0))
    else:
        use = next(iter(node.outputs[0].uses()))
        adder, at = use.node, 1 - use.idx
    old = adder.inputs[at]
    stored = resolve(old)
    assert stored is not None, "discover() takes only a constant for a bias"
    shifted = (stored.array() + shift / beta).astype(np.float32)
    adder.replace_input_with(at, _constant(graph, shifted, f"{node.name}.bias", taken))
    _drop_if_unused(graph, old)


def _transposed(
    graph: ir.Graph, x: ir.Value, shape: tuple[int, int], prefix: str, taken: set[str]
) -> tuple[ir.Value, list[ir.Node]]:
    """Gemm's transA: `x` as rows. One row is only a matter of shape."""
    if shape[0] == 1:
        return _emit(graph, x, (reshape_step(shape),), f"{prefix}.x", taken)
    node = _node("Transpose", [x], shape, f"{prefix}.x", taken, perm=[1, 0])
    return node.outputs[0], [node]


def _emit(
    graph: ir.Graph, x: ir.Value, steps: Sequence[Step], prefix: str, taken: set[str]
) -> tuple[ir.Value, list[ir.Node]]:
    """The nodes of `steps`, not yet in `graph`, and the value that comes out; constants are registered."""
    nodes: list[ir.Node] = []
    for step in steps:
        kind = "shape" if step.op == "Reshape" else "weight"
        constant = _constant(graph, step.constant, f"{prefix}.{kind}", taken)
        operands = [constant, x] if step.form == "left" else [x, constant]
        node = _node(step.op, operands, step.shape, f"{prefix}.{step.op.lower()}", taken)
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
            c = _constant(graph, np.float32(beta) * stored.array(), f"{prefix}.bias", taken)
        else:
            scale = _constant(graph, np.array(beta, np.float32), f"{prefix}.beta", taken)
            nodes.append(_node("Mul", [c, scale], static_shape(c), f"{prefix}.bias_scale", taken))
            c = nodes[0].outputs[0]
    return [*nodes, _node("Add", [y, c], shape, f"{prefix}.bias_add", taken)]


def _node(
    op: str,
    inputs: Sequence[ir.Value],
    shape: tuple[int, ...] | None,
    name: str,
    taken: set[str],
    *,
    perm: list[int] | None = None,
) -> ir.Node:
    import onnx_ir as ir

    name = _fresh(name, taken)
    output = ir.val(f"{name}_out", ir.DataType.FLOAT, shape)
    return ir.node(op, inputs, {} if perm is None else {"perm": perm}, outputs=[output], name=name)


def _constant(graph: ir.Graph, array: np.ndarray, name: str, taken: set[str]) -> ir.Value:
    import onnx_ir as ir

    name = _fresh(name, taken)
    value = ir.val(name, const_value=ir.tensor(np.asarray(array, order="C"), name=name))
    graph.register_initializer(value)
    return value


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3`, ...: the first whose node and output names are free."""
    candidate, count = name, 2
    while candidate in taken or f"{candidate}_out" in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.update((candidate, f"{candidate}_out"))
    return candidate


def _names(graph: ir.Graph) -> set[str]:
    """Every node and value name in use, nested graphs included: ONNX forbids to shadow an outer name."""

    def used() -> Iterator[str | None]:
        for node in graph.all_nodes():
            yield node.name
            yield from (value.name for value in (*node.inputs, *node.outputs) if value is not None)
        yield from (value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()))

    return {name for name in used() if name}


def _drop_if_unused(graph: ir.Graph, value: ir.Value | None) -> None:
    """Remove a constant that lost its last user, and the Identity, Transpose or Constant nodes it came through."""
    if value is None or value.uses() or value.is_graph_output():
        return
    node = value.producer()
    if node is None:
        if value.is_initializer():
            graph.initializers.pop(value.name or "")
        return
    if node.op_type in ("Constant", "Identity", "Transpose") and len(node.outputs) == 1 and node.graph is graph:
        inputs = tuple(node.inputs)
        graph.remove(node, safe=True)
        for source in inputs:
            _drop_if_unused(graph, source)

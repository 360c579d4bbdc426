"""Where every weight and every multiply-add of a model is: in an FC layer, in something else with its reason, or small.

Weights are constants of floating-point numbers, and matrices of small integers in a quantised model. A constant counts
once, at the layer that multiplies with it, else at the first node that uses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from lrf_dse.models.canonical.fixed import chooser
from lrf_dse.models.constants import CONVERSIONS, resolve, static_shape
from lrf_dse.models.site import FcSite, Skipped

if TYPE_CHECKING:
    import onnx_ir as ir

_NARROW_BITS = 8
"""Integers up to this wide are weights of a quantised model; wider ones are shapes and indices."""

_REASONS = {
    "Gather": "an embedding: rows are looked up, nothing is multiplied",
    "GatherElements": "a table: entries are looked up, nothing is multiplied",
    "ConvTranspose": "a transposed convolution",
    "LSTM": "gates of an LSTM",
    "DynamicQuantizeLSTM": "gates of an LSTM",
    "GRU": "gates of a GRU",
    "RNN": "a recurrent cell",
    "If": "in the branches of an If: only what always runs is looked at",
    "Loop": "in the body of a Loop: only what runs once is looked at",
    "Scan": "in the body of a Scan: only what runs once is looked at",
    "Einsum": "an Einsum that is no product of one matrix with rows",
    "MatMul": "a matrix product of another form",
    "Gemm": "a matrix product of another form",
}

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class Inventory:
    """`skipped` are the nodes with matrices outside of FC layers; totals count everything, vectors too."""

    skipped: tuple[Skipped, ...]
    params: int
    macs: int


def inventory(
    graph: ir.Graph, sites: Sequence[FcSite], skipped: Sequence[Skipped], dead: Sequence[Skipped] = ()
) -> Inventory:
    """What is in `graph`, whose FC layers are `sites`; `skipped` has reasons for some of the rest, `dead` is gone."""
    reasons = {item.name: item for item in skipped}
    in_layers = {use.node for site in sites for use in site.uses}
    counted: set[int] = set()
    total = 0
    for site in sites:
        for use in site.uses:
            total += _new_params([use.weight.tensor, *([use.bias.tensor] if use.bias else [])], counted)
    found: dict[str, Skipped] = {}
    for node in graph:
        if node.op_type in CONVERSIONS and node.outputs[0].uses():
            continue  # what it reads is its user's weight
        tensors = list(_weights(node))
        params = _new_params(tensors, counted)
        total += params
        name = node.name or node.outputs[0].name or node.op_type
        # [1, N] and [N, 1] are vectors: biases and scales, too small to be listed.
        is_matrix = any(len(tensor.shape) > 1 and tensor.size > max(tensor.shape.numpy()) for tensor in tensors)
        if name in reasons and node not in in_layers:
            found[name] = replace(reasons[name], params=params, macs=macs_of(node))
        elif is_matrix and params and node not in in_layers:
            found[name] = Skipped(name, _reason(node), params, macs_of(node))
    # A layer of zeros is reported by its name; its node is no longer among the sites.
    rest = [item for name, item in reasons.items() if name not in found]
    macs = sum(macs_of(node) for node in graph)
    gone = sum(item.params for item in dead)
    return Inventory((*found.values(), *rest, *dead), total + gone, macs)


def _reason(node: ir.Node) -> str:
    decides = chooser([node])
    if decides is not None:
        return f"{_REASONS['If']}; input {decides.name!r} chooses one, for instance {decides.option}"
    return _REASONS.get(node.op_type, f"a constant of {node.op_type}")


@dataclass(frozen=True)
class Group:
    """What was skipped for one reason."""

    reason: str
    names: tuple[str, ...]
    params: int
    macs: int

    @property
    def label(self) -> str:
        """The first name, and how many more there are."""
        more = len(self.names) - 1
        return f"{self.names[0]} and {more} more" if more else self.names[0]


def by_reason(skipped: Sequence[Skipped]) -> tuple[Group, ...]:
    """What was skipped, grouped by its reason, the most parameters first."""
    groups: dict[str, list[Skipped]] = {}
    for item in skipped:
        groups.setdefault(item.reason, []).append(item)
    made = [
        Group(reason, tuple(i.name for i in items), sum(i.params for i in items), sum(i.macs for i in items))
        for reason, items in groups.items()
    ]
    return tuple(sorted(made, key=lambda group: -group.params))


def remove_dead(graph: ir.Graph) -> tuple[Skipped, ...]:
    """Remove what no output of the model needs, and return what of it held matrices."""
    live = _live(graph)
    dead = [node for node in graph if node not in live]
    found = []
    counted: set[int] = set()
    for node in dead:
        tensors = [tensor for tensor in _weights(node) if len(tensor.shape) > 1]
        if tensors:
            params = _new_params(tensors, counted)
            found.append(Skipped(node.name or node.outputs[0].name or node.op_type, "its output is not used", params))
    for node in reversed(dead):
        # Users go before their producers: onnx_ir removes no node whose values are still used.
        graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if value.uses() or value.is_graph_output():
            continue
        tensor = value.const_value
        if tensor is not None and id(tensor) not in counted and len(tensor.shape) > 1 and _is_weight(tensor):
            found.append(Skipped(name, "no operation uses this constant", int(tensor.size)))
        graph.initializers.pop(name)
    return tuple(found)


def _live(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that an output depends on, through bodies too."""
    live: set[ir.Node] = set()
    waiting = [value.producer() for value in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in live:
            continue
        live.add(node)
        waiting += [value.producer() for value in node.inputs if value is not None]
        # A body may use values of the graph around it without naming them as inputs of its node.
        for body in _bodies(node):
            waiting += [value.producer() for inner in body.all_nodes() for value in inner.inputs if value is not None]
            waiting += [value.producer() for value in body.outputs]
    return {node for node in live if node.graph is graph}


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _weights(node: ir.Node) -> Iterator[ir.TensorProtocol]:
    """The constants that `node` reads and that are weights, those of its bodies too.

    A loop, not a recursion: a file may hold a chain of conversions, or bodies in bodies, of any length.
    """
    waiting, seen = [node], {id(node)}
    while waiting:
        reader = waiting.pop()
        for value in reader.inputs:
            constant = resolve(value)
            if constant is not None and _is_weight(constant.tensor):
                yield constant.tensor
            producer = None if value is None else value.producer()
            if producer is not None and producer.op_type in CONVERSIONS and id(producer) not in seen:
                seen.add(id(producer))
                waiting.append(producer)
        for body in _bodies(reader):
            yield from _stored_weights(body)
            waiting.extend(body)


def _stored_weights(body: ir.Graph) -> Iterator[ir.TensorProtocol]:
    """The weights that a body of a node holds itself: its initializers and Constant nodes."""
    for value in body.initializers.values():
        if value.const_value is not None and _is_weight(value.const_value):
            yield value.const_value
    for inner in body:
        if inner.op_type == "Constant" and "value" in inner.attributes:
            tensor = inner.attributes["value"].as_tensor()
            if _is_weight(tensor):
                yield tensor


def _is_weight(tensor: ir.TensorProtocol) -> bool:
    if tensor.dtype.is_floating_point():
        return True
    return tensor.dtype.is_integer() and tensor.dtype.bitwidth <= _NARROW_BITS and len(tensor.shape) > 1


def _new_params(tensors: Collection[ir.TensorProtocol], counted: set[int]) -> int:
    """Elements of the tensors that were not counted before."""
    new = {id(tensor): int(tensor.size) for tensor in tensors if id(tensor) not in counted}
    counted.update(new)
    return sum(new.values())


def macs_of(node: ir.Node) -> int:
    """Multiply-adds of a matrix product, a convolution or a recurrent cell whose shapes are known; else 0.

    A body of Loop or Scan counts as if it ran once, an If as its larger branch.
    """
    bodies = [sum(macs_of(inner) for inner in body) for body in _bodies(node)]
    if bodies:
        return max(bodies)
    shapes = [static_shape(value) for value in (*node.inputs, *node.outputs[:1])]
    if node.op_type not in _MACS or len(shapes) < 3 or any(shapes[k] is None for k in (0, 1, -1)):
        return 0
    left, right, out = shapes[0] or (), shapes[1] or (), shapes[-1] or ()
    return _MACS[node.op_type](node, left, right, out)


def _matmul_macs(_: ir.Node, left: tuple[int, ...], __: tuple[int, ...], out: tuple[int, ...]) -> int:
    return prod(out) * left[-1] if left else 0


def _gemm_macs(node: ir.Node, left: tuple[int, ...], _: tuple[int, ...], out: tuple[int, ...]) -> int:
    return prod(out) * (left[0] if node.attributes.get_int("transA", 0) else left[-1])


def _conv_macs(_: ir.Node, __: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]) -> int:
    # The kernel is [out, in / groups, height, width].
    return prod(out) * prod(kernel[1:])


def _transposed_conv_macs(_: ir.Node, x: tuple[int, ...], kernel: tuple[int, ...], __: tuple[int, ...]) -> int:
    # The kernel is [in, out / groups, height, width]: every element of x meets the whole kernel of its channel.
    return prod(x) * prod(kernel[1:])


def _einsum_macs(node: ir.Node, left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]) -> int:
    terms = node.attributes["equation"].as_string().replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or "." in "".join(terms):
        return 0
    # One multiply-add for every combination of all labels, as in the loops that a literal einsum is.
    sizes = dict(zip(terms[0], left, strict=False)) | dict(zip(terms[1], right, strict=False))
    return prod(sizes.values())


def _cell_macs(node: ir.Node, x: tuple[int, ...], w: tuple[int, ...], _: tuple[int, ...]) -> int:
    """Of x [steps, batch, in] with W [directions, gates * hidden, in] and R [directions, gates * hidden, hidden]."""
    hidden = w[1] // _GATES[node.op_type]
    return x[0] * x[1] * w[0] * w[1] * (w[2] + hidden) if len(x) == len(w) == 3 else 0


_MACS = {
    "MatMul": _matmul_macs,
    "Gemm": _gemm_macs,
    "Conv": _conv_macs,
    "ConvTranspose": _transposed_conv_macs,
    "Einsum": _einsum_macs,
    "LSTM": _cell_macs,
    "GRU": _cell_macs,
    "RNN": _cell_macs,
}

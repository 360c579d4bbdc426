"""Hidden units that may stand in any order: written by one FC layer, read by others, elementwise functions between.

Owns where a model has them, and the model with some of them reordered, which computes the same. Which order is worth
having is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.models.constants import resolve
from lrf_dse.models.discover import discover
from lrf_dse.models.model import Model
from lrf_dse.models.site import FcSite, bias_input
from lrf_dse.models.surgery import add_constant, drop_if_unused, names_in
from lrf_dse.tt.reorder import UnitOrder

if TYPE_CHECKING:
    import onnx_ir as ir

# fmt: off
ELEMENTWISE = frozenset((
    "Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Sqrt", "Sub", "Tanh", "ThresholdedRelu",
))
# fmt: on
"""What treats every unit alike, as long as its other operands are scalars or come from the same units."""


@dataclass(frozen=True)
class Hidden:
    """The layer whose outputs the units are, and the layers that read them, by name."""

    writer: str
    readers: tuple[str, ...]


def hidden_units(model: Model) -> tuple[Hidden, ...]:
    """Where the units between FC layers may be reordered, in execution order of the writers."""
    found = (_hidden(model, site) for site in model.sites.values())
    return tuple(hidden for hidden in found if hidden is not None)


def _hidden(model: Model, writer: FcSite) -> Hidden | None:
    """What reads the outputs of `writer`, if nothing but FC layers and elementwise functions does."""
    if not writer.is_rows:
        return None
    values, readers, known = {_written(writer)}, [], set()
    of_node = {id(site.node): site for site in model.sites.values()}
    for node in model.ir.graph:  # in execution order: operands come before what uses them
        if not values.intersection(node.inputs):
            continue
        known.add(id(node))
        site = of_node.get(id(node))
        if site is not None and node.inputs[0] in values and site.is_rows:
            readers.append(site.layer.name)
        elif node.op_type in ELEMENTWISE and all(value in values or _is_scalar(value) for value in node.inputs):
            values.update(node.outputs)
        else:
            return None
    # The bodies of If, Loop and Scan use values without naming them as inputs.
    elsewhere = any(value.is_graph_output() or any(id(u.node) not in known for u in value.uses()) for value in values)
    return Hidden(writer.layer.name, tuple(readers)) if readers and not elsewhere else None


def _written(site: FcSite) -> ir.Value:
    """The layer's output with its bias."""
    return site.node.outputs[0] if site.bias is None else bias_input(site.node)[0].outputs[0]


def _is_scalar(value: ir.Value | None) -> bool:
    constant = resolve(value)
    return value is None or (constant is not None and int(np.prod(constant.shape)) == 1)


def reordered(model: Model, hidden: Hidden, order: UnitOrder) -> Model:
    """`model` with unit order[k] of `hidden` at place k. It computes the same, and its layers have the same names."""
    copy = model.ir.clone()
    nodes = {node.name: node for node in copy.graph}
    taken = names_in(copy.graph)
    writer = model.site(hidden.writer)
    # A MatMul's constant is [in, out]: the units are columns of the writer and rows of the readers.
    _permute(copy.graph, nodes[hidden.writer], 1, order, axis=1, taken=taken)
    # One number for all outputs is the same in any order.
    if writer.bias is not None and int(np.prod(writer.bias.shape)) > 1:
        adder, at = bias_input(nodes[hidden.writer])
        _permute(copy.graph, adder, at, order, axis=-1, taken=taken)
    for name in hidden.readers:
        _permute(copy.graph, nodes[name], 1, order, axis=0, taken=taken)
    sites, _ = discover(copy.graph)
    return replace(model, ir=copy, sites={site.layer.name: site for site in sites})


def _permute(graph: ir.Graph, node: ir.Node, at: int, order: UnitOrder, *, axis: int, taken: set[str]) -> None:
    """Give `node` a constant of its own in the place of operand `at`, reordered along `axis`: others may share it."""
    old = node.inputs[at]
    stored = resolve(old)
    assert old is not None and stored is not None, "discover() takes only constants"
    permuted = np.take(stored.array(), order, axis)
    node.replace_input_with(at, add_constant(graph, permuted, f"{old.name}.reordered", taken))
    drop_if_unused(graph, old)

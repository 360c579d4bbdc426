"""New nodes in the place of one node: what the steps that replace operations share.

Names are fresh, the value that came out keeps its name, and shapes are left to inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.models.surgery import add_constant, drop_if_unused, fresh, names_in

if TYPE_CHECKING:
    import onnx_ir as ir


class Emitter:
    """Collects the nodes that take the place of `node` in its graph."""

    def __init__(self, node: ir.Node) -> None:
        import onnx_ir as ir

        graph = node.graph
        assert isinstance(graph, ir.Graph), "functions are inlined"
        self.node = node
        self.graph = graph
        self.nodes: list[ir.Node] = []
        self._taken = names_in(self.graph)
        self._prefix = node.name or node.outputs[0].name or node.op_type

    def op(self, kind: str, *operands: ir.Value | None, **attributes: Any) -> ir.Value:
        """The value of a new node of the standard domain; attributes that are None are left out."""
        return self.several(kind, 1, *operands, **attributes)[0]

    def several(self, kind: str, outputs: int, *operands: ir.Value | None, **attributes: Any) -> Sequence[ir.Value]:
        """The values of a new node that gives several."""
        import onnx_ir as ir

        name = fresh(f"{self._prefix}.{kind.lower()}", self._taken)
        values = [ir.val(f"{name}_out" if k == 0 else f"{name}_out{k}") for k in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(ir.node(kind, operands, given, outputs=values, name=name))
        return values

    def constant(self, array: Any, name: str = "constant") -> ir.Value:
        """`array` as a new initializer: floats become float32, Python integers int64; arrays of integers stay."""
        values = np.asarray(array)
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
        elif values.dtype.kind in "iu" and not isinstance(array, np.ndarray):
            values = values.astype(np.int64)
        return add_constant(self.graph, values, f"{self._prefix}.{name}", self._taken)

    def name_last(self, name: str | None = None) -> None:
        """Give the newest node the name of the node that is replaced: a layer keeps its name."""
        if self.nodes and (name or self.node.name):
            self.nodes[-1].name = name or self.node.name

    def replace(self, *results: ir.Value | None) -> None:
        """Put the new nodes in; `results` take the place of the node's outputs, None where one is not used."""
        replace_node(self.graph, self.node, self.nodes, results)


Expansion = Callable[[Emitter, Any], "list[Any] | None"]
"""From a node to the values in the place of its outputs; None where the node stays as it is."""


def expand_all(graph: ir.Graph, expansion_of: Callable[[ir.Node], Expansion | None]) -> bool:
    """Replace each node of `graph` that has an expansion by what that gives. Returns whether there was one."""
    changed = False
    for node in list(graph):
        # An expansion earlier in this loop may have removed this node from the graph (`_linear_classifier` does so).
        expand = expansion_of(node) if node.graph is graph else None
        if expand is None:
            continue
        emit = Emitter(node)
        results = expand(emit, node)
        if results is not None:
            emit.replace(*results)
            changed = True
    return changed


CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
"""The attributes of a convolution."""


def kept(node: ir.Node, *names: str) -> dict[str, Any]:
    """The attributes of `node` that `names` lists, all of them without names, for a node in its place."""
    return {key: attribute.value for key, attribute in node.attributes.items() if not names or key in names}


def replace_node(graph: ir.Graph, node: ir.Node, nodes: Sequence[ir.Node], results: Sequence[ir.Value | None]) -> None:
    """Put `nodes` in the place of `node`; what comes out of them keeps the names of its outputs."""
    import onnx_ir as ir

    operands = tuple(node.inputs)
    # Not strict: an expansion may leave out the optional outputs at the end.
    pairs = [(old, new) for old, new in zip(node.outputs, results, strict=False) if new is not None]
    own = {output for new in nodes for output in new.outputs}
    passed = [(old, new) for old, new in pairs if new not in own]
    for old, new in passed:  # a value that was there before keeps its own name
        if old.is_graph_output():
            # The name of an output of the model must stay, and `new` has a name already: an Identity gives the same
            # tensor under both.
            identity = ir.node("Identity", [new], outputs=[ir.val(f"{old.name}.same")])
            nodes = [*nodes, identity]
            pairs = [(a, identity.outputs[0] if a is old else b) for a, b in pairs]
            own.add(identity.outputs[0])
    renamed = [(old, new) for old, new in pairs if new in own]
    for old, new in pairs:
        if new not in own:
            ir.convenience.replace_all_uses_with(old, new)
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], list(nodes), [old for old, _ in renamed], [new for _, new in renamed]
    )
    for value in operands:
        drop_if_unused(graph, value)


def inline_branch(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    """Put the nodes of a branch in the place of the If that holds it."""
    taken = names_in(graph)
    # A branch is a scope of its own, and the names of its constants may stand in the graph as well.
    for value in list(branch.initializers.values()):
        branch.initializers.pop(value.name)  # type: ignore[arg-type]
        value.name = fresh(value.name or "constant", taken - {value.name or ""})
        graph.register_initializer(value)
    nodes = list(branch)
    results = list(branch.outputs)
    # In onnx_ir a node belongs to one graph: it must leave the branch before it can enter the graph.
    branch.outputs.clear()
    branch.remove(nodes)
    replace_node(graph, node, nodes, results)

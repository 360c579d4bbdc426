"""Small operations on an ONNX graph: new nodes and constants under fresh names, and the removal of what lost its users.

Owns the hygiene of names and constants; it knows nothing of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir


def make_node(
    op: str,
    inputs: Sequence[ir.Value],
    shape: tuple[int, ...] | None,
    name: str,
    taken: set[str],
    *,
    perm: list[int] | None = None,
) -> ir.Node:
    """A node with one float output of `shape`, not yet in a graph; its name and its output's are fresh."""
    import onnx_ir as ir

    name = fresh(name, taken)
    output = ir.val(f"{name}_out", ir.DataType.FLOAT, shape)
    return ir.node(op, inputs, {} if perm is None else {"perm": perm}, outputs=[output], name=name)


def add_constant(graph: ir.Graph, array: np.ndarray, name: str, taken: set[str]) -> ir.Value:
    """`array` as an initializer of `graph` under a fresh name."""
    import onnx_ir as ir

    name = fresh(name, taken)
    value = ir.val(name, const_value=ir.tensor(np.asarray(array, order="C"), name=name))
    graph.register_initializer(value)
    return value


def fresh(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3`, ...: the first whose node and output names are free."""
    # A node and its output are named together, so that both names must be free.
    candidate, count = name, 2
    while candidate in taken or f"{candidate}_out" in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.update((candidate, f"{candidate}_out"))
    return candidate


def names_in(graph: ir.Graph) -> set[str]:
    """Every node and value name in use, nested graphs included: ONNX forbids to shadow an outer name."""

    def used() -> Iterator[str | None]:
        for node in graph.all_nodes():
            yield node.name
            yield from (value.name for value in (*node.inputs, *node.outputs) if value is not None)
        yield from (value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()))

    return {name for name in used() if name}


def drop_if_unused(graph: ir.Graph, value: ir.Value | None) -> None:
    """Remove a constant that lost its last user."""
    if value is not None and value.is_initializer() and not value.uses() and not value.is_graph_output():
        graph.initializers.pop(value.name or "", None)

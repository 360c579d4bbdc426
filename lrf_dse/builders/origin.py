"""Find the ONNX node that a compiler complains about.

The module goes from a line of the imported MLIR back to the model: the importer writes one operation a node, in the
model's order, and the bodies of If and Loop inside the operation of their node.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_OPERATION = re.compile(r'^ {4}(?:\S+ = )?torch\.operator "onnx\.(\w+)"')
"""An operation of the graph itself; those in the bodies of If and Loop stand further to the right."""


def origin_of(complaint: str, mlir_path: Path) -> str:
    """The node that `complaint` is about, as the end of a sentence; empty where that is not known.

    The model that was imported lies beside the file at `mlir_path`.

    A compiler writes "model.mlir:12:10: error", a location in its output is "model.mlir":12:10.
    """
    found = re.search(re.escape(mlir_path.name) + r'"?:(\d+):\d+', complaint)
    node = None if found is None else _node_at(int(found.group(1)), mlir_path)
    if node is None:
        return ""
    which = repr(node.name) if node.name else f"that computes {node.output[0]!r}"
    return f"; it comes from the {node.op_type} node {which}"


def _node_at(line: int, mlir_path: Path) -> onnx.NodeProto | None:
    """The node of the graph in whose operation that line (from 1 on) stands; None where that is not known."""
    import onnx

    with mlir_path.open(encoding="utf-8", errors="replace") as stream:
        # Counted by kind: the nth Relu operation up to the line is the nth Relu node of the graph.
        before = [match.group(1) for text in islice(stream, line) if (match := _OPERATION.search(text))]
    if not before or before[-1] == "Constant":  # initializers are Constants there
        return None
    model = onnx.load(mlir_path.with_suffix(".onnx"), load_external_data=False)
    same = [node for node in model.graph.node if node.op_type == before[-1]]
    number = before.count(before[-1])
    return same[number - 1] if number <= len(same) else None

"""Inputs that are always the same: they become constants, so that what depends on them alone is folded away.

A sampling rate or a flag chooses a branch of an If, and a program for a board cannot choose. Which input is in the way
is told by `chooser`, with a value that the graph itself compares it with.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import UsageError
from lrf_dse.models.canonical.options import number_text
from lrf_dse.models.constants import resolve, static_shape

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def fix_inputs(graph: onnx.GraphProto, values: Mapping[str, tuple[float, ...]], notes: list[str]) -> None:
    """Make the inputs of `graph` that `values` names initializers; all sizes are known. Raises UsageError."""
    from onnx import numpy_helper

    inputs = {value.name: value for value in graph.input}
    for name, numbers in values.items():
        if name not in inputs:
            raise UsageError(f"--input {name}: it has no such input; its inputs are {', '.join(inputs)}")
        tensor = inputs[name].type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        graph.initializer.append(numpy_helper.from_array(_array(name, numbers, shape, tensor.elem_type), name))
        graph.input.remove(inputs[name])
        notes.append(f"input {name!r} is fixed at {', '.join(map(number_text, numbers))}")
    if not graph.input:
        raise UsageError("--input: every input has a fixed value, so that nothing is left to compute")


def _array(name: str, numbers: Sequence[float], shape: tuple[int, ...], element: int) -> NDArray[Any]:
    """`numbers` as a tensor of `shape`: one number stands for all of them."""
    import onnx

    said = f"--input {name}={','.join(map(number_text, numbers))}"
    if len(numbers) not in (1, prod(shape)):
        raise UsageError(f"{said}: the input has the shape {list(shape)}; give one number, or {prod(shape)} of them")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)) if element else np.dtype(object)
    if dtype.kind not in "fiub":
        raise UsageError(f"{said}: the input holds no numbers")
    given = np.asarray(numbers, np.float64)
    with np.errstate(all="ignore"):
        made = given.astype(dtype)
    # A float input may round what is given; an index or a flag must hold it exactly.
    if dtype.kind != "f" and not np.array_equal(made.astype(np.float64), given):
        raise UsageError(f"{said}: the input is {dtype}, which does not hold this")
    return np.ascontiguousarray(np.broadcast_to(made.reshape(shape if len(numbers) > 1 else ()), shape))


@dataclass(frozen=True)
class Chooser:
    """An input of one number that decides which branch of an If is taken, and a value that it is compared with."""

    name: str
    value: float

    @property
    def option(self) -> str:
        """The option that decides it."""
        return f"--input {shlex.quote(self.name)}={number_text(self.value)}"


def chooser(nodes: Iterable[ir.Node]) -> Chooser | None:
    """The input of one number that alone decides an If among `nodes`, None if there is none."""
    for node in nodes:
        if node.op_type != "If" or node.domain not in ("", "ai.onnx"):
            continue
        inputs, compared = _behind(node.inputs[0])
        # Where several inputs decide together no single option settles it, and none is proposed.
        if len(inputs) == 1 and (shape := static_shape(inputs[0])) is not None and prod(shape) == 1:
            return Chooser(inputs[0].name or "", compared[0] if compared else 1.0)
    return None


def _behind(value: ir.Value | None) -> tuple[list[ir.Value], list[float]]:
    """The inputs that `value` depends on, and the numbers that they are tested for being equal to."""
    inputs: dict[ir.Value, None] = {}
    compared: list[float] = []
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        if value.is_graph_input():
            inputs[value] = None
        node = value.producer()
        if node is not None:
            waiting += node.inputs
            constants = [constant for operand in node.inputs if (constant := resolve(operand)) is not None]
            # A graph asks "is the rate 16000?": the constant of Equal is a value that it was made for.
            if node.op_type == "Equal" and constants and prod(constants[0].shape) == 1:
                compared.append(float(constants[0].array().reshape(())))
    return list(inputs), compared

"""Find the constant behind a value of an ONNX graph.

Exporters hide weights behind Identity and Transpose nodes (TensorFlow, torch) or Constant nodes; this
module sees through them without copying. It decides nothing about layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

CONVERSIONS = ("DequantizeLinear", "Cast", "QuantizeLinear")
"""Nodes that turn a stored constant into another type; what they feed is not a plain float32 weight."""


@dataclass(frozen=True)
class Constant:
    """A stored tensor seen through Identity and Transpose nodes; `shape` is the shape that is seen."""

    tensor: ir.TensorProtocol
    permutations: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """ONNX's name of the element type, such as FLOAT or FLOAT16."""
        return str(self.tensor.dtype.name)

    def array(self) -> NDArray[Any]:
        """The values, as a view of the stored ones where numpy allows it. Not to be written to."""
        values: NDArray[Any] = np.asarray(self.tensor.numpy())
        for permutation in self.permutations:
            values = values.transpose(permutation)
        return values


def resolve(value: ir.Value | None) -> Constant | None:
    """The constant that `value` always holds, or None if it depends on the model's inputs.

    A value comes from an initializer or a Constant node, through any number of Identity and Transpose
    nodes. A loop, not a recursion: a file may hold a chain of any length.
    """
    transposes: list[ir.Node] = []
    while value is not None and (node := value.producer()) is not None:
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            attribute = node.attributes.get("value")
            return None if attribute is None else _seen_through(_stored(attribute.as_tensor()), transposes)
        if node.op_type not in ("Identity", "Transpose") or not node.inputs:
            return None
        if node.op_type == "Transpose":
            transposes.append(node)
        value = node.inputs[0]
    if value is None or value.const_value is None:
        return None
    return _seen_through(_stored(value.const_value), transposes)


def _seen_through(stored: Constant, transposes: list[ir.Node]) -> Constant | None:
    """`stored` behind `transposes`, the last of which it reaches first; None where one fits no array of that rank."""
    seen = stored
    for node in reversed(transposes):
        perm = node.attributes.get("perm")
        order = tuple(perm.as_ints()) if perm is not None else tuple(reversed(range(len(seen.shape))))
        if sorted(order) != list(range(len(seen.shape))):
            return None
        seen = Constant(seen.tensor, (*seen.permutations, order), tuple(seen.shape[axis] for axis in order))
    return seen


def _stored(tensor: ir.TensorProtocol) -> Constant:
    return Constant(tensor, (), tuple(int(size) for size in tensor.shape.numpy()))


def converted_from(value: ir.Value | None) -> str | None:
    """How a constant reaches `value` through a type conversion, or None if it does not.

    Says for instance "INT8 through DequantizeLinear": the reason why a weight is not a float32 constant.
    """
    conversions: list[str] = []
    while value is not None and (node := value.producer()) is not None and node.inputs:
        if node.op_type in CONVERSIONS:
            conversions.append(node.op_type)
            source = resolve(node.inputs[0])
            if source is not None:
                return f"{source.dtype} through {' and '.join(reversed(conversions))}"
        elif node.op_type not in ("Identity", "Transpose"):
            return None
        value = node.inputs[0]
    return None

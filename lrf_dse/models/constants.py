"""The constant behind a value of an ONNX graph in the canonical form, where every constant is an initializer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

CONVERSIONS = ("DequantizeLinear", "Cast", "QuantizeLinear", "Identity", "Transpose", "Reshape")
"""Nodes that stay between a stored constant and its use, since they undo a quantisation."""


@dataclass(frozen=True)
class Constant:
    """A stored tensor."""

    tensor: ir.TensorProtocol

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(int(size) for size in self.tensor.shape.numpy())

    @property
    def dtype(self) -> str:
        """ONNX's name of the element type, such as FLOAT or FLOAT16."""
        return str(self.tensor.dtype.name)

    def array(self) -> NDArray[Any]:
        """The values, as a view of the stored ones where numpy allows it. Not to be written to."""
        return np.asarray(self.tensor.numpy())


def resolve(value: ir.Value | None) -> Constant | None:
    """The constant that `value` always holds, or None if it depends on the model's inputs."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return Constant(value.const_value)


def is_looked_up(value: ir.Value | None) -> bool:
    """Whether rows of the constant `value` are looked up somewhere, as those of an embedding are."""
    # Gather's operand 0 is the table, operand 1 the indices.
    return value is not None and any(use.node.op_type == "Gather" and use.idx == 0 for use in value.uses())


def converted_from(value: ir.Value | None) -> str | None:
    """How a constant reaches `value` through a type conversion, or None if it does not.

    Says for instance "INT8 through DequantizeLinear": the reason why a weight is not a float32 constant.
    """
    conversions: list[str] = []
    # A loop, not a recursion: a file may hold a chain of any length.
    while value is not None and (node := value.producer()) is not None and node.inputs:
        if node.op_type not in CONVERSIONS:
            return None
        conversions.append(node.op_type)
        value = node.inputs[0]
        source = resolve(value)
        if source is not None:
            return f"{source.dtype} through {' and '.join(reversed(conversions))}"
    return None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of `value` if every size is a known number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(size) for size in value.shape.numpy())

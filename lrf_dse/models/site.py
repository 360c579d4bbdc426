"""Where an FC layer stands in a graph, and how its weights are read from there and written back.

    rows      MatMul of x with a constant [in, out]
    columns   MatMul of a constant [out, in] with x: features lie along the last axis but one
    conv      a 1x1 convolution: features lie along axis 1; or a convolution that covers its whole input

Owns the values; which nodes are layers is the business of `discover`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.constants import Constant
from lrf_dse.schema import FcLayer

if TYPE_CHECKING:
    import onnx_ir as ir

Array = NDArray[np.float32]
Form = Literal["rows", "columns", "conv"]

FILE_OP = "lrf_dse.op"
"""A node's metadata: the operation that the file had in its place."""


@dataclass(frozen=True)
class Skipped:
    """A node that holds weights but is no layer that we can work on, with its part of the model's weights and work."""

    name: str
    reason: str
    params: int = 0
    macs: int = 0


@dataclass(frozen=True)
class FcUse:
    """One place where a layer is computed: x lies as [outer, in, columns] there, and so does y.

    `bias` is the constant that is added, None if there is none or if it is not constant.
    """

    node: ir.Node
    form: Form
    outer: int
    columns: int
    weight: Constant
    bias: Constant | None

    @property
    def x_at(self) -> int:
        """Which operand of the node is x."""
        return 1 if self.form == "columns" else 0

    @property
    def x(self) -> ir.Value:
        """What the layer reads."""
        value = self.node.inputs[self.x_at]
        assert value is not None and value.name, "discover() takes only nodes with an input"
        return value

    @property
    def weight_at(self) -> int:
        """Which operand of the node is the matrix."""
        return 1 - self.x_at

    @property
    def rows(self) -> int:
        """How many vectors the layer is applied to here."""
        return self.outer * self.columns

    def matrix(self) -> NDArray[Any]:
        """W [out, in], as a view."""
        return self.read(self.weight.array())

    def read(self, stored: NDArray[Any]) -> NDArray[Any]:
        """W [out, in] of an array as the node stores it, as a view."""
        # A convolution stores [out, in, height, width]; its window has one point, or covers the input, so that the last
        # axes are a part of the inputs.
        return stored.T if self.form == "rows" else stored.reshape(stored.shape[0], -1)

    def stored(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """W [out, in] as the node stores it."""
        if self.form == "rows":
            return np.ascontiguousarray(matrix.T, np.float32)
        return np.ascontiguousarray(matrix.reshape(self.weight.shape), np.float32)

    def rows_of(self, x: NDArray[Any]) -> NDArray[Any]:
        """What the layer reads, of one inference or of several, as rows [rows, in]."""
        in_features = self.matrix().shape[1]
        # x lies as [outer, in, columns]; several inferences only make the first axis longer.
        return x.reshape(-1, in_features, self.columns).swapaxes(1, 2).reshape(-1, in_features)


@dataclass(frozen=True)
class FcSite:
    """Where an FC layer stands in the graph, once or several times, and how to read its weights from there."""

    layer: FcLayer
    uses: tuple[FcUse, ...]

    @property
    def node(self) -> ir.Node:
        """The node of the first use, which has the layer's name."""
        return self.uses[0].node

    @property
    def is_rows(self) -> bool:
        """Whether the layer stands once, as a MatMul of rows."""
        return len(self.uses) == 1 and self.uses[0].form == "rows"

    @property
    def rows(self) -> int:
        """How many vectors the layer is applied to in one inference, over all uses."""
        return sum(use.rows for use in self.uses)

    @property
    def params(self) -> int:
        """Elements of the matrix, once, and of the bias."""
        return self.layer.out_features * (self.layer.in_features + self.layer.has_bias)

    @property
    def macs(self) -> int:
        """Multiply-adds of one inference, over all uses; a bias is none."""
        return self.rows * self.layer.in_features * self.layer.out_features

    @property
    def bias(self) -> Constant | None:
        """The constant bias of the first use."""
        return self.uses[0].bias

    def weights(self) -> tuple[Array, Array | None]:
        """W [out, in], and b [out]. W may be a view of the model's own memory and is read-only."""
        weight = self.uses[0].matrix().view()
        weight.flags.writeable = False
        if self.bias is None:
            return weight, None
        # The file may add one number to all outputs, or a bias with further axes of one.
        bias = np.broadcast_to(self.bias.array().reshape(-1), (self.layer.out_features,))
        return weight, np.ascontiguousarray(bias)


def bias_input(node: ir.Node) -> tuple[ir.Node, int]:
    """The node that adds the constant bias of an FC layer, and which of its inputs that is: Conv's B, or an Add's."""
    if node.op_type == "Conv":
        return node, 2
    # discover() takes an Add for a bias only where nothing else reads the product, so the first user is that Add.
    use = next(iter(node.outputs[0].uses()))
    return use.node, 1 - use.idx

"""An ONNX model that TensorFlow can train: its float constants are variables, its nodes are TensorFlow operations.

Owns the way from a ModelProto to variables and back. It checks nothing of the numbers: `lrf_dse.finetune.train`
compares the graph with onnxruntime before it trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import UsageError
from lrf_dse.finetune.grids import Grid, TrainableGrid
from lrf_dse.finetune.operations import OPERATIONS, Tensor
from lrf_dse.tt.t3f_svd import silent_start

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

_STATISTICS = {"BatchNormalization": (3, 4)}
"""Inputs that are no weights: running means and variances stay what training made them."""


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a model by name, and of those on a grid with scales the scale of each element."""

    values: Mapping[str, Array]
    scales: Mapping[str, Array]


class TrainableGraph:
    """The graph of `model`; `variables` are its trainable constants by name, float32.

    Every float constant of at least one dimension is trainable, the cores of a compressed layer like the weights of
    one that is kept. Constants that lie on `grids` are rounded to them whenever they are used, and their
    scales are trained too. Raises UsageError naming an operation that is not known.
    """

    def __init__(self, model: onnx.ModelProto, grids: Mapping[str, Grid] = MappingProxyType({})) -> None:
        from onnx import numpy_helper

        with silent_start():
            import tensorflow as tf
        tf.get_logger().setLevel("ERROR")  # every graph is traced anew: that is meant

        self.model = model
        graph = model.graph
        require_known(model)
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        frozen = {
            node.input[k] for node in graph.node for k in _STATISTICS.get(node.op_type, ()) if k < len(node.input)
        }
        used = {name for node in graph.node for name in node.input}
        self.variables: dict[str, Tensor] = {
            # TensorFlow allows fewer characters in names than ONNX.
            name: tf.Variable(value, name=f"v{k}")
            for k, (name, value) in enumerate(constants.items())
            if value.dtype == np.float32 and value.ndim and name in used - frozen
        }
        self._grids = {name: TrainableGrid(grid) for name, grid in grids.items() if name in self.variables}
        self._constants = {name: value for name, value in constants.items() if name not in self.variables}
        self._attributes = [_attributes(node) for node in graph.node]

    def _one(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """The first output of one inference on whole input tensors, in the model's order."""
        graph = self.model.graph
        names = [value.name for value in graph.input if value.name not in self.variables]
        # The empty name is an optional operand that is left out.
        values: dict[str, Tensor] = {"": None, **self._constants, **weights}
        values |= dict(zip(names, inputs, strict=True))
        for node, attributes in zip(graph.node, self._attributes, strict=True):
            if node.op_type == "Constant":
                values[node.output[0]] = attributes["value"]
            else:
                values[node.output[0]] = OPERATIONS[node.op_type]([values[name] for name in node.input], attributes)
        return values[graph.output[0].name]

    def many(self, inputs: Sequence[Tensor]) -> Tensor:
        """The first output of many inferences at a time, stacked along a new axis 0, as the inputs are."""
        import tensorflow as tf

        weights = self.variables | {name: grid.rounded(self.variables[name]) for name, grid in self._grids.items()}
        # The graph is one inference, with its batch fixed in its Reshapes; this runs many of them as one graph. An
        # operation that cannot be run so is an error: the fallback is a loop over inferences, slow without a word.
        return tf.vectorized_map(partial(self._one, weights), tuple(inputs), fallback_to_while_loop=False)

    @property
    def trained(self) -> list[Tensor]:
        """All variables that training changes: those of constants, then those of scales."""
        growths = [grid.growth for grid in self._grids.values() if grid.growth is not None]
        return [*self.variables.values(), *growths]

    def weights(self) -> Constants:
        """What the constants are now; those on a grid are exactly on it."""
        grids = {name: grid.now() for name, grid in self._grids.items()}
        latent = {name: variable.numpy() for name, variable in self.variables.items()}
        values = {name: grids[name].snapped(value) if name in grids else value for name, value in latent.items()}
        return Constants(values, {name: grid.elementwise for name, grid in grids.items() if grid.scales is not None})


def require_known(model: onnx.ModelProto) -> None:
    """Raise UsageError if the model holds an operation that it cannot be trained through."""
    for node in model.graph.node:
        known = node.domain in ("", "ai.onnx") and (node.op_type in OPERATIONS or node.op_type == "Constant")
        if not known:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise UsageError(f"node {node.name or node.output[0]}: cannot train through {name}")


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper, numpy_helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Constant" and "value" in values:
        values["value"] = numpy_helper.to_array(values["value"])
    return values

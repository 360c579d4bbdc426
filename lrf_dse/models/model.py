"""A model that was read: its graph, its FC layers and the totals their shares are taken of.

Owns the value `Model` and what can be asked of it. It reads no file and changes no graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.errors import UsageError
from lrf_dse.models.constants import resolve
from lrf_dse.models.discover import Array, FcSite, Skipped, is_set, static_shape
from lrf_dse.schema import FcLayer

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model: every size is a number; `dtype` is numpy's name, such as float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Model:
    """A model file as read. `ir` belongs to it: rewriting works on a copy.

    `sha256` is over the model file and the external data it names. `batch` is the number of samples in
    one inference, None if the model has no batch dimension (then one inference is one sample).
    `total_macs` counts Gemm, MatMul and Conv; `total_params` every float constant once.
    """

    path: Path
    ir: ir.Model
    sites: Mapping[str, FcSite]
    skipped: tuple[Skipped, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: int | None
    total_macs: int
    total_params: int
    sha256: str

    @property
    def fc_layers(self) -> tuple[FcLayer, ...]:
        """The FC layers, in execution order."""
        return tuple(site.layer for site in self.sites.values())

    def site(self, name: str) -> FcSite:
        """Where the layer `name` stands in the graph. Raises UsageError listing the names there are."""
        if name not in self.sites:
            raise UsageError(f"{self.path}: no FC layer {name!r}; the layers are {', '.join(self.sites) or 'none'}")
        return self.sites[name]

    def weights(self, name: str) -> tuple[Array, Array | None]:
        """W [out, in] and b [out] (or None) of one layer, alpha and beta folded in. See `FcSite.weights`."""
        return self.site(name).weights()


def sample_shape(spec: TensorSpec, batch: int | None) -> tuple[int, ...]:
    """The shape of one sample of an input or output of a model of that batch."""
    return spec.shape if batch is None else spec.shape[1:]


def to_onnx(model: Model) -> onnx.ModelProto:
    """The model as read, batch fixed, external data inside. Raises no error of its own."""
    import onnx_ir as ir

    return ir.to_proto(model.ir)


def batch_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> int | None:
    """The batch size: axis 0 of every input and output, if they all agree, else None.

    An input of one dimension is one sample, not a batch of numbers.

    >>> batch_of([TensorSpec("x", (4, 784), "float32")], [TensorSpec("y", (4, 10), "float32")])
    4
    >>> batch_of([TensorSpec("x", (784,), "float32")], [TensorSpec("y", (10,), "float32")]) is None
    True
    """
    if any(len(spec.shape) < 2 for spec in inputs) or any(not spec.shape for spec in outputs):
        return None
    sizes = {spec.shape[0] for spec in (*inputs, *outputs)}
    return sizes.pop() if len(sizes) == 1 else None


def total_macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of all Gemm, MatMul and Conv nodes whose shapes are known."""
    return sum(_macs(node) for node in graph)


def _macs(node: ir.Node) -> int:
    if node.op_type not in ("Gemm", "MatMul", "Conv") or node.domain not in ("", "ai.onnx"):
        return 0
    left, right, out = static_shape(node.inputs[0]), static_shape(node.inputs[1]), static_shape(node.outputs[0])
    if left is None or right is None or out is None:
        return 0
    if node.op_type == "Conv":
        return prod(out) * prod(right[1:])
    return prod(out) * (left[0] if node.op_type == "Gemm" and is_set(node, "transA") else left[-1])


def total_params(graph: ir.Graph) -> int:
    """Elements of all floating-point constants that nodes use; a shared one counts once."""
    tensors = {}
    for node in graph:
        for value in node.inputs:
            constant = resolve(value)
            if constant is not None and constant.tensor.dtype.is_floating_point():
                tensors[id(constant.tensor)] = constant.tensor.size
    return sum(tensors.values())

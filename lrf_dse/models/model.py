"""A model that was read: its graph, its FC layers and the totals their shares are taken of.

Owns the value `Model` and what can be asked of it. It reads no file and changes no graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.errors import UsageError
from lrf_dse.models.site import Array, FcSite, Skipped
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

    `sha256` is over the model file and the external data it names; `key` is a content key of it and of how it was read.
    `batch` is the number of samples in one inference, None if the model has no batch dimension (then one inference is
    one sample). `total_macs` counts the multiply-adds of matrix products, convolutions and recurrent cells in one
    inference; `total_params` counts every weight once. `skipped` are the nodes that hold weights and are no FC layers,
    each with the reason (see `inventory`). `notes` say what reading changed, one line each.
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
    key: str
    notes: tuple[str, ...] = ()

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
        """W [out, in] and b [out] (or None) of one layer. See `FcSite.weights`."""
        return self.site(name).weights()


def sample_shape(spec: TensorSpec, batch: int | None) -> tuple[int, ...]:
    """The shape of one sample of an input or output of a model of that batch."""
    return spec.shape if batch is None else spec.shape[1:]


def to_onnx(model: Model) -> onnx.ModelProto:
    """The model as read, batch fixed, external data inside. Raises no error of its own."""
    import onnx_ir as ir

    return ir.to_proto(model.ir)

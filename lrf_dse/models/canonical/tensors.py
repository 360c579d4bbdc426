"""The constants of an ONNX model: checked, dense, and in float32.

Owns what is refused of a constant. It decides nothing about layers.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.errors import ModelError
from lrf_dse.models.canonical.words import checker_line
from lrf_dse.models.protos import graphs_of, tensors_of

if TYPE_CHECKING:
    import onnx

BIG_BYTES = 4096
"""Larger constants stand aside while the checker and shape inference run: both copy what they are given."""

MOST_ELEMENTS = 2**29
"""Most elements of a sparse constant that is made dense, and of an input that is filled: 2 GB of float32."""


def check_initializers(graph: onnx.GraphProto) -> None:
    """Refuse duplicate names and damaged data; drop constants from the inputs, where old exporters listed them too."""
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"two initializers are named {twice!r}: which one is meant is unknown; export it again")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    constants = set(names)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
    if not graph.input:
        raise ModelError("the model has no input")
    if not graph.output:
        raise ModelError("the model has no output")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """Raise ModelError unless `tensor` holds exactly the data its shape asks for."""
    import onnx
    import onnx_ir as ir

    try:
        # The checker copies twice what it is given; for large raw data the checks below say enough.
        if not tensor.HasField("raw_data") or tensor.ByteSize() <= BIG_BYTES:
            onnx.checker.check_tensor(tensor)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"initializer {tensor.name!r}: {checker_line(error)}") from error
    if min(tensor.dims, default=1) < 0:
        raise ModelError(f"initializer {tensor.name!r} has a negative size: {list(tensor.dims)}")
    # The checker lets an unknown type pass, and raw data that is too long.
    if tensor.data_type not in set(ir.DataType) or tensor.data_type == ir.DataType.UNDEFINED:
        raise ModelError(f"initializer {tensor.name!r} has the unknown element type {tensor.data_type}")
    if tensor.HasField("raw_data"):
        if tensor.data_type == ir.DataType.STRING:
            raise ModelError(f"initializer {tensor.name!r} holds text as raw data, which ONNX does not allow")
        # Elements of 4 bits share bytes, so that the last byte may be half full: round up.
        wanted = -(-prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8)
        if len(tensor.raw_data) != wanted:
            raise ModelError(
                f"initializer {tensor.name!r} has {len(tensor.raw_data)} bytes, its shape "
                f"{list(tensor.dims)} needs {wanted}; export or copy the model again"
            )


def densify(graph: onnx.GraphProto) -> None:
    """Make sparse initializers dense ones. Raises ModelError for indices that do not fit."""
    from onnx import numpy_helper

    for sparse in graph.sparse_initializer:
        name, dims = sparse.values.name, tuple(sparse.dims)
        _check_tensor(sparse.values)
        _check_tensor(sparse.indices)
        if min(dims, default=1) < 0 or prod(dims) > MOST_ELEMENTS:
            raise ModelError(f"sparse initializer {name!r} has the shape {list(dims)}, which is not supported")
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        # ONNX allows two forms of indices: [count] into the flat tensor, or [count, rank] with one for each axis.
        if indices.ndim == 2 and indices.shape[1] == len(dims):
            inside = bool(np.all((indices >= 0) & (indices < np.array(dims))))
            indices = np.ravel_multi_index(tuple(indices.T), dims) if inside else np.array([-1])
        if indices.shape != values.shape or not bool(np.all((indices >= 0) & (indices < prod(dims)))):
            raise ModelError(f"sparse initializer {name!r} has indices that do not fit its shape {list(dims)}")
        dense = np.zeros(prod(dims), values.dtype)
        dense[indices] = values
        graph.initializer.append(numpy_helper.from_array(dense.reshape(dims), name))
    del graph.sparse_initializer[:]


def in_float32(proto: onnx.ModelProto, notes: list[str]) -> None:
    """Turn every float16, bfloat16 and float64 tensor, value and cast of `proto` into float32.

    Plans are judged and compiled in float32; storage of another width is a choice of the plan.
    """
    from onnx import TensorProto

    others: dict[int, str] = {
        TensorProto.FLOAT16: "float16",
        TensorProto.BFLOAT16: "bfloat16",
        TensorProto.DOUBLE: "float64",
    }
    seen = set()
    for graph in graphs_of(proto):
        for tensor in tensors_of(graph):
            if tensor.data_type in others:
                seen.add(tensor.data_type)
                _to_float32(tensor)
        values = (*graph.value_info, *getattr(graph, "input", ()), *getattr(graph, "output", ()))
        for value in values:
            # The inputs and outputs of a local function are bare names.
            if not isinstance(value, str) and value.type.tensor_type.elem_type in others:
                seen.add(value.type.tensor_type.elem_type)
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                # Of Cast, of the Random operations and EyeLike, of QuantizeLinear, and of LayerNormalization.
                if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.i in others:
                    seen.add(attribute.i)
                    attribute.i = TensorProto.FLOAT
    if seen:
        notes.append(f"computed in float32: the file holds {', '.join(sorted(others[kind] for kind in seen))}")


def _to_float32(tensor: onnx.TensorProto) -> None:
    from onnx import numpy_helper

    # The largest float64 is how exporters write "no bound": it stays the largest number there is.
    largest = float(np.finfo(np.float32).max)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        values = np.asarray(numpy_helper.to_array(tensor), np.float64)
        narrowed = np.where(np.isfinite(values), values.clip(-largest, largest), values).astype(np.float32)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(narrowed, name))

"""The order of the steps that make a model canonical, and the Model that comes out."""

from __future__ import annotations

import logging
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.models.batch import write_batch, written_batch
from lrf_dse.models.canonical.axes import declared_shapes, fix_axes, forget_symbols
from lrf_dse.models.canonical.batch import batch_of
from lrf_dse.models.canonical.contrib import expand_contrib
from lrf_dse.models.canonical.dense import share_constants, write_dense
from lrf_dse.models.canonical.fixed import chooser, fix_inputs
from lrf_dse.models.canonical.header import check_header, converted_opset
from lrf_dse.models.canonical.inference import checked, set_aside
from lrf_dse.models.canonical.learners import expand_learners
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.canonical.quantised import dequantise
from lrf_dse.models.canonical.results import choose_outputs
from lrf_dse.models.canonical.shapes import settle
from lrf_dse.models.canonical.tensors import check_initializers, densify, in_float32
from lrf_dse.models.canonical.words import checker_line
from lrf_dse.models.constants import static_shape
from lrf_dse.models.discover import discover
from lrf_dse.models.inventory import inventory, remove_dead
from lrf_dse.models.model import Model, TensorSpec
from lrf_dse.models.readers.onnx_file import MAX_BYTES
from lrf_dse.models.readers.source import Source

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

CANONICAL_VERSION = 2
"""To be raised whenever the same file becomes another graph."""


def canonical_model(source: Source, path: Path, options: ReadOptions) -> Model:
    """The model of `source`, read from `path`, in the canonical form. Raises ModelError or UsageError."""
    # It says on standard error that a value has no type yet, which is so between two steps.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    proto, notes = source.proto, list(source.notes)
    check_header(proto)
    # The checks of constants read `graph.initializer` alone, so sparse constants must have moved there before.
    densify(proto.graph)
    check_initializers(proto.graph)
    in_float32(proto, notes)
    choose_outputs(proto, options.outputs, notes)
    said, batch = written_batch(proto)
    # `dim_value` and `dim_param` are one `oneof` of ONNX's protobuf: fix_axes() writes sizes over the symbols, so that
    # their names are read before it.
    symbols = _first_symbols(proto.graph)
    sizes = fix_axes(proto, options)
    fix_inputs(proto.graph, options.inputs, notes)
    # forget_symbols() deletes what the file declares; it is kept for the values that no inference can size.
    declared = declared_shapes(proto.graph, sizes)
    forget_symbols(proto.graph, sized=bool(sizes))
    # The converter, the checker and the inference of ONNX serialise the whole model for their C++ part.
    big = set_aside(proto.graph)
    model = _to_ir(checked(converted_opset(proto, notes), sized=bool(sizes)))
    _put_back(model.graph, big)
    steps = [expand_contrib, expand_learners, *([dequantise] if options.dequantize else [])]
    settle(model, declared, steps=steps, keep_quantised=not options.dequantize)
    # A second time, because the expansions above leave Gemm and MatMul nodes, and because write_dense() checks a bias
    # and reshapes operands only where their shapes are static.
    settle(model, declared, steps=[write_dense], keep_quantised=not options.dequantize)
    share_constants(model.graph)
    # The inventory adds up to 100 % of the parameters, so that it must know what was removed without a use.
    dead = remove_dead(model.graph)
    sites, skipped = discover(model.graph)
    weights = inventory(model.graph, sites, skipped, dead)
    inputs = tuple(_spec(value, "input") for value in model.graph.inputs)
    outputs = tuple(_output(value, model.graph) for value in model.graph.outputs)
    if not said:
        batch = batch_of(_proto_of(model), inputs, outputs, options=options, symbols=symbols)
    write_batch(model, batch)
    return Model(
        path=path,
        ir=model,
        sites={site.layer.name: site for site in sites},
        skipped=weights.skipped,
        inputs=inputs,
        outputs=outputs,
        batch=batch,
        total_macs=weights.macs,
        total_params=weights.params,
        sha256=source.sha256,
        key=_key(source, options),
        notes=tuple(notes),
    )


def _key(source: Source, options: ReadOptions) -> str:
    return content_key("model", sha256=source.sha256, options=to_json(options), version=CANONICAL_VERSION)


def _first_symbols(graph: onnx.GraphProto) -> dict[str, str]:
    """The symbol of axis 0 of each input that has one."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    return {name: dims[0].dim_param for name, dims in shapes.items() if dims and dims[0].dim_param}


def _put_back(graph: ir.Graph, big: dict[str, onnx.TensorProto]) -> None:
    import onnx
    import onnx_ir as ir

    stand_ins = {value.name: value for value in graph.inputs if value.name in big}
    graph.inputs[:] = [value for value in graph.inputs if value.name not in big]
    for name, tensor in big.items():
        # A protobuf copies its bytes at every reading; an array does not, and lets the protobuf go.
        is_float = tensor.data_type == onnx.TensorProto.FLOAT
        stand_ins[name].const_value = (
            ir.tensor(onnx.numpy_helper.to_array(tensor), name=name)
            if is_float
            else ir.serde.deserialize_tensor(tensor)
        )
        graph.register_initializer(stand_ins[name])


def _to_ir(proto: onnx.ModelProto) -> ir.Model:
    import onnx_ir as ir

    try:
        return ir.from_proto(proto)
    except ir.serde.SerdeError as error:
        raise ModelError(f"is not a valid ONNX model: {checker_line(error.__cause__ or error)}") from error


def _proto_of(model: ir.Model) -> onnx.ModelProto:
    import onnx_ir as ir

    return ir.to_proto(model)


def _output(value: ir.Value, graph: ir.Graph) -> TensorSpec:
    if (static_shape(value) is None or value.dtype is None) and (decides := chooser(graph)) is not None:
        raise ModelError(
            f"output {value.name!r} has shape {value.shape}: input {decides.name!r} chooses what is computed; say "
            f"which value it always has, for instance {decides.option}"
        )
    return _spec(value, "output")


def _spec(value: ir.Value, role: str) -> TensorSpec:
    shape = static_shape(value)
    if shape is None or value.dtype is None:
        raise ModelError(
            f"{role} {value.name!r} has shape {value.shape}, which is not known before run time; "
            "export it with a fixed shape, or leave it out with --output"
        )
    if min(shape, default=1) < 1:
        raise ModelError(f"{role} {value.name!r} has shape {list(shape)}: it is empty")
    try:
        dtype = value.dtype.numpy()
    except TypeError as error:
        raise ModelError(f"{role} {value.name!r} is {value.dtype}, which no array holds") from error
    if dtype.kind not in "fiub":  # numpy's letters for float, signed, unsigned and bool
        raise ModelError(f"{role} {value.name!r} is {value.dtype}: only numbers can be compiled; see --output")
    if prod(shape) * dtype.itemsize > MAX_BYTES:
        raise ModelError(f"{role} {value.name!r} has shape {list(shape)}: over 2 GB; export a smaller batch")
    return TensorSpec(value.name or "", shape, dtype.name)

"""Read an ONNX file: parse, check, fix the batch dimension, infer shapes, hold it as ONNX IR.

Owns what is refused of an ONNX file and the words for it. Weights larger than BIG_BYTES stand aside while
the checker and shape inference run: both copy what they are given, and neither needs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models import discover
from lrf_dse.models.external import external_files, load_external
from lrf_dse.models.model import Model, TensorSpec, batch_of, total_macs, total_params

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

OLDEST_OPSET = 13
NEWEST_OPSET = 26
"""What onnxruntime 1.31, which evaluates the model, accepts."""

NEWEST_IR = 13
"""The newest ONNX IR version that onnxruntime 1.31 reads."""

MAX_BYTES = 2**31 - 1
"""The limit of a protobuf message."""

BIG_BYTES = 4096


def read_onnx(path: Path, *, batch: int | None = None) -> Model:
    """The ONNX model in `path`. Raises ModelError or UsageError, see `read_model`."""
    proto, digest = _parse(path)
    _check_header(proto, path)
    _check_initializers(proto.graph, path)
    big = _set_aside(proto.graph, path)
    _fix_batch(proto.graph, batch, path)
    model = _to_ir(_checked_and_inferred(proto, path), path)
    _put_back(model.graph, big)
    sites, skipped = _discover(model.graph, path)
    inputs = tuple(_spec(value, "input", path) for value in model.graph.inputs)
    outputs = tuple(_spec(value, "output", path) for value in model.graph.outputs)
    return Model(
        path=path,
        ir=model,
        sites={site.layer.name: site for site in sites},
        skipped=skipped,
        inputs=inputs,
        outputs=outputs,
        batch=batch_of(inputs, outputs),
        total_macs=total_macs(model.graph),
        total_params=total_params(model.graph),
        sha256=digest,
    )


def _parse(path: Path) -> tuple[onnx.ModelProto, str]:
    """The file with its external data inside, and the hash of both."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path}: {size / 1e9:.1f} GB; models over 2 GB are not supported")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    digest = sha256(data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{path}: is not an ONNX file, or is truncated; export or copy it again") from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelError(f"{path}: is not an ONNX model (no IR version or no graph); export it again")
    if (name := _not_utf8(proto)) is not None:
        raise ModelError(f"{path}: a name in it is not UTF-8, as ONNX wants it: {name!r}; export it again")
    room = MAX_BYTES - len(data)
    for file in external_files(proto, path, max_bytes=room):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    load_external(proto, path, max_bytes=room)
    return proto, digest.hexdigest()


def _not_utf8(message: Any) -> bytes | None:
    """A text in `message` that is not UTF-8, which protobuf then gives as bytes."""
    for field, value in message.ListFields():
        many = value if field.is_repeated else (value,)
        texts: Iterable[bytes | None] = ()
        if field.type == field.TYPE_STRING:
            texts = (text for text in many if isinstance(text, bytes))
        elif field.type == field.TYPE_MESSAGE:
            texts = map(_not_utf8, many)
        if (found := next((text for text in texts if text is not None), None)) is not None:
            return found
    return None


def _check_header(proto: onnx.ModelProto, path: Path) -> None:
    versions = {entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")}
    if not versions:
        raise ModelError(f"{path}: names no ONNX opset; export it again with opset {OLDEST_OPSET} or newer")
    for version in versions:
        if not OLDEST_OPSET <= version <= NEWEST_OPSET:
            raise ModelError(
                f"{path}: opset {version} is not supported; export it with opset {OLDEST_OPSET} to {NEWEST_OPSET}"
            )
    # Below IR 4 constants had to be listed as inputs; above 13 onnxruntime refuses what it could run.
    proto.ir_version = min(max(proto.ir_version, 7), NEWEST_IR)
    if not proto.graph.node:
        raise ModelError(f"{path}: the graph has no nodes: there is nothing to compress")


def _check_initializers(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse duplicate names; drop constants from the inputs, where old exporters listed them too."""
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(
            f"{path}: two initializers are named {twice!r}: which one is meant is unknown; export it again"
        )
    constants = set(names)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
    if not graph.input:
        raise ModelError(f"{path}: the model has no input")
    if not graph.output:
        raise ModelError(f"{path}: the model has no output")


def _set_aside(graph: onnx.GraphProto, path: Path) -> dict[str, onnx.TensorProto]:
    """Take big initializers out of `graph`, leaving inputs of the same name, type and shape."""
    import onnx

    big = {tensor.name: tensor for tensor in graph.initializer if tensor.ByteSize() > BIG_BYTES}
    small = [tensor for tensor in graph.initializer if tensor.name not in big]
    for tensor in graph.initializer:
        _check_tensor(tensor, path)
    for tensor in big.values():
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(small)
    return big


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Raise ModelError unless `tensor` holds exactly the data its shape asks for."""
    import onnx
    import onnx_ir as ir

    try:
        # The checker copies twice what it is given; for large raw data the checks below say enough.
        if not tensor.HasField("raw_data") or tensor.ByteSize() <= BIG_BYTES:
            onnx.checker.check_tensor(tensor)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path}: initializer {tensor.name!r}: {_one_line(error)}") from error
    if min(tensor.dims, default=1) < 0:
        raise ModelError(f"{path}: initializer {tensor.name!r} has a negative size: {list(tensor.dims)}")
    # The checker lets an unknown type pass, and raw data that is too long.
    if tensor.data_type not in set(ir.DataType) or tensor.data_type == ir.DataType.UNDEFINED:
        raise ModelError(f"{path}: initializer {tensor.name!r} has the unknown element type {tensor.data_type}")
    if tensor.HasField("raw_data"):
        if tensor.data_type == ir.DataType.STRING:
            raise ModelError(f"{path}: initializer {tensor.name!r} holds text as raw data, which ONNX does not allow")
        wanted = -(-prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8)
        if len(tensor.raw_data) != wanted:
            raise ModelError(
                f"{path}: initializer {tensor.name!r} has {len(tensor.raw_data)} bytes, its shape "
                f"{list(tensor.dims)} needs {wanted}; export or copy the model again"
            )


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


def _fix_batch(graph: onnx.GraphProto, batch: int | None, path: Path) -> None:
    """Give a dynamic axis 0 of the inputs the size `batch`; refuse every other dynamic dimension."""
    dynamic: dict[str, str] = {}
    fixed: dict[str, int] = {}
    for value in graph.input:
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"{path}: input {value.name!r} is not a tensor of known rank; export it with a fixed shape"
            )
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                fixed.setdefault(value.name, dim.dim_value)
                continue
            label = dim.dim_param or "?"
            if axis:
                raise ModelError(
                    f"{path}: input {value.name!r} has a dynamic dimension {label!r} at axis {axis}; only axis 0, "
                    "the batch, may be dynamic: export it with a fixed size"
                )
            dynamic[value.name] = label
            if batch is not None:
                dim.dim_value = batch
    _check_batch(dynamic, fixed, batch, path)


def _check_batch(dynamic: dict[str, str], fixed: dict[str, int], batch: int | None, path: Path) -> None:
    if len(set(dynamic.values())) > 1:
        dims = ", ".join(f"{name!r}: {label!r}" for name, label in dynamic.items())
        raise ModelError(f"{path}: inputs have different dynamic dimensions ({dims}); export it with fixed sizes")
    if dynamic and batch is None:
        name, label = next(iter(dynamic.items()))
        raise ModelError(
            f"{path}: input {name!r} has a dynamic batch dimension {label!r}; say which size to compile for, "
            "for instance --batch 1"
        )
    if not dynamic and batch is not None and batch not in set(fixed.values()):
        sizes = ", ".join(map(str, sorted(set(fixed.values()))))
        raise UsageError(f"{path}: its batch is fixed at {sizes}, so --batch {batch} cannot be had; leave --batch out")


def _checked_and_inferred(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    import onnx
    import onnx.inliner

    try:
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        onnx.checker.check_model(proto)
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        # ValueError: an unknown element type, or a message that is not UTF-8 since a name in it is not.
        # RuntimeError: an assertion in ONNX's C++, such as the inliner's about a call with too many inputs.
        raise ModelError(f"{path}: is not a valid ONNX model: {_one_line(error)}") from error


def _to_ir(proto: onnx.ModelProto, path: Path) -> ir.Model:
    import onnx_ir as ir

    try:
        return ir.from_proto(proto)
    except ir.serde.SerdeError as error:
        raise ModelError(f"{path}: is not a valid ONNX model: {_one_line(error.__cause__ or error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).replace("==> Context: ", "").split())


def _discover(graph: ir.Graph, path: Path) -> tuple[tuple[discover.FcSite, ...], tuple[discover.Skipped, ...]]:
    try:
        return discover.discover(graph)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _spec(value: ir.Value, role: str, path: Path) -> TensorSpec:
    shape = discover.static_shape(value)
    if shape is None or value.dtype is None:
        raise ModelError(
            f"{path}: {role} {value.name!r} has shape {value.shape}, which is not known before run time; "
            "export it with a fixed shape"
        )
    if min(shape, default=1) < 1:
        raise ModelError(f"{path}: {role} {value.name!r} has shape {list(shape)}: it is empty")
    try:
        dtype = value.dtype.numpy()
    except TypeError as error:
        raise ModelError(f"{path}: {role} {value.name!r} is {value.dtype}, which no array holds") from error
    if prod(shape) * dtype.itemsize > MAX_BYTES:
        raise ModelError(f"{path}: {role} {value.name!r} has shape {list(shape)}: over 2 GB; export a smaller batch")
    return TensorSpec(value.name or "", shape, dtype.name)

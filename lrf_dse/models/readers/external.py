"""External data of an ONNX model: only files inside the model's own folder are opened.

A location is data from a file we do not trust: an absolute path, a path with .. and a symbolic link can
all point outside the folder, so the resolved path decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError
from lrf_dse.models.protos import graphs_of, tensors_of

if TYPE_CHECKING:
    import onnx


OVER_LIMIT = "has over 2 GB with its external data; models over 2 GB are not supported"


def external_files(proto: onnx.ModelProto, path: Path, *, max_bytes: int) -> list[Path]:
    """The files that `proto`, read from `path`, refers to, sorted by name.

    Raises ModelError if one leaves the folder of `path`, is missing, or together they exceed `max_bytes`.
    """
    files = sorted({_inside_folder(tensor, path) for tensor in _external_tensors(proto)})
    total = sum(file.stat().st_size for file in files)
    if total > max_bytes:
        raise ModelError(f"{path}: {OVER_LIMIT}")
    return files


def load_external(proto: onnx.ModelProto, path: Path, *, max_bytes: int) -> None:
    """Read all external data of `proto` into it. Raises ModelError as `external_files`."""
    import onnx

    loaded = 0
    # A list, because setting `data_location` below changes what the generator looks at.
    for tensor in list(_external_tensors(proto)):
        file = _inside_folder(tensor, path)
        where = {entry.key: entry.value for entry in tensor.external_data}
        # ONNX keeps `offset` and `length` as decimal texts, both optional: by default the data is the whole file.
        offset = _number(where.get("offset", "0"), "offset", tensor, path)
        if offset > file.stat().st_size:
            raise ModelError(f"{path}: external data of {tensor.name!r} starts at byte {offset}, beyond {file.name}")
        length = _number(where.get("length", str(file.stat().st_size - offset)), "length", tensor, path)
        if offset + length > file.stat().st_size:
            raise ModelError(
                f"{path}: external data of {tensor.name!r} wants bytes {offset} to {offset + length} of {file.name}, "
                f"which has {file.stat().st_size}; copy the file again"
            )
        loaded += length
        if loaded > max_bytes:  # many tensors may name the same bytes
            raise ModelError(f"{path}: {OVER_LIMIT}")
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _number(text: str, key: str, tensor: onnx.TensorProto, path: Path) -> int:
    if not text.isdecimal():
        raise ModelError(f"{path}: external data of {tensor.name!r} has {key} {text!r}; a number of bytes is needed")
    return int(text)


def _inside_folder(tensor: onnx.TensorProto, path: Path) -> Path:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not location or "\0" in location:
        raise ModelError(f"{path}: external data of {tensor.name!r} names no file; export the model again")
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        exists = file.is_file()
    except (OSError, RuntimeError) as error:  # too long a name; a loop of links
        raise ModelError(f"{path}: external data of {tensor.name!r} at {location[:80]!r} cannot be read") from error
    if not file.is_relative_to(folder):
        raise ModelError(
            f"{path}: external data of {tensor.name!r} is at {location!r}, outside the model's folder; "
            "refused: put the file beside the model"
        )
    if not exists:
        raise ModelError(f"{path}: external data file {location!r} is missing; put it beside the model")
    return file


def _external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    import onnx

    for graph in graphs_of(proto):
        for tensor in tensors_of(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor

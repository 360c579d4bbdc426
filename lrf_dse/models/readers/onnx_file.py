"""Read an ONNX file and its external data.

Owns what makes a file no ONNX file, and its hash. What its graph may be is the business of `canonical`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from lrf_dse.errors import ModelError
from lrf_dse.models.readers.external import external_files, load_external
from lrf_dse.models.readers.source import Source

MAX_BYTES = 2**31 - 1
"""The limit of a protobuf message."""


def read_onnx(path: Path, *, max_bytes: int = MAX_BYTES) -> Source:
    """The ONNX model in `path` with its external data inside, and the hash of both. Raises ModelError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        # The size is asked before reading: a file that is too large must not fill the memory first.
        size = path.stat().st_size
        if size > max_bytes:
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
    # Protobuf takes many files for a message, an empty one too: two fields that every ONNX model has decide.
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelError(f"{path}: is not an ONNX model (no IR version or no graph); export it again")
    if (name := _not_utf8(proto)) is not None:
        raise ModelError(f"{path}: a name in it is not UTF-8, as ONNX wants it: {name!r}; export it again")
    room = max_bytes - len(data)
    for file in external_files(proto, path, max_bytes=room):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    load_external(proto, path, max_bytes=room)
    return Source(proto, digest.hexdigest())


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

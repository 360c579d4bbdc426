"""Which reader reads which file, and what is refused with the line that exports it."""

from __future__ import annotations

from pathlib import Path

from lrf_dse.errors import ModelError
from lrf_dse.models.readers.onnx_file import read_onnx
from lrf_dse.models.readers.source import ModelReader, Source

READERS: dict[str, ModelReader] = {".onnx": read_onnx}
"""By suffix, in lower case."""


def read_source(path: Path) -> Source:
    """The model in `path` in ONNX, by the reader of its suffix. Raises ModelError naming the file."""
    if not path.exists():
        raise ModelError(f"{path}: no such file; check the path of the model")
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file; give the model file itself")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ModelError(
            f"{path}: unknown model suffix {path.suffix or '(none)'!r}; supported are {', '.join(sorted(READERS))}"
        )
    return reader(path)

"""Read a model file: one reader per file suffix.

Owns the choice of the reader. A new format is one sibling module and one line in READERS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models.model import Model
from lrf_dse.models.onnx_reader import read_onnx


class ModelReader(Protocol):
    """Reads one file format."""

    def __call__(self, path: Path, *, batch: int | None = None) -> Model:
        """The model in `path`, its batch dimension fixed to `batch` if it was dynamic."""


READERS: dict[str, ModelReader] = {".onnx": read_onnx}


def read_model(path: Path, *, batch: int | None = None) -> Model:
    """The model in `path`, with its FC layers found and every shape known.

    `batch` fixes a dynamic batch dimension. Raises ModelError for a file that is missing, damaged or not
    supported, and UsageError for a batch that contradicts the model.
    """
    path = Path(path)
    if batch is not None and batch < 1:
        raise UsageError(f"the batch size must be at least 1, got {batch}")
    if not path.exists():
        raise ModelError(f"{path}: no such file; check the path of the model")
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file; give the model file itself")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ModelError(
            f"{path}: unknown model suffix {path.suffix or '(none)'!r}; supported are {', '.join(sorted(READERS))}"
        )
    model = reader(path, batch=batch)
    if not model.sites:
        raise ModelError(f"{path}: no FC layer to work on (Gemm, or MatMul with a constant matrix){_why(model)}")
    return model


def _why(model: Model) -> str:
    if not model.skipped:
        return ""
    first, more = model.skipped[0], len(model.skipped) - 1
    return f"; passed over {first.name}: {first.reason}" + (f", and {more} more" if more else "")

"""What a reader of a file format gives: a model in ONNX, before anything is looked for in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Source:
    """A model in ONNX. `proto` holds all its data, `sha256` is over every file read, `notes` say what was converted."""

    proto: onnx.ModelProto
    sha256: str
    notes: tuple[str, ...] = ()


class ModelReader(Protocol):
    """Reads one file format."""

    def __call__(self, path: Path) -> Source:
        """The model in `path`. Raises ModelError naming the file, or ToolError naming the extra that is missing."""

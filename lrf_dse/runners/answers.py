"""Read back what a program wrote: its outputs and its memory statistics. Raises `Rejected` for whatever is wrong.

Every runner of a program that keeps the contract in `lrf_dse.runners.job` uses it. It starts no process and keeps no
state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrf_dse.runners.job import Array, read_raw


class Rejected(Exception):
    """Why there is no measurement. A runner turns it into a Failure; it never leaves lrf_dse.runners and deploy."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


def output_names(count: int) -> tuple[str, ...]:
    """The names under which a runner has a program write its outputs."""
    return tuple(f"output{index}.bin" for index in range(count))


def read_outputs(folder: Path, expected: Sequence[Array]) -> list[Array]:
    """The outputs that a program wrote into `folder`, of the dtypes and shapes of `expected`. Raises Rejected."""
    outputs = []
    for name, want in zip(output_names(len(expected)), expected, strict=True):
        path = folder / name
        if not path.exists():
            raise Rejected("verify", f"the program did not write {name}")
        output = read_raw(path, want)
        if output is None:
            size = f"{name} has {path.stat().st_size} bytes, expected {want.nbytes}"
            raise Rejected("verify", f"{size} ({want.dtype} {want.shape})")
        outputs.append(output)
    return outputs


def read_ram_parts(path: Path) -> dict[str, int]:
    """The RAM parts that the program reports: every entry of the JSON file named *_bytes. Raises Rejected."""
    parts = {name: value for name, value in read_object(path, "the program").items() if name.endswith("_bytes")}
    if not parts:
        raise Rejected("run", f"{path.name} holds no entry named *_bytes")
    for name, value in parts.items():
        # `type` and not isinstance: to Python, True is an int too.
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise Rejected("run", f"{path.name}: {name[:40]!r} must be a number of bytes, got {str(value)[:40]!r}")
    return parts


def read_object(path: Path, writer: str) -> dict[str, Any]:
    """The JSON object that `writer` left in `path`. Raises Rejected."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    # The file may come from a board: a deeply nested text ends the parser with RecursionError.
    except (FileNotFoundError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Rejected("run", f"{writer} wrote no complete {path.name}")
    return data

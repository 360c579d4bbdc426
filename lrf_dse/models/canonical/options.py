"""What the user may say about a model file where the file leaves it open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lrf_dse.errors import UsageError


@dataclass(frozen=True)
class ReadOptions:
    """How a model file is to be read.

    `batch` is the size of its dynamic batch dimension, `dims` are sizes of its other dynamic axes by name ("input:axis"
    for one without a name). `outputs` are the only ones that are kept; without any, all that can be compiled.
    `dequantize` has integer weights computed in float32.
    """

    batch: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    dequantize: bool = False

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"the batch size must be at least 1, got {self.batch}")
        for name, size in self.dims.items():
            if size < 0:
                raise UsageError(f"--dim {name}={size}: a size is a number from 0 on")


def parse_dims(texts: tuple[str, ...] | list[str]) -> dict[str, int]:
    """The sizes that "NAME=N" texts give. Raises UsageError.

    >>> parse_dims(["T=16", "x:2=8"])
    {'T': 16, 'x:2': 8}
    """
    found: dict[str, int] = {}
    for text in texts:
        name, equals, size = text.rpartition("=")
        if not equals or not name or not size.isdecimal():
            raise UsageError(f"--dim takes NAME=N, such as --dim T=16, got {text!r}")
        if found.setdefault(name, int(size)) != int(size):
            raise UsageError(f"--dim {name} is given twice, as {found[name]} and as {size}")
    return found

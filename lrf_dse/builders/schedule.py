"""A Schedule: everything that one inference of a compiled IREE module does, as plain frozen values.

`read_schedule` walks the HAL-level IR (iree-compile --compile-to=hal) and evaluates it: sizes, offsets
and workgroup counts are constants by then, so what is left is a list of dispatches, fills and copies
between buffers. The evaluation itself is in `lrf_dse.builders.hal`; this module owns the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TOLERANCE = 1e-4
"""Sums in another order differ in their last bits; a fault is larger."""

HALF_TOLERANCE = 5e-3
"""The tolerance where layers round their inputs to half precision, one layer after the other: 2e-3 each at most."""

StorageKind = Literal["constant", "input", "transient", "state"]
"""constant: weights; input: given by the caller; transient: lives for one inference; state: filled once at load."""


@dataclass(frozen=True)
class Buffer:
    """A block of memory. `data` is set for constants only."""

    kind: StorageKind
    index: int
    size_bytes: int
    data: bytes | None = None

    @property
    def symbol(self) -> str:
        """Its name in the generated C."""
        return f"{self.kind}_{self.index}"


@dataclass(frozen=True)
class Span:
    """`length` bytes of a storage from `offset` on."""

    storage: Buffer
    offset: int
    length: int

    def narrowed(self, offset: int, length: int) -> Span:
        """The part of this span from `offset` on. Raises ValueError if it reaches past the end."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise ValueError(f"[{offset}, +{length}] reaches past the {self.length} bytes of {self.storage.symbol}")
        return Span(self.storage, self.offset + offset, length)


@dataclass(frozen=True)
class Dispatch:
    """One kernel call: every workgroup of an exported function of an executable."""

    executable: str
    function: str
    workgroups: tuple[int, int, int]
    constants: tuple[int, ...]
    bindings: tuple[Span, ...]


@dataclass(frozen=True)
class Fill:
    """Repeat a pattern over a span."""

    target: Span
    pattern: bytes


@dataclass(frozen=True)
class Copy:
    """Copy between spans of equal length."""

    source: Span
    target: Span


Command = Dispatch | Fill | Copy


@dataclass(frozen=True)
class Port:
    """An input or output of the model: where it lives, and its row-major tensor type (MLIR element type)."""

    span: Span
    shape: tuple[int, ...]
    element_type: str


@dataclass(frozen=True)
class Schedule:
    """What to load, what to do once at load, and what one inference does.

    Outputs may differ from the reference by `tolerance` of the largest one.
    """

    executables: dict[str, bytes]
    storages: tuple[Buffer, ...]
    at_load: tuple[Command, ...]
    commands: tuple[Command, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tolerance: float = TOLERANCE

    def of_kind(self, kind: StorageKind) -> tuple[Buffer, ...]:
        """The storages of one kind, in order of index."""
        return tuple(s for s in self.storages if s.kind == kind)

"""A stream as a value: a stage whose weights are used once, panel after panel of A, widened in registers. No text.

One column of state comes in, so a weight takes part in one multiply-add, and what bounds the stage is how fast weights
arrive and are widened. Vectors lie along the rows of a panel; scalars are the elements of the state. A *unit* is one
vector of codes: one k, or two of int4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lrf_dse.codegen.plan import FEW_ELEMENTS, StagePlan
from lrf_dse.codegen.storage import ELEMENT_BITS
from lrf_dse.codegen.tile import VECTOR_REGISTERS
from lrf_dse.codegen.tiling import PanelRun
from lrf_dse.tt.grid import GROUP

_LEAD, NAMES = 6, 8
"""Scalars are loaded so many multiply-adds ahead, into so many registers."""
ROUNDED = 3
"""The same where they are rounded on the way."""
UNROLLED = 24
"""Panels of at most so many units are written without a loop."""
DEEP = 4
"""Sets of temporary registers where each of three steps of widening is done one unit after the one before it."""
_RINGS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Stream:
    """All panels of one width."""

    plan: StagePlan
    run: PanelRun
    lanes: int

    @property
    def lmul(self) -> int:
        """Registers of floats that a panel takes, a power of two."""
        return 1 << (-(-self.run.first.width // self.lanes) - 1).bit_length()

    @property
    def half(self) -> bool:
        """Whether products are of half precision."""
        return self.plan.half and self.plan.storage != "fp32"

    @property
    def per_unit(self) -> int:
        """Terms of the sum in one vector of codes."""
        return 2 if self.plan.storage == "int4" else 1

    @property
    def units(self) -> int:
        """Vectors of codes in one panel."""
        return -(-self.plan.k // self.per_unit)

    @property
    def group_units(self) -> int:
        """Units that share scales, all of them but for int4."""
        return GROUP // 2 if self.plan.storage == "int4" else self.units

    @property
    def turn(self) -> int:
        """Units in one turn of the loop, of int4 a group: more where a unit is short in time and bytes."""
        if self.per_unit == 2:
            return self.group_units
        return 8 if self.lmul > 2 or self.plan.storage == "fp32" else 16

    @property
    def unit_bytes(self) -> int:
        """Bytes of one vector of codes."""
        return self.run.first.width * self.code_bits // 8

    @property
    def code_bits(self) -> int:
        """Bits of one row in a vector of codes."""
        return 8 if self.plan.storage == "int4" else ELEMENT_BITS[self.plan.storage]

    @property
    def chains(self) -> int:
        """Sums that take turns; of int4 one for each nibble."""
        return min(self.plan.how.block, self.units) if self.per_unit == 1 else min(2, self.plan.k)

    @property
    def widens(self) -> bool:
        """Whether a unit is more than what is loaded."""
        return not (self.plan.storage == "fp32" or (self.half and self.plan.storage == "fp16"))

    @property
    def nibbles_apart(self) -> bool:
        """Whether the nibbles of int4 are taken from bytes that were extended one unit before."""
        return self.half and self.per_unit == 2

    @cached_property
    def registers(self) -> Registers:
        """Which registers hold what. Raises ValueError if they are too few."""
        return Registers.of(self)

    @property
    def crosses(self) -> bool:
        """Whether the ring of loads runs on into the next panel."""
        return self.units % self.registers.ring == 0

    @property
    def resident(self) -> bool:
        """Whether the state stays in scalar registers."""
        return self.plan.k <= FEW_ELEMENTS

    @property
    def rounds(self) -> bool:
        """Whether scalars are rounded to half precision between their load and their use."""
        return self.half and self.plan.rounds_as_it_goes

    @property
    def lead(self) -> int:
        """Terms between the load of a scalar and its use."""
        return min(_LEAD, self.plan.k)


@dataclass(frozen=True)
class Registers:
    """Which vector registers hold what; `temps` are one or two sets of a unit's widened vectors.

    Of int4 in half precision they are the low and the high nibbles, and the bytes of two units.
    """

    sums: tuple[str, ...]
    total: str
    raw: tuple[str, ...]
    temps: tuple[tuple[str, ...], ...]
    scale: str
    narrow_scale: str
    bias: str

    @property
    def ring(self) -> int:
        """Units that are loaded ahead."""
        return len(self.raw)

    @staticmethod
    def of(stream: Stream) -> Registers:
        """The largest ring, and two sets of temporary registers, if they fit. Raises ValueError if nothing does."""
        rings = [ring for ring in _RINGS if ring <= stream.units]
        if stream.units <= UNROLLED:  # short panels: rather a ring that runs on into the next one
            rings.sort(key=lambda ring: ring == 1 or stream.units % ring != 0)
        sets_tried = (
            (1,) if stream.nibbles_apart else (DEEP, 2, 1) if not stream.half and stream.per_unit == 1 else (2, 1)
        )
        for sets in sets_tried if stream.widens else (0,):
            for ring in rings:
                taken = _Taken()
                found = taken.registers(stream, ring, sets)
                if taken.count <= VECTOR_REGISTERS:
                    return found
        raise ValueError(f"a stream of {stream.plan.storage} with {stream.lmul} registers a vector does not fit")


class _Taken:
    """Registers that are taken one after the other, in groups that start at multiples of their size."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, registers: float) -> str:
        size = max(1, int(registers))
        first = -(-self.count // size) * size
        self.count = first + size
        return f"v{first}"

    def registers(self, stream: Stream, ring: int, sets: int) -> Registers:
        lmul, storage = stream.lmul, stream.plan.storage
        sums = tuple(self.take(lmul) for _ in range(stream.chains))
        total = self.take(lmul) if storage == "int4" else ""
        scale = self.take(lmul) if storage in ("int8", "int4") else ""
        bias = self.take(lmul) if stream.plan.has_bias else ""
        wide = lmul / 2 if stream.half else lmul
        each = 4 if stream.nibbles_apart else stream.per_unit
        temps = tuple(tuple(self.take(wide) for _ in range(each)) for _ in range(sets))
        raw = tuple(self.take(lmul * stream.code_bits / 32) for _ in range(ring))
        narrow = scale
        if storage == "int4":
            # Widening may read the upper part of what it writes, whole registers only.
            narrow = f"v{int(scale[1:]) + lmul // 2}" if lmul > 1 else self.take(1)
        return Registers(sums, total, raw, temps, scale, narrow, bias)

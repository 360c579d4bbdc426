"""A stream as a value: a stage whose weights are used once, panel after panel of A, widened in registers. No text.

One column of state comes in, so a weight takes part in one multiply-add, and what bounds the stage is how fast weights
arrive and are widened. Vectors lie along the rows of a panel; scalars are the elements of the state. A *unit* is one
vector of codes: one k of fp32 and fp16, two of int8, four of int4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lrf_dse.codegen.plan import FEW_ELEMENTS, StagePlan
from lrf_dse.codegen.storage import PER_WORD, code_bytes, scale_bytes
from lrf_dse.codegen.tile import VECTOR_REGISTERS
from lrf_dse.codegen.tiling import PanelRun
from lrf_dse.tt.grid import GROUP

_LEAD, _NAMES = 6, 8
"""Scalars are loaded so many multiply-adds ahead, into so many registers."""
_LONG = 4
"""Vectors of at least so many registers keep the pipe for floats busy with few instructions: their loops are short."""
UNROLLED = 24
"""Panels of at most so many units are written without a loop."""
_RINGS = (8, 4, 2, 1)
_SHORT = 2
"""Vectors of at most so many registers are widened two units ahead: their products follow each other too soon."""
DEEP = 4
"""Sets of temporary registers where each of three steps of widening is done one unit after the one before it."""


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
        return self.plan.half and self.plan.storage != "fp32" and not self.plan.is_short

    @property
    def per_unit(self) -> int:
        """Terms of the sum in one vector of codes."""
        return PER_WORD.get(self.plan.storage, 1)

    @property
    def units(self) -> int:
        """Vectors of codes in one panel."""
        return -(-self.plan.k // self.per_unit)

    def narrow(self, unit: int) -> bool:
        """Whether a unit is one of bytes: the last one, where bytes hold what is left."""
        return 0 < self.plan.k - unit * self.per_unit <= self.per_unit // 2

    @property
    def group_units(self) -> int:
        """Units that share scales, all of them but for int4."""
        return GROUP // self.per_unit if self.plan.storage == "int4" else self.units

    @property
    def group_terms(self) -> int:
        """Terms of the sum that share scales."""
        return GROUP if self.plan.storage == "int4" else self.plan.k

    @property
    def group_bytes(self) -> int:
        """Bytes of a whole group of int4, its scales included."""
        width = self.run.first.width
        return code_bytes("int4", GROUP, width) + scale_bytes("int4", width)

    @property
    def groups(self) -> int:
        """Groups of units that share scales."""
        return -(-self.units // self.group_units)

    @property
    def turn(self) -> int:
        """Units in one turn of the loop, of int4 one group or two: more where a unit is short in time and bytes."""
        if self.plan.storage == "int4":
            return self.group_units * self.sum_sets
        if self.lmul >= _LONG:
            # Two units of int8 a turn take 1.4 times as long where these are no whole lines (24 rows); four units of
            # eight registers take 1.05 times as long as two.
            return _LONG if self.lmul == _LONG else _LONG // self.per_unit
        return 8 if self.per_unit > 1 or self.plan.storage == "fp32" else 16

    @property
    def names(self) -> int:
        """Scalar registers that elements of the state are loaded into, in turn."""
        return self.turn * self.per_unit if self.lmul >= _LONG and self.plan.storage != "int4" else _NAMES

    @property
    def code_bits(self) -> int:
        """Bits of one row in a vector of codes."""
        # Codes of int8 and int4 come as words of 16 bits too (lrf_dse/codegen/storage.py).
        return 32 if self.plan.storage == "fp32" else 16

    @property
    def unit_bytes(self) -> int:
        """Bytes of one vector of codes."""
        return self.run.first.width * self.code_bits // 8

    @property
    def chains(self) -> int:
        """Sums that take turns; of int4 at least one for low and one for high nibbles."""
        least = 2 if self.plan.storage == "int4" else 1
        return min(max(self.plan.how.block, least), self.plan.k)

    @property
    def sum_sets(self) -> int:
        """Sets of sums: with two, those of a group of int4 are added up beside the products of the next one."""
        return 2 if self.half and self.plan.storage == "int4" and self.lmul <= _SHORT and self.groups > 1 else 1

    def sums_of(self, k: int) -> tuple[str, ...]:
        """The sums to which product k belongs."""
        # Two sets take turns from group to group.
        first = k // self.group_terms % self.sum_sets * self.chains
        return self.registers.sums[first : first + self.chains]

    @property
    def widens(self) -> bool:
        """Whether a unit is more than what is loaded."""
        return not (self.plan.storage == "fp32" or (self.half and self.plan.storage == "fp16"))

    @property
    def in_halves(self) -> bool:
        """Whether the second half of a unit is widened after the products of the first, for want of registers."""
        return self.plan.storage == "int4" and not self.half

    @cached_property
    def registers(self) -> Registers:
        """Which registers hold what. Raises ValueError if they are too few."""
        return Registers.of(self)

    @property
    def crosses(self) -> bool:
        """Whether the ring of loads runs on into the next panel."""
        return self.may_cross(self.registers.ring, self.registers.sets)

    def may_cross(self, ring: int, sets: int) -> bool:
        """Whether a ring of so many loads can run on: it comes round, and what is widened early is of one panel."""
        if not self.widens or sets == DEEP:
            return self.units % ring == 0 and not self.widens
        return self.units % ring == 0 and self.units % sets == 0 and ring + sets <= self.units

    @property
    def resident(self) -> bool:
        """Whether the state stays in scalar registers."""
        return self.plan.k <= FEW_ELEMENTS

    @property
    def lead(self) -> int:
        """Terms between the load of a scalar and its use."""
        return min(_LEAD, self.names - 1, self.plan.k)


@dataclass(frozen=True)
class Registers:
    """Which vector registers hold what; `temps` are sets of a unit's widened vectors, one for each of its terms.

    `part` is what lies between a vector of codes and these: its upper bytes (int4), or all of it in wide lanes.
    """

    sums: tuple[str, ...]
    total: str
    raw: tuple[str, ...]
    temps: tuple[tuple[str, ...], ...]
    part: str
    scale: str
    narrow_scale: str
    bias: str

    @property
    def ring(self) -> int:
        """Units that are loaded ahead."""
        return len(self.raw)

    @property
    def sets(self) -> int:
        """Units that are widened ahead."""
        return max(1, len(self.temps))

    @staticmethod
    def of(stream: Stream) -> Registers:
        """The largest ring that fits, short vectors widened two units ahead. Raises ValueError if nothing does."""
        most = stream.units if stream.units <= UNROLLED else stream.turn
        sizes = [(sets, ring) for sets in _sets_tried(stream) for ring in _RINGS if ring <= most]
        if stream.units <= UNROLLED:  # short panels: rather a ring that runs on into the next one
            # The sort is stable: among rings that run on, the largest still comes first.
            sizes.sort(key=lambda size: not stream.may_cross(size[1], size[0]))
        for sets, ring in sizes:
            taken = _Taken()
            found = taken.registers(stream, ring, sets)
            if taken.count <= VECTOR_REGISTERS:
                return found
        raise ValueError(f"a stream of {stream.plan.storage} with {stream.lmul} registers a vector does not fit")


def _sets_tried(stream: Stream) -> tuple[int, ...]:
    """How many sets of temporary registers, the best number first."""
    if stream.half:
        return (2, 1) if stream.lmul <= _SHORT and stream.units > 1 else (1,)
    return (DEEP, 1) if stream.widens and not stream.in_halves else (1,)


class _Taken:
    """Registers that are taken one after the other, in groups that start at multiples of their size."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, registers: float) -> str:
        # RVV wants groups of registers to start at a multiple of their size; half a register takes a whole one.
        size = max(1, int(registers))
        first = -(-self.count // size) * size
        self.count = first + size
        return f"v{first}"

    def registers(self, stream: Stream, ring: int, sets: int) -> Registers:
        lmul, storage = stream.lmul, stream.plan.storage
        sums = tuple(self.take(lmul) for _ in range(stream.chains * stream.sum_sets))
        total = self.take(lmul) if storage == "int4" else ""
        scale = self.take(lmul) if storage in ("int8", "int4") else ""
        bias = self.take(lmul) if stream.plan.has_bias and storage != "int4" else ""
        wide = lmul / 2 if stream.half else lmul
        each = range(stream.per_unit // (2 if stream.in_halves else 1))
        temps = tuple(tuple(self.take(wide) for _ in each) for _ in range(sets if stream.widens else 0))
        # In halves, the second half of a unit takes the same registers again.
        temps = tuple(some * 2 for some in temps) if stream.in_halves else temps
        codes = storage in ("int8", "int4")
        part = self.take(wide) if codes and (storage == "int4" or not stream.half) else ""
        raw = tuple(self.take(lmul * stream.code_bits / 32) for _ in range(ring))
        narrow = scale
        if storage == "int4":
            # Widening may read the upper part of what it writes, whole registers only.
            narrow = f"v{int(scale[1:]) + lmul // 2}" if lmul > 1 else self.take(1)
        return Registers(sums, total, raw, temps, part, scale, narrow, bias)

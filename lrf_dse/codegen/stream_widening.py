"""How a stream makes numbers of a vector of codes, between the products of the vector before it.

With half precision, codes need no conversion: an unsigned code is a subnormal number, code x 2^-24. What was added to
make codes unsigned is taken off each sum at the end (lrf_dse/codegen/stream_state.py). High nibbles are masked, not
shifted down: their sums are 16 times as large. Without half precision a code becomes the low bits of 2^23 + code, from
which a subtraction leaves the code.
"""

from __future__ import annotations

from collections.abc import Sequence

from lrf_dse.codegen.storage import OFFSETS
from lrf_dse.codegen.stream import Stream
from lrf_dse.schema import Storage

_HIGH = 16
CONSTANTS: dict[Storage, list[str]] = {
    "int8": ["unsigned long low_byte = 0xff;", "KEEP(low_byte);"],
    "int4": ["unsigned long high_nibble = 0xf0;", "KEEP(high_nibble);"],
}
"""Masks, kept in registers: clang would make them anew for every use."""


def widening(stream: Stream, raw: str, temps: Sequence[str], load: list[str], *, narrow: bool) -> list[list[str]]:
    """The codes in `raw` to `temps`: what follows each of the products that free these.

    `load` comes as soon as `raw` is free. A `narrow` unit is one of bytes.
    """
    if stream.half:
        way = _bytes_of_words if stream.plan.storage == "int8" else _nibbles_of_words
        return way(stream.registers.part, raw, temps, load, narrow=narrow)
    if stream.plan.storage == "int4":
        return _wide_nibbles(stream.registers.part, raw, temps, load, narrow=narrow)
    lines = [line for step in widening_steps(stream, raw, temps, load, narrow=narrow) for line in step]
    return [*([[]] * (stream.per_unit - 1)), lines]


def widening_steps(stream: Stream, raw: str, temps: Sequence[str], load: list[str], *, narrow: bool) -> list[list[str]]:
    """The codes in `raw` made single precision in `temps`, in three steps, for fp16 and int8."""
    if stream.plan.storage == "fp16":
        (wide,) = temps
        # Sign, exponent and mantissa stay, copies of the sign between them go; 2^112 is the difference of the exponent
        # biases.
        last = [f"MASK({wide}, 0x8fffe000);", f"SCALE({wide}, 0x1p112f);"]
        return [[f"EXTEND_SIGN_2({wide}, {raw});", *load], [f"SHIFT_LEFT({wide}, 13);"], last]
    # 0x4b000000 is 2^23, whose 23 bits of mantissa count ones: a code put there is 2^23 + code, exactly.
    (low, high), part = temps, stream.registers.part
    live, less = [low] if narrow else [low, high], (1 << 23) + OFFSETS["int8"]
    fields = [f"EXTEND_2({part}, {raw});", *load, f"BITS({low}, {part}, low_byte);", f"BITS_FROM({high}, {part}, 8);"]
    if narrow:
        fields = [f"EXTEND_4({low}, {raw});", *load]
    return [fields, [f"SET_BITS({one}, 0x4b000000);" for one in live], [f"SUBTRACT({one}, {less}.0f);" for one in live]]


def _bytes_of_words(part: str, raw: str, temps: Sequence[str], load: list[str], *, narrow: bool) -> list[list[str]]:
    low, high = temps
    if narrow:
        return [[f"EXTEND_2({low}, {raw});", *load], []]
    return [[f"BITS({low}, {raw}, low_byte);"], [f"BITS_FROM({high}, {raw}, 8);", *load]]


def _nibbles_of_words(part: str, raw: str, temps: Sequence[str], load: list[str], *, narrow: bool) -> list[list[str]]:
    first, second, third, fourth = temps
    if narrow:
        low, high = f"LOW_NIBBLE({first}, {part});", f"BITS({second}, {part}, high_nibble);"
        return [[f"EXTEND_2({part}, {raw});", *load], [low], [high], []]
    return [
        [f"BITS_FROM({part}, {raw}, 8);"],
        [f"LOW_NIBBLE({first}, {raw});"],
        [f"BITS({second}, {raw}, high_nibble);", *load],
        [f"LOW_NIBBLE({third}, {part});", f"BITS({fourth}, {part}, high_nibble);"],
    ]


def _wide_nibbles(part: str, raw: str, temps: Sequence[str], load: list[str], *, narrow: bool) -> list[list[str]]:
    extended = [f"EXTEND_{4 if narrow else 2}({part}, {raw});", *load]
    return [[], [], [], [*extended, *_pair(part, temps)]]


def second_half(part: str, temps: Sequence[str]) -> list[str]:
    """The upper two nibbles of a word in wide lanes, widened once the products of the lower two are under way."""
    return [f"BITS_FROM({part}, {part}, 8);", *_pair(part, temps)]


def _pair(part: str, temps: Sequence[str]) -> list[str]:
    # The high nibble was masked in place, so its offset is 16 times as large as well.
    less = [(1 << 23) + OFFSETS["int4"], (1 << 23) + _HIGH * OFFSETS["int4"]]
    fields = [f"LOW_NIBBLE({temps[0]}, {part});", f"BITS({temps[1]}, {part}, high_nibble);"]
    return [*fields, *_floats(temps[:2], less)]


def _floats(registers: Sequence[str], less: list[int]) -> list[str]:
    """Unsigned integers as floats, less what was added to them."""
    bits = [f"SET_BITS({register}, 0x4b000000);" for register in registers]
    return bits + [f"SUBTRACT({register}, {taken}.0f);" for register, taken in zip(registers, less, strict=False)]

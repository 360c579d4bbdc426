"""Panels of int8 and int4 made half precision, for tiles that multiply in it; and the state that these read.

An unsigned code of int8 is a subnormal number, code x 2^-24, from which a subtraction takes what made it unsigned: it
stays a whole number of 2^-24, and the sums of a tile take the scales of their rows at its end. A code of int4 becomes
bits of 1024 + code, or of 1024 + 16 code where it lies four bits higher, loses what was added to it, and takes the
scale of its group, rounded to half precision. Panels of fp16 are read where they lie.
"""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.codegen.plan import StagePlan, work_floats
from lrf_dse.codegen.storage import OFFSETS, PER_WORD, code_bytes, groups_of, scale_bytes
from lrf_dse.codegen.stream_state import prepared_at, preparing
from lrf_dse.codegen.text import at, half_constant, half_lmul, indented, loop, runs
from lrf_dse.schema import Storage

TOGETHER = 16
"""Elements along K in one turn of the loop; of int4 a group."""
_STEPS = 4
"""Steps of an element; the last one stores it."""
_FIELDS, _RAW, _ABOVE = ("v0", "v4", "v8", "v12"), ("v16", "v20"), "v24"
_SCALES = ("v26", "v28")
"""The registers of the scales of codes at the bottom of a byte, and of those of codes four bits higher."""
_HIGH = 16


def rounded_state(plan: StagePlan) -> StagePlan:
    """A stream of fp16 whose state is all of this stage's: it rounds the state and needs no sums of it."""
    return replace(plan, k=plan.in_floats, packed=replace(plan.packed, storage="fp16"))


def state_functions(plan: StagePlan, lanes: int) -> list[str]:
    """The C functions that round the state of a stage whose tiles multiply in half precision."""
    return preparing(rounded_state(plan), lanes)


def state_at(plan: StagePlan) -> str:
    """Where the state in half precision lies."""
    return prepared_at(rounded_state(plan))


def panels_at(plan: StagePlan) -> str:
    """Where panels in half precision lie."""
    # Behind the state in half precision.
    return f"(unsigned short *)(work + {work_floats(plan.in_floats)})"


def halves(plan: StagePlan, lanes: int, width: int) -> list[str]:
    """The body of the function that widens a panel `width` rows wide: one vector for every element along K."""
    start = f"SET_HALF({width}, {half_lmul(width // lanes)});"
    if plan.storage == "int8":
        less = [half_constant("less", OFFSETS["int8"])]
        return [*less, "unsigned long low_byte = 0xff;", "KEEP(low_byte);", start, *_bytes(plan, width)]
    less = [
        # 0x6400 is 1024 in half precision: ten bits of mantissa count ones, so that a code of four bits, or one shifted
        # up by four, fits them exactly.
        half_constant("less", 0x6400 + OFFSETS["int4"]),
        half_constant("less_above", 0x6400 + _HIGH * OFFSETS["int4"]),
    ]
    # 0x2c00 is 1/16.
    masks = ["unsigned long high_nibble = 0xf0;", "KEEP(high_nibble);", half_constant("sixteenth", 0x2C00)]
    return [*less, *masks, start, *_groups(plan, width)]


def _bytes(plan: StagePlan, width: int) -> list[str]:
    turns, left = divmod(plan.k, TOGETHER)
    turn = [*_elements("int8", width, TOGETHER), f"from += {width * TOGETHER};", f"to += {width * TOGETHER};"]
    return [*(loop("n", turns, turn) if turns else []), *_elements("int8", width, left)]


def _groups(plan: StagePlan, width: int) -> list[str]:
    lines, code, target = [], 0, 0
    for size, count in runs(groups_of(plan.k)):
        codes = code_bytes("int4", size, width)
        step = codes + scale_bytes("int4", width)
        group = [
            f"const unsigned char *codes = {at('from', ('g', step, count), ('', code, 1))};",
            f"unsigned short *out = {at('to', ('g', size * width, count), ('', target, 1))};",
            f"LOAD_HALVES({_SCALES[0]}, codes + {codes});",
            f"TIMES({_SCALES[1]}, sixteenth.value, {_SCALES[0]});",
            *_elements("int4", width, size, source="codes", out="out"),
        ]
        lines += loop("g", count, group) if count > 1 else ["{", *indented(group), "}"]
        code, target = code + step * count, target + size * width * count
    return lines


def _elements(storage: Storage, width: int, count: int, *, source: str = "from", out: str = "to") -> list[str]:
    """`count` elements along K in their steps, each of which is one element behind the step before."""
    lines = _load(storage, width, 0, count, source) if count else []
    steps = _of_int8 if storage == "int8" else _of_int4
    for turn in range(count + _STEPS - 1) if count else ():
        for step in range(_STEPS):
            number = turn - step
            if not 0 <= number < count:
                continue
            if step == 0 and number % PER_WORD[storage] == 0 and number + PER_WORD[storage] < count:
                lines += _load(storage, width, number // PER_WORD[storage] + 1, count, source)
            if step < _STEPS - 1:
                lines += steps(number, count)[step]
            else:
                lines += [f"STORE_HALVES({_FIELDS[number % 4]}, {out} + {number * width});"]
    return lines


def _is_bytes(storage: Storage, unit: int, count: int) -> bool:
    """Whether a unit is one of bytes, not of words: what is left along K, at most half of a word."""
    return count - unit * PER_WORD[storage] <= PER_WORD[storage] // 2


def _load(storage: Storage, width: int, unit: int, count: int, source: str) -> list[str]:
    kind, raw = "BYTES" if _is_bytes(storage, unit, count) else "HALVES", _RAW[unit % 2]
    return [f"LOAD_{kind}({raw}, {source} + {2 * unit * width});"]


def _of_int8(number: int, count: int) -> tuple[list[str], ...]:
    """What is done with a code before it is stored: it is taken from its word, and what was added to it taken off."""
    unit, part = divmod(number, PER_WORD["int8"])
    field, raw = _FIELDS[number % 4], _RAW[unit % 2]
    taken = f"BITS_FROM({field}, {raw}, 8);" if part else f"BITS({field}, {raw}, low_byte);"
    if _is_bytes("int8", unit, count):
        taken = f"EXTEND_2({field}, {raw});"
    return [taken], [], [f"SUBTRACT({field}, less.value);"]


def _of_int4(number: int, count: int) -> tuple[list[str], ...]:
    """What is done with a code of int4: it is taken with 1024 added to it, loses that again, and is scaled."""
    unit, part = divmod(number, PER_WORD["int4"])
    field, word = _FIELDS[number % 4], _RAW[unit % 2]
    first: list[str] = []
    if _is_bytes("int4", unit, count):
        first = [f"EXTEND_2({_ABOVE}, {word});"] * (part == 0)
        word = _ABOVE
    elif part >= 2:
        first = [f"BITS_FROM({_ABOVE}, {word}, 8);"] * (part == 2)
        word = _ABOVE
    high = part % 2
    taken = f"BITS({field}, {word}, high_nibble);" if high else f"LOW_NIBBLE({field}, {word});"
    less = "less_above" if high else "less"
    return (
        [*first, taken, f"SET_BITS({field}, 0x6400);"],
        [f"SUBTRACT({field}, {less}.value);"],
        [f"SCALE_EACH({field}, {_SCALES[high]});"],
    )

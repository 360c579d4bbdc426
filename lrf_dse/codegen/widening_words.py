"""Panels that lie k by k made single precision: vectors of words, along the rows of the panel.

A result goes through four steps: its code is taken from the word, becomes a float, is scaled, and stored. Each step is
one result behind the step before, so that none waits, and stores, which take longest, follow each other.
"""

from __future__ import annotations

from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.storage import OFFSETS, PER_WORD, code_bytes, groups_of, scale_bytes
from lrf_dse.codegen.text import at, half_lmul, indented, loop, runs

TOGETHER = 16
"""Results in one turn of the loop along K; of int4 a group."""
LARGEST_LMUL = 4
_SCALES = "v28"
_WIDE, _FIELDS, _RAW = ("v0", "v4", "v8", "v12"), ("v16", "v18", "v20", "v22"), ("v24", "v26")


def k_by_k(plan: StagePlan, lanes: int, width: int) -> list[str]:
    """The body of the function that widens a panel: its vectors of rows, one after the other."""
    lines = _constants(plan)
    first = 0
    while first < width:
        lmul = min(LARGEST_LMUL, (width - first) // lanes)
        lmul = 1 << (lmul.bit_length() - 1)
        lines += [f"SET_WIDE({lmul * lanes}, m{lmul});", *_Block(plan, width, first, lmul).lines()]
        first += lmul * lanes
    return lines


def _constants(plan: StagePlan) -> list[str]:
    lines = []
    if plan.half:
        # 1, or what was added to codes, as half precision has it in the register of a float.
        bits = 0xFFFF3C00 if plan.storage == "fp16" else 0xFFFF0000 + OFFSETS[plan.storage]
        lines += [f"const union {{ unsigned bits; float value; }} half = {{{bits:#x}u}};"]
    if plan.storage == "int8":
        lines += ["unsigned long low_byte = 0xff;", "KEEP(low_byte);"]
    return lines


class _Block:
    """The rows from `first` on that are one vector of `lmul` registers, for all k of a panel `width` rows wide."""

    def __init__(self, plan: StagePlan, width: int, first: int, lmul: int) -> None:
        self.plan, self.storage, self.width, self.first, self.lmul = plan, plan.storage, width, first, lmul
        self.per_word = PER_WORD.get(plan.storage, 1)

    def lines(self) -> list[str]:
        """All k, for int4 group after group."""
        plan, width, first = self.plan, self.width, self.first
        if self.storage != "int4":
            scale = f"LOAD_FLOATS({_SCALES}, from + {code_bytes(self.storage, plan.k, width) + 4 * first});"
            body = [f"const unsigned char *codes = from + {2 * first};", f"float *out = to + {first};"]
            body += [scale, *self._power_of_two()] if self.storage == "int8" else []
            full, left = divmod(plan.k, TOGETHER)
            turn = [*self._results(TOGETHER), f"codes += {2 * width * TOGETHER // self.per_word};"]
            body += loop("n", full, [*turn, f"out += {width * TOGETHER};"]) if full else []
            return ["{", *indented([*body, *self._results(left)]), "}"]
        lines, code, target = [], 2 * first, first
        for size, count in runs(groups_of(plan.k)):
            step = code_bytes("int4", size, width) + scale_bytes("int4", width)
            group = [
                f"const unsigned char *codes = {at('from', ('g', step, count), ('', code, 1))};",
                f"float *out = {at('to', ('g', size * width, count), ('', target, 1))};",
                f"LOAD_HALVES(v24, codes + {code_bytes('int4', size, width)});",
                *half_bits("v24", _SCALES),
                f"SCALE({_SCALES}, 0x1p112f);",
                *self._power_of_two(),
                *self._results(size),
            ]
            lines += [*loop("g", count, group)] if count > 1 else ["{", *indented(group), "}"]
            code, target = code + step * count, target + size * width * count
        return lines

    def _power_of_two(self) -> list[str]:
        """A code in half precision is 2^24 times smaller than itself."""
        return [f"SCALE({_SCALES}, 0x1p24f);"] if self.plan.half else []

    def _results(self, count: int) -> list[str]:
        """`count` results in their four steps, each of which is one result behind the one before."""
        narrow = half_lmul(self.lmul)
        lines = self._load(0, count) if count else []
        for turn in range(count + 3) if count else ():
            taken = self._taken(turn, count) if turn < count else []
            floats = self._float(turn - 1) if 0 <= turn - 1 < count else []
            # With half precision the conversion itself widens, so it stands where the vector type is still that of
            # halves.
            before, after = (floats, []) if self.plan.half else ([], floats)
            scaled = 0 <= turn - 2 < count and self.storage != "fp16"
            after += [f"SCALE_EACH({_WIDE[(turn - 2) % 4]}, {_SCALES});"] if scaled else []
            lines += [f"AS_HALF({narrow});", *taken, *before] if taken or before else []
            lines += [f"AS_WIDE(m{self.lmul});", *after] if after else []
            if 0 <= turn - 3 < count:
                lines += [f"STORE_FLOATS({_WIDE[(turn - 3) % 4]}, out + {(turn - 3) * self.width});"]
        return lines if not self.plan.half or not count else [*lines, f"AS_WIDE(m{self.lmul});"]

    def _load(self, unit: int, count: int) -> list[str]:
        """The load of a word, or of the bytes that are left; of fp16 to where fields lie."""
        place = unit * 2 * self.width
        if self.storage == "fp16":
            return [f"LOAD_HALVES({_FIELDS[unit % 4]}, codes + {place});"]
        if self._narrow(unit, count):
            return [f"LOAD_BYTES({_RAW[unit % 2]}, codes + {place - self.first});"]
        return [f"LOAD_HALVES({_RAW[unit % 2]}, codes + {place});"]

    def _narrow(self, unit: int, count: int) -> bool:
        return count - unit * self.per_word <= self.per_word // 2

    def _taken(self, number: int, count: int) -> list[str]:
        """The code of a result, by itself; and the load of the word after its own."""
        unit, part = divmod(number, self.per_word)
        more = part == 0 and (unit + 1) * self.per_word < count
        load = self._load(unit + 1, count) if more else []
        field, raw = _FIELDS[number % 4], _RAW[unit % 2]
        if self.storage == "fp16":
            return load
        if self._narrow(unit, count):
            lines = [f"EXTEND_2({field}, {raw});"]
            raw = field
        elif self.storage == "int8":
            return [*load, f"BITS_FROM({field}, {raw}, 8);" if part else f"BITS({field}, {raw}, low_byte);"]
        else:
            lines = []
        if self.storage == "int4":
            lines += [f"BITS_FROM({field}, {raw}, {4 * part});"] if part else []
            # The last nibble of a word has nothing above it, so it needs no mask.
            last = part == 3 or (part == 1 and raw == field)
            lines += [f"LOW_NIBBLE({field}, {field if part else raw});"] * (not last)
        return [*load, *lines]

    def _float(self, number: int) -> list[str]:
        """The code of a result as a float, less what was added to it."""
        wide, field = _WIDE[number % 4], _FIELDS[number % 4]
        if self.storage == "fp16":
            if self.plan.half:
                return [f"HALF_TIMES({wide}, {field}, half.value);"]
            return [*half_bits(field, wide), f"SCALE({wide}, 0x1p112f);"]
        if self.plan.half:
            return [f"HALF_LESS({wide}, {field}, half.value);"]
        bits = (1 << 23) + OFFSETS[self.storage]
        return [f"EXTEND_2({wide}, {field});", f"SET_BITS({wide}, 0x4b000000);", f"SUBTRACT({wide}, {bits}.0f);"]


def half_bits(raw: str, wide: str) -> list[str]:
    """Half precision bits where single precision has them, but for a factor of 2^112."""
    return [f"EXTEND_SIGN_2({wide}, {raw});", f"SHIFT_LEFT({wide}, 13);", f"MASK({wide}, 0x8fffe000);"]

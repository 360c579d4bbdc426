"""Short streams: few terms in few bits, multiplied in single precision, where rounding the state would cost more.

Half precision only widens: a code as a subnormal number loses, on its way to single precision, what made it unsigned,
so that nothing has to be known of the state, and no magnitude is too large. High nibbles of int4 are masked, not
shifted: their products are 16 times as large and have sums of their own. All terms are written one after the other. In
a turn some terms are widened, the next ones taken from their words, more loaded, and the first multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lrf_dse.codegen.microkernel import bounded
from lrf_dse.codegen.storage import OFFSETS, PER_WORD, code_bytes, groups_of
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.stream_code import alternating
from lrf_dse.codegen.stream_pass import CODE_BITS
from lrf_dse.codegen.text import half_constant, half_lmul, indented
from lrf_dse.codegen.tile import VECTOR_REGISTERS
from lrf_dse.tt.grid import GROUP

_NAMES = 16
"""Scalar registers that the elements of the state are loaded into, in turn."""
_MANY, _FEW = 8, 4
"""Terms of a turn, and where registers are scarce: setting the vector type twice a turn takes as long as some terms."""
_HIGH = 16


def terms_of(stream: Stream) -> int:
    """Terms of a turn."""
    return _FEW if stream.lmul > 2 or (stream.lmul == 2 and stream.plan.storage == "int4") else _MANY


@dataclass(frozen=True)
class _Registers:
    """Vector registers. `temps` are the widened terms of a turn, `fields` the codes of the next one."""

    sums: tuple[str, ...]
    temps: tuple[str, ...]
    fields: tuple[str, ...]
    raw: tuple[str, ...]
    part: str
    total: str
    scale: str

    @staticmethod
    def of(stream: Stream) -> _Registers:
        """Raises ValueError if they are too few."""
        taken, terms = 0, terms_of(stream)

        def take(size: float) -> str:
            nonlocal taken
            size = max(1, int(size))
            first = -(-taken // size) * size
            taken = first + size
            return f"v{first}"

        lmul, int4 = stream.lmul, stream.plan.storage == "int4"
        sums = tuple(take(lmul) for _ in range(stream.chains))
        temps = tuple(take(lmul) for _ in range(terms))
        total, scale = (take(lmul), take(lmul)) if int4 else ("", temps[0])
        fields = tuple(take(lmul / 2) for _ in range(terms))
        # fp16 needs no words: its numbers are loaded to where codes are taken to.
        loaded = 0 if stream.plan.storage == "fp16" else terms // stream.per_unit
        raw = tuple(take(lmul / 2) for _ in range(loaded))
        found = _Registers(sums, temps, fields, raw, take(lmul / 2) if int4 else "", total, scale)
        if taken > VECTOR_REGISTERS:
            raise ValueError(f"a short stream of {stream.plan.storage} with {lmul} registers a vector does not fit")
        return found


def require_fits(stream: Stream) -> None:
    """Raise ValueError if the registers are too few."""
    _Registers.of(stream)


def short_stream(stream: Stream, name: str) -> list[str]:
    """The C function NAME of a short stream."""
    plan, width = stream.plan, stream.run.first.width
    parameters = ["const float *s", "const unsigned char *from", "float *out"]
    parameters += ["const float *bias"] if plan.has_bias else []
    size = plan.packed.panel_bytes(width)
    step = ["from", f"{size}", "out", f"{width}"] + (["bias", f"{width}"] if plan.has_bias else [])
    steps = ", ".join(f"{pointer} += {by}" for pointer, by in zip(step[::2], step[1::2], strict=True))
    return [
        f"/* Panels of {stream.run.first.rows} rows, {plan.k} terms each, in single precision. */",
        f"static void {name}({', '.join([*parameters, 'size_t count'])})",
        "{",
        *indented(
            [
                *_constants(stream),
                f"float {', '.join(f'f{number}' for number in range(min(_NAMES, plan.k)))};",
                f"SET_WIDE({stream.run.first.rows}, m{stream.lmul});",
                f"for (; count; count--, {steps}) {{",
                *indented(_Panel(stream).lines()),
                "}",
            ]
        ),
        "}",
    ]


def _constants(stream: Stream) -> list[str]:
    """What codes lose, or 1 for half precision, in registers of floats; masks."""
    # 0x3c00 is 1 in half precision: fp16 is multiplied by it, codes have their offset taken off.
    offset = OFFSETS.get(stream.plan.storage, 0x3C00)
    lines = [half_constant("low", offset)]
    if stream.plan.storage == "int4":
        lines += [half_constant("high", _HIGH * offset), half_constant("one", 0x3C00)]
        lines += ["unsigned long high_nibble = 0xf0;", "KEEP(high_nibble);"]
    return lines + (["unsigned long low_byte = 0xff;", "KEEP(low_byte);"] if stream.plan.storage == "int8" else [])


class _Panel:
    """One panel: turns of a few terms, each in its steps."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.plan, self.storage = stream, stream.plan, stream.plan.storage
        self.terms, self.registers = terms_of(stream), _Registers.of(stream)
        self.turns = [list(range(k, min(k + self.terms, self.plan.k))) for k in range(0, self.plan.k, self.terms)]

    def lines(self) -> list[str]:
        """All turns: one widened, the next one taken, the one after it loaded, and the first multiplied."""
        narrow = f"AS_HALF({half_lmul(self.stream.lmul)});"
        wide = f"AS_WIDE(m{self.stream.lmul});"
        lines = [narrow, *self._load(0), *self._scalars(0), *self._taken(0), *self._load(1)]
        for number in range(len(self.turns)):
            lines += [narrow] if number else []
            # Three turns are under way: this one widens, the next one takes its codes from words, the one after it
            # loads.
            others = alternating(self._scalars(number + 1), [*self._taken(number + 1), *self._load(number + 2)])
            lines += alternating(others, self._widened(number))
            lines += [wide, *self._products(number), *self._end_of_group(number)]
        return [*lines, *self._finished()]

    def _turn(self, number: int) -> list[int]:
        return self.turns[number] if number < len(self.turns) else []

    def _units(self, number: int) -> Iterator[tuple[int, list[int]]]:
        """The words of a turn, each with its terms."""
        per_word = self.stream.per_unit
        terms = self._turn(number)
        for start in range(0, len(terms), per_word):
            yield terms[start] // per_word, terms[start : start + per_word]

    def _at(self, unit: int) -> str:
        """Where a word lies; after every group of int4 there are its scales."""
        width, storage = self.stream.run.first.width, self.storage
        place = 2 * width * unit
        if storage == "int4":
            group, within = divmod(unit, GROUP // PER_WORD["int4"])
            place = group * self.stream.group_bytes + 2 * width * within
        return f"from + {place}"

    def _raw(self, unit: int) -> str:
        return self.registers.raw[unit % len(self.registers.raw)]

    def _load(self, number: int) -> list[str]:
        if self.storage == "fp16":
            return []  # taking a number is loading it
        return [
            f"LOAD_{'BYTES' if self.stream.narrow(unit) else 'HALVES'}({self._raw(unit)}, {self._at(unit)});"
            for unit, _ in self._units(number)
        ]

    def _scalars(self, number: int) -> list[str]:
        return [f"LOAD_SCALAR(f{k % _NAMES}, s + {k});" for k in self._turn(number)]

    def _taken(self, number: int) -> list[str]:
        """The codes of a turn by themselves, in lanes of 16 bits."""
        lines: list[str] = []
        for unit, terms in self._units(number):
            fields = [self.registers.fields[k % self.terms] for k in terms]
            if self.storage == "fp16":
                lines += [f"LOAD_HALVES({fields[0]}, {self._at(unit)});"]
            else:
                raw, is_bytes = self._raw(unit), self.stream.narrow(unit)
                lines += (_of_int8 if self.storage == "int8" else self._of_int4)(raw, fields, is_bytes=is_bytes)
        return lines

    def _of_int4(self, raw: str, fields: list[str], *, is_bytes: bool) -> list[str]:
        part = self.registers.part
        lines, word = [], raw
        if is_bytes:
            lines, word = [f"EXTEND_2({part}, {raw});"], part
        lines += [f"LOW_NIBBLE({fields[0]}, {word});"]
        lines += [f"BITS({one}, {word}, high_nibble);" for one in fields[1:2]]
        if len(fields) > 2:
            lines += [f"BITS_FROM({part}, {raw}, 8);", f"LOW_NIBBLE({fields[2]}, {part});"]
            lines += [f"BITS({one}, {part}, high_nibble);" for one in fields[3:]]
        return lines

    def _widened(self, number: int) -> list[str]:
        """The codes of a turn in single precision, without what made them unsigned."""
        temps, lines = self.registers.temps, []
        for k in self._turn(number):
            what = "HALF_TIMES" if self.storage == "fp16" else "HALF_LESS"
            less = "high" if self.storage == "int4" and k % 2 else "low"
            lines += [f"{what}({temps[k % self.terms]}, {self.registers.fields[k % self.terms]}, {less}.value);"]
        return lines

    def _products(self, number: int) -> list[str]:
        stream, lines = self.stream, []
        for k in self._turn(number):
            place = k % stream.group_terms
            name = "MULTIPLY" if place < stream.chains else "MULTIPLY_ADD"
            vector = self.registers.temps[k % self.terms]
            lines += [f"{name}({self.registers.sums[place % stream.chains]}, f{k % _NAMES}, {vector});"]
        return lines

    def _end_of_group(self, number: int) -> list[str]:
        """After the last term of a group of int4: its sums, times its scales, to the total."""
        last = self.turns[number][-1]
        if self.storage != "int4" or not (last % GROUP == GROUP - 1 or last == self.plan.k - 1):
            return []
        group, registers = last // GROUP, self.registers
        size, width = groups_of(self.plan.k)[group], self.stream.run.first.width
        live = list(registers.sums[:size])
        at = f"from + {group * self.stream.group_bytes + code_bytes('int4', size, width)}"
        field = registers.part
        lines = [f"LOAD_HALVES({field}, {at});", f"AS_HALF({half_lmul(self.stream.lmul)});"]
        lines += [f"HALF_TIMES({registers.scale}, {field}, one.value);", f"AS_WIDE(m{self.stream.lmul});"]
        lines += [f"ADD({one}, {other});" for one, other in zip(live, live[2:], strict=False)]
        # High nibbles are 16 times too large.
        lines += [f"MULTIPLY_ADD({live[0]}, 0x1p-4f, {live[1]});"] if len(live) > 1 else []
        name = "MULTIPLY_ADD_EACH" if group else "TIMES_EACH"
        return [*lines, f"{name}({registers.total}, {registers.scale}, {live[0]});"]

    def _finished(self) -> list[str]:
        registers, plan, width = self.registers, self.plan, self.stream.run.first.width
        live = list(registers.sums[: plan.k])
        result = live[0]
        lines = [f"ADD({result}, {one});" for one in live[1:]]
        if self.storage == "int4":
            lines, result = [], registers.total
        if self.storage == "int8":
            lines += [f"LOAD_FLOATS({registers.scale}, from + {code_bytes('int8', plan.k, width)});"]
            lines += [f"SCALE_EACH({result}, {registers.scale});"]
        lines += [f"SCALE({result}, 0x1p{CODE_BITS}f);"] if self.storage != "fp16" else []
        spare = registers.temps[1]
        lines += [f"LOAD_FLOATS({spare}, bias);", f"ADD({result}, {spare});"] if plan.has_bias else []
        return [*lines, *bounded(plan.finish, [result]), f"STORE_FLOATS({result}, out);"]


def _of_int8(raw: str, fields: list[str], *, is_bytes: bool) -> list[str]:
    if is_bytes:
        return [f"EXTEND_2({fields[0]}, {raw});"]
    return [f"BITS({fields[0]}, {raw}, low_byte);", *(f"BITS_FROM({one}, {raw}, 8);" for one in fields[1:])]

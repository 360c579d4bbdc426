"""The C of a stream, instruction after instruction.

The next unit is widened before the products of this one, loads are a ring of registers ahead, and where the ring comes
round with the panel it goes on into the next panel without a break.

With half precision, codes need nothing but zero extension: an unsigned code is a subnormal number, code x 2^-24. What
was added to make codes unsigned is taken off each sum at the end (lrf_dse/codegen/stream_state.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from lrf_dse.codegen.microkernel import bounded
from lrf_dse.codegen.plan import WORK_HEAD
from lrf_dse.codegen.storage import OFFSETS, code_bytes, groups_of, scale_bytes
from lrf_dse.codegen.stream import DEEP, NAMES, ROUNDED, UNROLLED, Stream
from lrf_dse.codegen.text import at, indented
from lrf_dse.tt.grid import GROUP

MACROS = """\
/* Streams. */
#define LOAD_HALF(f, p) __asm__ volatile("flh %0, %1" : "=f"(f) : "m"(*(p)))
#define HALF_MULTIPLY(c, f, b) __asm__ volatile("vfwmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define HALF_MULTIPLY_ADD(c, f, b) __asm__ volatile("vfwmacc.vf " #c ", %0, " #b ::"f"(f) : #c)
#define MULTIPLY_ADD_EACH(c, a, b) __asm__ volatile("vfmacc.vv " #c ", " #a ", " #b ::: #c)
#define TAKE_OFF(c, f, b) __asm__ volatile("vfnmsac.vf " #c ", %0, " #b ::"f"(f) : #c)
#define ROUND(f) __asm__ volatile("fcvt.h.s %0, %0" : "+f"(f))
#define HIGH_BITS(c, b) __asm__ volatile("vand.vx " #c ", " #b ", %0" ::"r"(0xf0L) : #c)
#define CLEAR(c) __asm__ volatile("vmv.v.i " #c ", 0" ::: #c)
"""


def alternating(scalars: Iterable[str], vectors: Iterable[str]) -> list[str]:
    """One of each in turn: two scalar operations that follow each other wait for the same pipe."""
    return [line for pair in zip_longest(vectors, scalars) for line in pair if line is not None]


_SCALES_AT = 3
"""Scales of a group are loaded with its first unit and widened after this one: a product would wait for the load."""


def stream_code(stream: Stream, name: str) -> list[str]:
    """The C function NAME of `stream`."""
    return _Writer(stream).function(name)


class _Writer:
    """Writes one stream, instruction after instruction; `x_base` is how many elements the pointer x has passed."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.plan, self.registers = stream, stream.plan, stream.registers
        self.x_base = 0

    def function(self, name: str) -> list[str]:
        """The C function."""
        stream, plan = self.stream, self.plan
        kind = "unsigned short" if stream.half and not stream.rounds else "float"
        parameters = [f"const {kind} *x0", "const unsigned char *panel", "float *out"]
        parameters += ["const float *bias"] if plan.has_bias else []
        parameters += ["const float *work"] if stream.half else []
        names = plan.k if stream.resident else NAMES
        head = [
            f"float {', '.join(f'f{number}' for number in range(names))};",
            f"const {kind} *x = x0;",
            "const unsigned char *p = panel;",
        ]
        if stream.half:
            head += ["const float factor = work[0];"]
            head += ["const float taken = work[1];"] if plan.storage == "int8" else []
            head += ["const union { unsigned bits; float value; } one = {0xffff3c00u};"] * (plan.storage == "int4")
        if not stream.resident:
            head += ["(void)x;"]
        else:
            head += [self._load_x(k) for k in range(plan.k)]
        head += [f"SET_WIDE({stream.run.first.rows}, m{stream.lmul});", *self._narrow()]
        head += [line for unit in range(self.registers.ring) for line in self._load(unit)] if stream.crosses else []
        rows = stream.run.first
        return [
            f"/* Panels of {rows.rows} rows, {stream.units} vectors of codes each. */",
            f"static void {name}({', '.join([*parameters, 'size_t count'])})",
            "{",
            *indented([*head, "for (size_t left = count - 1;; left--) {", *indented(self._panel()), "}"]),
            "}",
        ]

    def _panel(self) -> list[str]:
        stream, plan, ring = self.stream, self.plan, self.registers.ring
        size = plan.packed.panel_bytes(stream.run.first.width)
        lines = [f"const unsigned char *next = left ? panel + {size} : panel;"]
        if plan.storage == "int4":
            lines += ["const unsigned char *codes = panel;"]
            lines += [f"const float *sums = work + {WORK_HEAD};"] if stream.half else []
            lines += [f"CLEAR({self.registers.total});"] if not stream.half else []
            lines += [*self._wide(), f"CLEAR({self.registers.total});", *self._narrow()] if stream.half else []
        if not stream.resident:
            lines += ["x = x0;", *(self._load_x(k) for k in range(stream.lead))]
            lines += [line for k in range(-ROUNDED, 0) if stream.rounds for line in self._rounding(k)]
        if not stream.crosses:
            lines += ["p = panel;", *(line for unit in range(ring) for line in self._load(unit))]
        if stream.nibbles_apart:
            lines += [line for unit in range(min(2, stream.units)) for line in self._extended(unit)]
            lines += [self._nibble("LOW", 0), self._nibble("HIGH", 0)]
        elif len(self.registers.temps) == DEEP:
            done = [(unit, step) for unit in range(min(DEEP - 1, stream.units)) for step in range(DEEP - 1 - unit)]
            lines += [line for unit, step in done for line in self._step(unit, step)]
        elif len(self.registers.temps) == 2:
            lines += self._widened(0)
        lines += self._units()
        lines += [*self._finish(), "if (!left) break;", "panel = next;", f"out += {stream.run.first.width};"]
        return lines + ([f"bias += {stream.run.first.width};"] if plan.has_bias else [])

    def _units(self) -> list[str]:
        """All units of a panel: some before the loop, its turns, and what is left."""
        stream, ring = self.stream, self.registers.ring
        self.x_base = 0
        first = 0 if stream.per_unit == 2 else stream.chains
        turn = stream.turn
        room = min(stream.units - DEEP - ring, (stream.plan.k - stream.lead) // stream.per_unit)
        turns = 0 if stream.units <= UNROLLED else max(0, (room - first) // turn)
        if turns < 2:
            return [line for unit in range(stream.units) for line in self._unit(unit)]
        lines = [line for unit in range(first) for line in self._unit(unit)]
        body = [line for unit in range(first, first + turn) for line in self._unit(unit, looping=True)]
        step = turn * stream.per_unit
        body += [] if stream.resident else [f"x += {step};"]
        lines += [f"for (size_t turn = 0; turn < {turns}; turn++) {{", *indented(body), "}"]
        self.x_base = turns * step
        return lines + [line for unit in range(first + turns * turn, stream.units) for line in self._unit(unit)]

    def _unit(self, unit: int, *, looping: bool = False) -> list[str]:
        """One unit: what comes after it is widened and loaded between its products."""
        stream, registers = self.stream, self.registers
        sets = len(registers.temps)
        if stream.nibbles_apart:
            lines = self._unit_of_nibbles(unit)
            return [*lines, *self._beside(unit), *self._ended(unit)]
        if sets == 1:
            lines = self._widened(unit)
            others: list[str] = []
        else:
            lines = []
            others = self._widened(unit + 1) if sets == 2 and unit + 1 < stream.units else []
            if sets == DEEP:
                later = [(unit + ahead, DEEP - 1 - ahead) for ahead in range(1, DEEP) if unit + ahead < stream.units]
                others = [line for one, step in later for line in self._step(one, step)]
        vectors = registers.temps[unit % sets] if sets else (registers.raw[unit % registers.ring],)
        for part, vector in enumerate(vectors):
            k = unit * stream.per_unit + part
            if k < stream.plan.k:
                lines += [self._product(unit, part, vector), *alternating(self._later_x(k), others)]
                others = []
        lines += others
        lines += self._load(unit + registers.ring) if not sets else []
        return [*lines, *self._beside(unit), *self._ended(unit)]

    def _unit_of_nibbles(self, unit: int) -> list[str]:
        """Two products of int4, and between them the nibbles of the next unit and the bytes of the one after it.

        In this order no product waits for its nibbles: a shift takes as long as a product, the others half of it.
        """
        stream, (temps,) = self.stream, self.registers.temps
        after, later = unit + 1 < stream.units, unit + 2 < stream.units
        k = 2 * unit
        others = [self._nibble("LOW", unit + 1)] if after else []
        others += self._extended(unit + 2) if later else []
        lines = [self._product(unit, 0, temps[0]), *alternating(self._later_x(k), others)]
        others = [self._nibble("HIGH", unit + 1)] if after else []
        if k + 1 < self.plan.k:
            lines += [self._product(unit, 1, temps[1]), *alternating(self._later_x(k + 1), others)]
            others = []
        return lines + others

    def _extended(self, unit: int) -> list[str]:
        """The bytes of a unit, zero extended, and the load of the unit that takes their place in the ring."""
        raw = self.registers.raw[unit % self.registers.ring]
        wide = self.registers.temps[0][2 + unit % 2]
        return [f"EXTEND_2({wide}, {raw});", *self._load(unit + self.registers.ring)]

    def _nibble(self, which: str, unit: int) -> str:
        low, high, *wide = self.registers.temps[0]
        if which == "HIGH":
            return f"HIGH_BITS({high}, {wide[unit % 2]});"
        return f"LOW_NIBBLE({low}, {wide[unit % 2]});"

    def _ended(self, unit: int) -> list[str]:
        """What is done after the last unit of a group of int4."""
        stream = self.stream
        ends = unit % stream.group_units == stream.group_units - 1 or unit == stream.units - 1
        return self._group_end(unit) if stream.per_unit == 2 and ends else []

    def _beside(self, unit: int) -> list[str]:
        """What the end needs, loaded early: scales, the bias."""
        registers, plan = self.registers, self.plan
        lines = []
        if plan.storage == "int4":
            group, place = divmod(unit, self.stream.group_units)
            if place == 0:
                after = code_bytes("int4", groups_of(plan.k)[group], self.stream.run.first.width)
                lines += [f"LOAD_HALVES({registers.narrow_scale}, codes + {after});"]
            if place == min(_SCALES_AT, self.stream.units - 1 - group * self.stream.group_units):
                lines += self._half_scale()
        if unit == max(0, self.stream.units - 3):
            if plan.storage == "int8":
                offset = code_bytes("int8", plan.k, self.stream.run.first.width)
                lines += [f"LOAD_FLOATS({registers.scale}, panel + {offset});"]
            lines += [f"LOAD_FLOATS({registers.bias}, bias);"] if plan.has_bias else []
        return lines

    def _half_scale(self) -> list[str]:
        registers = self.registers
        if self.stream.half:
            return [f"HALF_TIMES({registers.scale}, {registers.narrow_scale}, one.value);"]
        wide = registers.scale
        lines = [f"EXTEND_SIGN_2({wide}, {registers.narrow_scale});", f"SHIFT_LEFT({wide}, 13);"]
        return [*lines, f"MASK({wide}, 0x8fffe000);", f"SCALE({wide}, 0x1p112f);"]

    def _group_end(self, unit: int) -> list[str]:
        """The sums of a group, times its scales, are added to those of the groups before."""
        registers = self.registers
        first, *others = self._live(unit)
        # In half precision the high nibbles were not shifted down, which takes twice as long as to mask them.
        add = "MULTIPLY_ADD({}, 0x1p-4f, {});" if self.stream.nibbles_apart else "ADD({}, {});"
        lines = [add.format(first, other) for other in others]
        lines += [f"MULTIPLY_ADD_EACH({registers.total}, {registers.scale}, {first});"]
        if self.stream.half:
            taken = f"TAKE_OFF({registers.total}, *sums, {registers.scale});"
            lines = [*self._wide(), taken, *lines, *self._narrow(), "sums += 1;"]
        return [*lines, f"codes += {self._group_bytes};"]

    def _live(self, unit: int) -> tuple[str, ...]:
        """The sums that a group has used: one of one element has no second."""
        left = self.plan.k - unit // self.stream.group_units * GROUP
        return self.registers.sums[:left]

    @property
    def _group_bytes(self) -> int:
        """Bytes of a whole group, its scales included."""
        width = self.stream.run.first.width
        return code_bytes("int4", GROUP, width) + scale_bytes("int4", width)

    def _step(self, unit: int, step: int) -> list[str]:
        """One of three steps of widening a unit to single precision; the first one frees its place in the ring."""
        registers, storage = self.registers, self.plan.storage
        wide, raw = registers.temps[unit % DEEP][0], registers.raw[unit % registers.ring]
        if step == 0:
            extended = f"EXTEND_SIGN_2({wide}, {raw});" if storage == "fp16" else f"EXTEND_4({wide}, {raw});"
            return [extended, *self._load(unit + registers.ring)]
        if storage == "fp16":
            moved = [f"SHIFT_LEFT({wide}, 13);"], [f"MASK({wide}, 0x8fffe000);", f"SCALE({wide}, 0x1p112f);"]
            return moved[step - 1]
        bits = (1 << 23) + OFFSETS[storage]
        return [f"SET_BITS({wide}, 0x4b000000);" if step == 1 else f"SUBTRACT({wide}, {bits}.0f);"]

    def _widened(self, unit: int) -> list[str]:
        """Widen a unit, and load the one that takes its place in the ring."""
        stream, registers = self.stream, self.registers
        raw, temps = registers.raw[unit % registers.ring], registers.temps[unit % len(registers.temps)]
        storage, first = self.plan.storage, temps[0]
        extend = "EXTEND_2" if stream.half else "EXTEND_4"
        if storage == "fp16":
            lines = [f"EXTEND_SIGN_2({first}, {raw});", f"SHIFT_LEFT({first}, 13);", f"MASK({first}, 0x8fffe000);"]
            return [*lines, f"SCALE({first}, 0x1p112f);", *self._load(unit + registers.ring)]
        lines = [f"{extend}({first}, {raw});"]
        if storage == "int4":
            lines += [f"HIGH_NIBBLE({temps[1]}, {first});", f"LOW_NIBBLE({first}, {first});"]
        lines += self._load(unit + registers.ring)
        if not stream.half:
            lines += [f"SET_BITS({temp}, 0x4b000000);" for temp in temps]
            lines += [f"SUBTRACT({temp}, {(1 << 23) + OFFSETS[storage]}.0f);" for temp in temps]
        return lines

    def _load(self, unit: int) -> list[str]:
        """The load of a unit, beyond the panel that of the next one, and the step of the pointer."""
        stream, registers = self.stream, self.registers
        lines = []
        if unit >= stream.units:
            if not stream.crosses:
                return []
            lines = ["p = next;"] if unit == stream.units else []
            unit -= stream.units
        kind = {"fp32": "FLOATS", "fp16": "HALVES"}.get(self.plan.storage, "BYTES")
        step = stream.unit_bytes
        if unit % stream.group_units == stream.group_units - 1:
            step += self._group_bytes - stream.group_units * step if stream.per_unit == 2 else 0
        return [*lines, f"LOAD_{kind}({registers.raw[unit % registers.ring]}, p);", f"STEP(p, {step});"]

    def _product(self, unit: int, part: int, vector: str) -> str:
        stream = self.stream
        chain = part if stream.per_unit == 2 else unit % stream.chains
        starts = unit % stream.group_units == 0 if stream.per_unit == 2 else unit < stream.chains
        name = ("HALF_" if stream.half else "") + ("MULTIPLY" if starts else "MULTIPLY_ADD")
        scalar = unit * stream.per_unit + part
        return f"{name}({self.registers.sums[chain]}, f{scalar if stream.resident else scalar % NAMES}, {vector});"

    def _later_x(self, k: int) -> Iterator[str]:
        if not self.stream.resident and k + self.stream.lead < self.plan.k:
            yield self._load_x(k + self.stream.lead)
        if self.stream.rounds:
            yield from self._rounding(k)

    def _rounding(self, k: int) -> Iterator[str]:
        """Beside product k: a later scalar is rounded."""
        if 0 <= k + ROUNDED < self.plan.k:
            yield f"ROUND(f{(k + ROUNDED) % NAMES});"

    def _load_x(self, k: int) -> str:
        name = f"f{k if self.stream.resident else k % NAMES}"
        half = self.stream.half and not self.stream.rounds
        return f"LOAD_{'HALF' if half else 'SCALAR'}({name}, {at('x', ('', k - self.x_base, 1))});"

    def _narrow(self) -> list[str]:
        """Half precision from here on, where the stream computes in it."""
        lmul = self.stream.lmul
        return [f"AS_HALF({f'm{lmul // 2}' if lmul > 1 else 'mf2'});"] if self.stream.half else []

    def _wide(self) -> list[str]:
        return [f"AS_WIDE(m{self.stream.lmul});"] if self.stream.half else []

    def _finish(self) -> list[str]:
        """The sums of a panel to what is stored."""
        stream, registers, storage = self.stream, self.registers, self.plan.storage
        sums = [registers.total] if storage == "int4" else list(registers.sums)
        result = registers.bias or sums[0]
        lines = self._wide()
        scaled = storage == "int8"
        if scaled and stream.half:
            lines += [f"SCALE({registers.scale}, factor);"]
        if registers.bias:
            if scaled:
                lines += [f"TAKE_OFF({result}, taken, {registers.scale});"] * stream.half
                lines += [f"MULTIPLY_ADD_EACH({result}, {registers.scale}, {one});" for one in sums]
            elif stream.half:
                lines += [f"MULTIPLY_ADD({result}, factor, {one});" for one in sums]
            else:
                lines += [f"ADD({result}, {one});" for one in sums]
        else:
            lines += [f"ADD({result}, {one});" for one in sums[1:]]
            lines += [f"SUBTRACT({result}, taken);"] * (scaled and stream.half)
            lines += [f"SCALE_EACH({result}, {registers.scale});"] * scaled
            lines += [f"SCALE({result}, factor);"] * (stream.half and not scaled)
        lines += bounded(self.plan.finish, [result])
        return [*lines, f"STORE_FLOATS({result}, out);", *self._narrow()]

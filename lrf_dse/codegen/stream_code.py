"""The C of a stream, instruction after instruction.

The next unit is widened between the products of this one: a vector takes the place of one that was just multiplied.
Loads are a ring of registers ahead, and where the ring comes round with the panel it goes on into the next panel
without a break.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from lrf_dse.codegen.plan import WORK_HEAD
from lrf_dse.codegen.stream import DEEP, UNROLLED, Stream
from lrf_dse.codegen.stream_ends import at_group_end, beside, finished, narrow, started
from lrf_dse.codegen.stream_widening import CONSTANTS, second_half, widening, widening_steps
from lrf_dse.codegen.text import at, indented

MACROS = """\
/* Streams. */
#define LOAD_HALF(f, p) __asm__ volatile("flh %0, %1" : "=f"(f) : "m"(*(p)))
#define HALF_MULTIPLY(c, f, b) __asm__ volatile("vfwmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define HALF_MULTIPLY_ADD(c, f, b) __asm__ volatile("vfwmacc.vf " #c ", %0, " #b ::"f"(f) : #c)
#define MULTIPLY_ADD_EACH(c, a, b) __asm__ volatile("vfmacc.vv " #c ", " #a ", " #b ::: #c)
#define TAKE_OFF(c, f, b) __asm__ volatile("vfnmsac.vf " #c ", %0, " #b ::"f"(f) : #c)
#define TIMES(c, f, b) __asm__ volatile("vfmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define TIMES_EACH(c, a, b) __asm__ volatile("vfmul.vv " #c ", " #a ", " #b ::: #c)
#define CLEAR(c) __asm__ volatile("vmv.v.i " #c ", 0" ::: #c)
"""


def alternating(scalars: Iterable[str], vectors: Iterable[str]) -> list[str]:
    """One of each in turn: two scalar operations that follow each other wait for the same pipe."""
    return [line for pair in zip_longest(vectors, scalars) for line in pair if line is not None]


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
        kind = "unsigned short" if stream.half else "float"
        parameters = [f"const {kind} *x0", "const unsigned char *panel", "float *out"]
        parameters += ["const float *bias"] if plan.has_bias else []
        parameters += ["const float *work"] if stream.half else []
        names = plan.k if stream.resident else stream.names
        head = [
            f"float {', '.join(f'f{number}' for number in range(names))};",
            f"const {kind} *x = x0;",
            "const unsigned char *p = panel;",
            *self._constants(),
        ]
        if not stream.resident:
            head += ["(void)x;"]
        else:
            head += [self._load_x(k) for k in range(plan.k)]
        head += [f"SET_WIDE({stream.run.first.rows}, m{stream.lmul});", *narrow(stream)]
        if stream.crosses:
            head += [line for unit in range(self.registers.ring) for line in self._load(unit)]
            head += self._ahead()
        # `panel`, `out` and `bias` step from panel to panel; `count` is how many there are.
        rows = stream.run.first
        return [
            f"/* Panels of {rows.rows} rows, {stream.units} vectors of codes each. */",
            f"static void {name}({', '.join([*parameters, 'size_t count'])})",
            "{",
            *indented([*head, "for (size_t left = count - 1;; left--) {", *indented(self._panel()), "}"]),
            "}",
        ]

    def _constants(self) -> list[str]:
        """What the loops need in scalar registers: factors of the state, and masks of codes."""
        stream, storage = self.stream, self.plan.storage
        lines = []
        if stream.half:
            lines += ["const float factor = work[0];"]
            lines += ["const float taken = work[1];"] if storage == "int8" else []
            if storage == "int4":
                # 0x3c00 is 1 in half precision. In a register of floats it is NaN-boxed: all bits above it are 1
                # (RISC-V unprivileged ISA manual, NaN boxing of narrower values).
                lines += ["const union { unsigned bits; float value; } one = {0xffff3c00u};"]
                lines += [f"const float less = -work[{WORK_HEAD}];"] if stream.groups == 1 else []
                lines += ["const float inverse = work[2];"] if self.plan.has_bias else []
        return lines + CONSTANTS.get(storage, []) * stream.widens

    def _panel(self) -> list[str]:
        stream, plan, ring = self.stream, self.plan, self.registers.ring
        size = plan.packed.panel_bytes(stream.run.first.width)
        lines = [f"const unsigned char *next = left ? panel + {size} : panel;", *started(stream)]
        if not stream.resident:
            lines += ["x = x0;", *(self._load_x(k) for k in range(stream.lead))]
        if not stream.crosses:
            lines += ["p = panel;", *(line for unit in range(ring) for line in self._load(unit))]
            lines += self._ahead()
        lines += self._units()
        lines += [*finished(stream), "if (!left) break;", "panel = next;", f"out += {stream.run.first.width};"]
        return lines + ([f"bias += {stream.run.first.width};"] if plan.has_bias else [])

    def _units(self) -> list[str]:
        """All units of a panel: some before the loop, its turns, and what is left."""
        stream, ring = self.stream, self.registers.ring
        self.x_base = 0
        # The first product of each sum multiplies without adding, so these units stand before the loop.
        first = -(-stream.chains // stream.per_unit)
        if self.plan.storage == "int4":
            first = stream.group_units if stream.sum_sets > 1 else 0
        turn = stream.turn
        # A turn must not load beyond the panel: it looks ahead by the ring, by what is widened early, and by the
        # scalars' lead.
        room = min(stream.units - 1 - ring - self.registers.sets, (stream.plan.k - stream.lead) // stream.per_unit)
        turns = 0 if stream.units <= UNROLLED else max(0, (room - first) // turn)
        # One turn is no loop.
        if turns < 2:
            return [line for unit in range(stream.units) for line in self._unit(unit)]
        lines = [line for unit in range(first) for line in self._unit(unit)]
        body = [line for unit in range(first, first + turn) for line in self._unit(unit)]
        step = turn * stream.per_unit
        body += [] if stream.resident else [f"x += {step};"]
        lines += [f"for (size_t turn = 0; turn < {turns}; turn++) {{", *indented(body), "}"]
        self.x_base = turns * step
        return lines + [line for unit in range(first + turns * turn, stream.units) for line in self._unit(unit)]

    def _unit(self, unit: int) -> list[str]:
        """One unit: what comes after it is widened and loaded between its products."""
        stream, registers = self.stream, self.registers
        if stream.widens:
            others = self._later(unit)
            vectors = registers.temps[unit % registers.sets]
        else:
            others = []
            vectors = (registers.raw[unit % registers.ring],)
        lines = []
        for part, vector in enumerate(vectors):
            between = others[part] if others else []
            k = unit * stream.per_unit + part
            if k < stream.plan.k:
                lines += [self._product(k, vector), *alternating(self._later_x(k), between)]
            else:
                lines += between
            if stream.in_halves and part == 1 and not stream.narrow(unit):
                lines += second_half(registers.part, vectors)
        lines += [] if stream.widens else self._load(unit + registers.ring)
        return [*lines, *beside(stream, unit), *at_group_end(stream, unit)]

    def _ahead(self) -> list[str]:
        """The first units, widened before the first product."""
        sets, units = self.registers.sets, self.stream.units
        if sets == DEEP:
            # The state of a pipeline that has run for a while: of the units ahead, the nearest has all its steps but
            # one behind it.
            done = [(unit, step) for unit in range(min(sets - 1, units)) for step in range(sets - 1 - unit)]
            return [line for unit, step in done for line in self._steps(unit)[step]]
        each = range(min(sets, units))
        return [line for unit in each for part in self._widened(unit) for line in part]

    def _later(self, unit: int) -> list[list[str]]:
        """What is widened beside the products of a unit."""
        stream, sets = self.stream, self.registers.sets
        if sets < DEEP:
            return self._widened(unit + sets) if stream.crosses or unit + sets < stream.units else []
        ahead = [(unit + one, sets - 1 - one) for one in range(1, sets) if unit + one < stream.units]
        return [[line for one, step in ahead for line in self._steps(one)[step]], *([[]] * (stream.per_unit - 1))]

    def _widened(self, unit: int) -> list[list[str]]:
        """A unit widened, and the load of the one that takes its place in the ring."""
        if not self.stream.widens:
            return []
        return widening(self.stream, *self._between(unit), narrow=self.stream.narrow(unit % self.stream.units))

    def _steps(self, unit: int) -> list[list[str]]:
        """A unit widened in steps, and the load of the one that takes its place in the ring."""
        return widening_steps(self.stream, *self._between(unit), narrow=self.stream.narrow(unit))

    def _between(self, unit: int) -> tuple[str, Sequence[str], list[str]]:
        """The register of a unit in the ring, those of its widened vectors, and the load that follows in the ring."""
        registers = self.registers
        raw, temps = registers.raw[unit % registers.ring], registers.temps[unit % registers.sets]
        return raw, temps, self._load(unit + registers.ring)

    def _load(self, unit: int) -> list[str]:
        """The load of a unit, beyond the panel that of the next one, and the step of the pointer."""
        stream, registers = self.stream, self.registers
        lines = []
        if unit >= stream.units:
            if not stream.crosses:
                return []
            lines = ["p = next;"] if unit == stream.units else []
            unit -= stream.units
        kind = "BYTES" if stream.narrow(unit) else "FLOATS" if self.plan.storage == "fp32" else "HALVES"
        step = stream.unit_bytes
        if self.plan.storage == "int4" and unit % stream.group_units == stream.group_units - 1:
            # The last unit of a group steps over the scales that follow it.
            step += stream.group_bytes - stream.group_units * step
        return [*lines, f"LOAD_{kind}({registers.raw[unit % registers.ring]}, p);", f"STEP(p, {step});"]

    def _product(self, k: int, vector: str) -> str:
        stream = self.stream
        place = k % stream.group_terms
        # The first product of a sum sets it: no register is cleared.
        name = ("HALF_" if stream.half else "") + ("MULTIPLY" if place < stream.chains else "MULTIPLY_ADD")
        scalar = f"f{k if stream.resident else k % stream.names}"
        return f"{name}({stream.sums_of(k)[place % stream.chains]}, {scalar}, {vector});"

    def _later_x(self, k: int) -> Iterator[str]:
        if not self.stream.resident and k + self.stream.lead < self.plan.k:
            yield self._load_x(k + self.stream.lead)

    def _load_x(self, k: int) -> str:
        name = f"f{k if self.stream.resident else k % self.stream.names}"
        return f"LOAD_{'HALF' if self.stream.half else 'SCALAR'}({name}, {at('x', ('', k - self.x_base, 1))});"

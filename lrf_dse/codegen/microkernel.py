"""The innermost code: one tile of a stage, C [rows, one vector] = sum over k of scalars [rows] times one vector.

On an in-order core the order of instructions is the kernel. Every instruction is an asm statement of its own, because a
compiler moves loads next to their uses: scalars are loaded a few multiply-adds ahead, vectors one step of k ahead into
a ring of registers, both between the multiply-adds of the step before. The first step multiplies, so that nothing has
to be cleared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from lrf_dse.codegen.spec import Activation
from lrf_dse.codegen.text import at, indented
from lrf_dse.target import Target

VECTOR_REGISTERS = 32
_VARIABLE = re.compile(r"\b[bcf]\d+\b")
MOST_BUFFERS = 4
LOOP_INSTRUCTIONS = 36
"""Multiply-adds and loads that a loop should not exceed: about 128 bytes."""
_DEFAULT_LEAD = 4
"""Multiply-adds between a scalar's load and its use on a target whose latencies are not known."""

MACROS = """\
/* One instruction each, in the order written here: what overlaps on an in-order core is decided by this order. */
#define SET_VL(vl, lmul) __asm__ volatile("vsetvli x0, %0, e32, " #lmul ", ta, ma" ::"r"(vl))
#define LOAD_SCALAR(f, p) __asm__ volatile("flw %0, %1" : "=f"(f) : "m"(*(p)))
#define LOAD_VECTOR(v, p) __asm__ volatile("vle32.v %0, %1" : "=vr"(v) : "A"(*(p)))
#define LOAD_STRIDED(v, p, s) __asm__ volatile("vlse32.v %0, %1, %2" : "=vr"(v) : "A"(*(p)), "r"(s))
#define MULTIPLY(c, f, b) __asm__ volatile("vfmul.vf %0, %2, %1" : "=vr"(c) : "f"(f), "vr"(b))
#define MULTIPLY_ADD(c, f, b) __asm__ volatile("vfmacc.vf %0, %1, %2" : "+vr"(c) : "f"(f), "vr"(b))
#define ADD(c, v) __asm__ volatile("vfadd.vv %0, %0, %1" : "+vr"(c) : "vr"(v))
#define AT_LEAST(c, f) __asm__ volatile("vfmax.vf %0, %0, %1" : "+vr"(c) : "f"(f))
#define AT_MOST(c, f) __asm__ volatile("vfmin.vf %0, %0, %1" : "+vr"(c) : "f"(f))
#define STORE_VECTOR(c, p) __asm__ volatile("vse32.v %0, %1" ::"vr"(c), "A"(*(p)) : "memory")
#define STORE_STRIDED(c, p, s) __asm__ volatile("vsse32.v %0, %1, %2" ::"vr"(c), "A"(*(p)), "r"(s) : "memory")
"""


@dataclass(frozen=True)
class Finish:
    """What happens to a sum before it is stored, on the layer's last stage."""

    has_bias: bool
    activation: Activation | None


@dataclass(frozen=True)
class Tile:
    """One tile. Offsets and steps are in floats, from the pointers that its function gets.

    Scalar i of step k is at scalars[i] + k scalar_step, the step's vector at k vector_step; sum i goes to outputs[i],
    its elements out_stride apart, and its bias is at biases[i]. With `partial`, sums of earlier slices of K are added.
    """

    lmul: int
    k: int
    scalars: tuple[int, ...]
    scalar_step: int
    vector_step: int
    outputs: tuple[int, ...]
    out_stride: int
    biases: tuple[int, ...] = ()
    finish: Finish | None = None
    partial: bool = False

    @property
    def rows(self) -> int:
        """Sums at a time."""
        return len(self.scalars)

    @property
    def finishes(self) -> bool:
        """Whether more is done with a sum than to store it."""
        return self.partial or self.finish is not None

    @property
    def buffers(self) -> int:
        """Register groups in the ring of vectors, which are also the steps of k in one turn of the loop.

        A longer ring loads earlier, but the loop must stay short: a prefetcher tells streams apart by the addresses of
        their loads. (4096x4096 on X60: 76% of peak with four steps of six rows in 240 bytes, 93% with two in 120.)
        """
        free = VECTOR_REGISTERS // self.lmul - self.rows
        return max(2, min(MOST_BUFFERS, free, LOOP_INSTRUCTIONS // (2 * self.rows + 1)))


def arguments(tile: Tile) -> list[str]:
    """The parameters of the tile's function."""
    names = ["const float *a", "const float *b", "float *out", "size_t vl"]
    names += ["const float *bias"] if tile.finish and tile.finish.has_bias else []
    names += ["int first"] if tile.partial else []
    return names + (["int last"] if tile.partial and tile.finish else [])


def tile_function(name: str, tile: Tile, target: Target) -> list[str]:
    """The C function of `tile`."""
    body = [f"SET_VL(vl, m{tile.lmul});", *_sum(tile, _Latencies.of(tile, target))]
    if tile.finishes:
        body += [*_end(tile), *(_store(tile, row) for row in range(tile.rows))]
    return [
        f"/* {tile.rows} sums of {tile.k} terms each, in vectors of {tile.lmul} registers. */",
        f"static void {name}({', '.join(arguments(tile))})",
        "{",
        *indented([*_declarations(tile, body), *body]),
        "}",
    ]


def _declarations(tile: Tile, body: list[str]) -> list[str]:
    """The variables of `body`: b and c are vectors, f scalars."""
    names = sorted(set(_VARIABLE.findall("\n".join(body))), key=lambda name: (name[0], int(name[1:])))
    vectors = ", ".join(name for name in names if name[0] in "bc")
    return [f"vfloat32m{tile.lmul}_t {vectors};", f"float {', '.join(name for name in names if name[0] == 'f')};"]


@dataclass(frozen=True)
class _Latencies:
    """In multiply-adds: `lead` from a scalar's load to its use, `result` until a sum can be used again."""

    lead: int
    result: int

    @staticmethod
    def of(tile: Tile, target: Target) -> _Latencies:
        """The latencies of `target`, as far as the tile has as many multiply-adds and names for scalars."""
        lead = result = _DEFAULT_LEAD
        if target.timing:
            costs = target.timing.costs.cost
            index = tile.lmul.bit_length() - 1
            fma = costs["v_float_fma"]
            lead = int(-(-costs["float_load"].latency[0] // fma.busy[index])) + 1
            result = int(-(-fma.latency[index] // fma.busy[index]))
        return _Latencies(min(lead, tile.rows * min(tile.k, tile.buffers), tile.rows * tile.buffers - 1), result)


def _sum(tile: Tile, latencies: _Latencies) -> list[str]:
    """The sum over k: what must be loaded first, step 0, a loop, and the steps that load nothing beyond the end."""
    lead, ring = latencies.lead, tile.buffers
    turns = max(0, (tile.k - 1 - ring) // ring)
    lines = [_load_scalar(tile, *divmod(event, tile.rows), 0) for event in range(lead)]
    lines += [_load_vector(tile, step, 0) for step in range(min(ring - 1, tile.k))]
    lines += _steps(tile, range(1), lead)
    if turns:
        body = [
            *_steps(tile, range(1, 1 + ring), lead),
            f"a += {ring * tile.scalar_step};",
            f"b += {ring * tile.vector_step};",
        ]
        lines += [f"for (size_t turn = 0; turn < {turns}; turn++) {{", *indented(body), "}"]
    return lines + _last_steps(tile, 1 + turns * ring, latencies)


def _steps(tile: Tile, steps: range, lead: int) -> list[str]:
    """The multiply-adds of `steps`, one after the other, with the loads for later ones between them."""
    lines = []
    for step, row in product(steps, range(tile.rows)):
        later, later_row = divmod(step * tile.rows + row + lead, tile.rows)
        lines += [_load_scalar(tile, later, later_row, 0)] if later < tile.k else []
        lines += [_multiply_add(tile, step, row)]
        lines += [_load_vector(tile, step + tile.buffers - 1, 0)] if row == 0 and step + tile.buffers <= tile.k else []
    return lines


def _last_steps(tile: Tile, start: int, latencies: _Latencies) -> list[str]:
    """The steps from `start` on, after the pointers have moved on by all but the first of the steps before.

    In the last ones a few sums at a time run to their end, so that these are stored while the others go on.
    """
    passed = max(0, start - 1)
    split = max(start, tile.k - (tile.buffers - 1))
    order = list(product(range(start, split), range(tile.rows)))
    for first in range(0, tile.rows, latencies.result):
        together = range(first, min(first + latencies.result, tile.rows))
        order += product(range(split, tile.k), together)
    loaded = {divmod(start * tile.rows + event, tile.rows) for event in range(latencies.lead)}
    ends = {row: position for position, (step, row) in enumerate(order) if step == tile.k - 1}
    stored = 0
    lines = []
    for position, (step, row) in enumerate(order):
        for later in order[position : position + latencies.lead + 1]:
            lines += [_load_scalar(tile, *later, passed)] if later not in loaded else []
            loaded.add(later)
        lines += [_multiply_add(tile, step, row)]
        lines += (
            [_load_vector(tile, step + tile.buffers - 1, passed)] if row == 0 and step + tile.buffers <= tile.k else []
        )
        if not tile.finishes and stored < tile.rows and ends[stored] + latencies.result <= position:
            lines += [_store(tile, stored)]
            stored += 1
    return lines + [_store(tile, row) for row in range(stored, tile.rows) if not tile.finishes]


def _multiply_add(tile: Tile, step: int, row: int) -> str:
    scalar, vector = (step * tile.rows + row) % (tile.rows * tile.buffers), step % tile.buffers
    return f"{'MULTIPLY_ADD' if step else 'MULTIPLY'}(c{row}, f{scalar}, b{vector});"


def _load_scalar(tile: Tile, step: int, row: int, passed: int) -> str:
    offset = tile.scalars[row] + (step - passed) * tile.scalar_step
    return f"LOAD_SCALAR(f{(step * tile.rows + row) % (tile.rows * tile.buffers)}, {at('a', ('', offset, 1))});"


def _load_vector(tile: Tile, step: int, passed: int) -> str:
    return f"LOAD_VECTOR(b{step % tile.buffers}, {at('b', ('', (step - passed) * tile.vector_step, 1))});"


def _store(tile: Tile, row: int) -> str:
    where = at("out", ("", tile.outputs[row], 1))
    if tile.out_stride == 1:
        return f"STORE_VECTOR(c{row}, {where});"
    return f"STORE_STRIDED(c{row}, {where}, (size_t){4 * tile.out_stride});"


def _end(tile: Tile) -> list[str]:
    """Add what was summed before; finish."""
    lines: list[str] = []
    if tile.partial:
        lines += ["if (!first) {", *indented(_added(tile, "out", tile.outputs, tile.out_stride)), "}"]
    if tile.finish:
        done = _finished(tile, tile.finish)
        lines += ["if (last) {", *indented(done), "}"] if tile.partial else done
    return lines


def _finished(tile: Tile, finish: Finish) -> list[str]:
    lines = _added(tile, "bias", tile.biases, tile.out_stride) if finish.has_bias else []
    if finish.activation and finish.activation.low is not None:
        lines += [f"AT_LEAST(c{i}, {float_text(finish.activation.low)});" for i in range(tile.rows)]
    if finish.activation and finish.activation.high is not None:
        lines += [f"AT_MOST(c{i}, {float_text(finish.activation.high)});" for i in range(tile.rows)]
    return lines


def _added(tile: Tile, base: str, offsets: tuple[int, ...], stride: int) -> list[str]:
    """Add a vector from memory to every sum, each loaded while the ones before are added."""
    load = "LOAD_VECTOR(b{0}, {1});" if stride == 1 else "LOAD_STRIDED(b{0}, {1}, (size_t)" + f"{4 * stride});"
    loads = [load.format(i % tile.buffers, at(base, ("", offset, 1))) for i, offset in enumerate(offsets)]
    ahead = tile.buffers - 1
    lines = loads[:ahead]
    for i in range(tile.rows):
        lines += loads[i + ahead : i + ahead + 1]
        lines += [f"ADD(c{i}, b{i % tile.buffers});"]
    return lines


def float_text(value: float) -> str:
    """A C float constant with the value's float32 bits."""
    return f"{float(value).hex()}f"

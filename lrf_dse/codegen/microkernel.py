"""The innermost code: one tile of a stage, C [rows, one vector] = sum over k of scalars [rows] times one vector.

On an in-order core the order of instructions is the kernel. Every instruction is an asm statement of its own, because a
compiler moves loads next to their uses: scalars are loaded a few multiply-adds ahead, vectors one step of k ahead into
a ring of registers, both between the multiply-adds of the step before. The first step multiplies, so that nothing has
to be cleared.
"""

from __future__ import annotations

import re
import struct

from lrf_dse.codegen.order import Latencies, store, sum_up
from lrf_dse.codegen.text import at, half_lmul, indented
from lrf_dse.codegen.tile import Finish, Tile
from lrf_dse.target import Target

# Scalars are f0, f1, ... in the text; a pointer such as `factor` does not match.
_SCALAR = re.compile(r"\bf\d+\b")

MACROS = """\
/* One instruction each, in the order written here: what overlaps on an in-order core is decided by this order.
   c and b are names of vector registers, f and p expressions. */
#define SET_VL(vl, lmul) __asm__ volatile("vsetvli x0, %0, e32, " #lmul ", ta, ma" ::"r"(vl))
#define LOAD_SCALAR(f, p) __asm__ volatile("flw %0, %1" : "=f"(f) : "m"(*(p)))
#define LOAD_VECTOR(b, p) __asm__ volatile("vle32.v " #b ", %0" ::"A"(*(p)) : #b)
#define LOAD_STRIDED(b, p, s) __asm__ volatile("vlse32.v " #b ", %0, %1" ::"A"(*(p)), "r"(s) : #b)
#define STEP(p, bytes) __asm__ volatile("add %0, %0, %1" : "+r"(p) : "rI"((long)(bytes)))
#define MULTIPLY(c, f, b) __asm__ volatile("vfmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define MULTIPLY_ADD(c, f, b) __asm__ volatile("vfmacc.vf " #c ", %0, " #b ::"f"(f) : #c)
#define ADD(c, b) __asm__ volatile("vfadd.vv " #c ", " #c ", " #b ::: #c)
/* Bounds as integers: vfmax and vfmin drop a NaN. Sums are canonical NaNs, the largest of all as signed integers; with
   that taken off, a NaN is 0, below 0 are positive integers, and all others lie above them as unsigned ones. */
#define TAKE_OFF_NAN(c) __asm__ volatile("vadd.vx " #c ", " #c ", %0" ::"r"(-0x7fc00000L) : #c)
#define PUT_ON_NAN(c) __asm__ volatile("vadd.vx " #c ", " #c ", %0" ::"r"(0x7fc00000L) : #c)
#define AT_LEAST(c, bits) __asm__ volatile("vmax.vx " #c ", " #c ", %0" ::"r"((long)(bits)) : #c)
#define AT_LEAST_BELOW_0(c, bits) __asm__ volatile("vmin.vx " #c ", " #c ", %0" ::"r"((bits) - 0x7fc00000L) : #c)
#define AT_MOST(c, bits) __asm__ volatile("vminu.vx " #c ", " #c ", %0" ::"r"((bits) - 0x7fc00000L) : #c)
#define STORE_VECTOR(c, p) __asm__ volatile("vse32.v " #c ", %0" ::"A"(*(p)) : "memory")
#define STORE_STRIDED(c, p, s) __asm__ volatile("vsse32.v " #c ", %0, %1" ::"A"(*(p)), "r"(s) : "memory")
"""


def arguments(tile: Tile) -> list[str]:
    """The parameters of the tile's function."""
    names = [f"const {tile.kind} *a", f"const {tile.kind} *b", "float *out", "size_t vl"]
    names += ["float factor"] if tile.half else []
    names += ["const float *scales"] if tile.scaled else []
    names += ["const float *bias"] if tile.finish and tile.finish.has_bias else []
    names += ["int first"] if tile.partial else []
    return names + (["int last"] if tile.partial and tile.finish else [])


def tile_function(name: str, tile: Tile, target: Target) -> list[str]:
    """The C function of `tile`."""
    start = f"SET_HALF(vl, {half_lmul(tile.lmul)});" if tile.half else f"SET_VL(vl, m{tile.lmul});"
    body = [start, *sum_up(tile, Latencies.of(tile, target)), *_scaled(tile)]
    if tile.finishes:
        body += [*_end(tile), *(store(tile, row) for row in range(tile.rows))]
    times = f", {tile.repeats} times" if tile.repeats > 1 else ""
    return [
        f"/* {tile.rows} sums of {tile.k} terms each, in vectors of {tile.lmul} registers{times}. */",
        f"static void {name}({', '.join(arguments(tile))})",
        "{",
        *indented([_scalars(body), *body]),
        "}",
    ]


def _scalars(body: list[str]) -> str:
    """The declaration of the scalars of `body`."""
    names = sorted(set(_SCALAR.findall("\n".join(body))), key=lambda name: int(name[1:]))
    return f"float {', '.join(names)};"


def _scaled(tile: Tile) -> list[str]:
    """Sums of products in half precision made those of the values: times a factor, and scales where there are some."""
    if not tile.half:
        return []
    sums = [tile.sum_register(row) for row in range(tile.rows)]
    scales = tile.vector_register(0)
    wide = f"AS_WIDE(m{tile.lmul});"
    if not tile.scaled:
        return [wide, *(f"SCALE({register}, factor);" for register in sums)]
    prepared = [f"LOAD_FLOATS({scales}, scales);", f"SCALE({scales}, factor);"]
    return [wide, *prepared, *(f"SCALE_EACH({register}, {scales});" for register in sums)]


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
    return lines + bounded(finish, [tile.sum_register(i) for i in range(tile.rows)])


def bounded(finish: Finish | None, registers: list[str]) -> list[str]:
    """The activation of what is in `registers`."""
    bounds = finish.activation if finish else None
    if bounds is None:
        return []
    steps: list[str] = []
    # Bit patterns instead of vfmin and vfmax, which drop a NaN. Between TAKE_OFF_NAN and PUT_ON_NAN numbers below 0 are
    # positive integers, so a lower bound below 0 needs `vmin`; one of 0 or more is taken before, where it is a plain
    # `vmax`.
    if bounds.low is not None and bounds.low < 0:
        steps += [f"AT_LEAST_BELOW_0({{}}, {float_bits(bounds.low)});"]
    if bounds.high is not None:
        steps += [f"AT_MOST({{}}, {float_bits(bounds.high)});"]
    if steps:
        steps = ["TAKE_OFF_NAN({});", *steps, "PUT_ON_NAN({});"]
    if bounds.low is not None and bounds.low >= 0:
        steps = [f"AT_LEAST({{}}, {float_bits(bounds.low)});", *steps]
    return [step.format(register) for step in steps for register in registers]


def _added(tile: Tile, base: str, offsets: tuple[int, ...], stride: int) -> list[str]:
    """Add a vector from memory to every sum, each loaded while the ones before are added."""
    loads = []
    for i, offset in enumerate(offsets):
        vector, where = tile.vector_register(i), at(base, ("", offset, 1))
        strided = f"LOAD_STRIDED({vector}, {where}, (size_t){4 * stride});"
        loads += [f"LOAD_VECTOR({vector}, {where});" if stride == 1 else strided]
    # As many loads under way as the ring has vectors to spare.
    ahead = tile.buffers - 1
    lines = loads[:ahead]
    for i in range(tile.rows):
        lines += [*loads[i + ahead : i + ahead + 1], f"ADD({tile.sum_register(i)}, {tile.vector_register(i)});"]
    return lines


def float_bits(value: float) -> str:
    """A C constant with the value's float32 bits; -0 counts as 0.

    >>> float_bits(6.0)
    '0x40c00000'
    """
    # -0.0 + 0.0 is 0.0: as bits -0 would be the smallest integer.
    return f"0x{struct.unpack('<I', struct.pack('<f', value + 0.0))[0]:08x}"


def float_text(value: float) -> str:
    """A C float constant with the value's float32 bits."""
    return f"{float(value).hex()}f"

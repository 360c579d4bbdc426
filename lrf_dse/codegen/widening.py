"""Panels of few bits made single precision once, in the working space, for the tiles that then read them many times.

Each element is widened exactly: an unsigned code becomes the low bits of 2^23 + code, from which a subtraction leaves
the code; half precision is moved into place bit by bit, or by the chip where it computes in half precision.
"""

from __future__ import annotations

from collections.abc import Callable

from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.storage import ELEMENT_BITS, OFFSETS, code_bytes, groups_of, row_bytes
from lrf_dse.codegen.text import Term, at, half_lmul, indented, loop, runs
from lrf_dse.codegen.tiling import PanelRun
from lrf_dse.codegen.widening_halves import halves, state_functions
from lrf_dse.codegen.widening_words import LARGEST_LMUL, half_bits, k_by_k
from lrf_dse.tt.grid import GROUP

FROM = "(const unsigned char *)w"

MACROS = """\
/* Widening. Vector lengths are set for single precision; what is narrower has as many elements in fewer registers. */
#define SET_WIDE(vl, lmul) __asm__ volatile("vsetvli x0, %0, e32, " #lmul ", ta, ma" ::"r"((size_t)(vl)))
#define AS_WIDE(lmul) __asm__ volatile("vsetvli x0, x0, e32, " #lmul ", ta, ma")
#define AS_HALF(lmul) __asm__ volatile("vsetvli x0, x0, e16, " #lmul ", ta, ma")
#define LOAD_BYTES(b, p) __asm__ volatile("vle8.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define LOAD_HALVES(b, p) __asm__ volatile("vle16.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define LOAD_FLOATS(b, p) __asm__ volatile("vle32.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define STORE_FLOATS(b, p) __asm__ volatile("vse32.v " #b ", (%0)" ::"r"(p) : "memory")
#define EXTEND_2(c, b) __asm__ volatile("vzext.vf2 " #c ", " #b ::: #c)
#define EXTEND_4(c, b) __asm__ volatile("vzext.vf4 " #c ", " #b ::: #c)
#define EXTEND_SIGN_2(c, b) __asm__ volatile("vsext.vf2 " #c ", " #b ::: #c)
#define LOW_NIBBLE(c, b) __asm__ volatile("vand.vi " #c ", " #b ", 15" ::: #c)
#define HIGH_NIBBLE(c, b) __asm__ volatile("vsrl.vi " #c ", " #b ", 4" ::: #c)
#define SHIFT_LEFT(c, n) __asm__ volatile("vsll.vi " #c ", " #c ", " #n ::: #c)
#define MASK(c, bits) __asm__ volatile("vand.vx " #c ", " #c ", %0" ::"r"((long)(int)(bits)) : #c)
#define SET_BITS(c, bits) __asm__ volatile("vor.vx " #c ", " #c ", %0" ::"r"((long)(int)(bits)) : #c)
#define SUBTRACT(c, f) __asm__ volatile("vfsub.vf " #c ", " #c ", %0" ::"f"(f) : #c)
#define SCALE(c, f) __asm__ volatile("vfmul.vf " #c ", " #c ", %0" ::"f"(f) : #c)
#define SCALE_EACH(c, b) __asm__ volatile("vfmul.vv " #c ", " #c ", " #b ::: #c)
#define BITS(c, b, mask) __asm__ volatile("vand.vx " #c ", " #b ", %0" ::"r"(mask) : #c)
#define BITS_FROM(c, b, n) __asm__ volatile("vsrl.vi " #c ", " #b ", " #n ::: #c)
#define KEEP(constant) __asm__("" : "+r"(constant))
#define HALF_LESS(c, b, f) __asm__ volatile("vfwsub.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define HALF_TIMES(c, b, f) __asm__ volatile("vfwmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
"""

HALF_TO_FLOAT = """\
/* What half precision bits stand for: their exponent counts from 2^-112 times as far down. A subnormal one passes
   through a subnormal float, which RISC-V has at full speed and IREE's runtime on other machines flushes to 0. There it
   is made of its count of 2^-24, which takes twice as long. */
static inline __attribute__((unused)) float half_to_float(unsigned short half)
{
#ifdef __riscv
  const unsigned bits = (unsigned)(half & 0x7fff) << 13 | (unsigned)(half & 0x8000) << 16;
  const union { unsigned bits; float value; } moved = {bits}, scale = {0x77800000u};
  return moved.value * scale.value;
#else
  const unsigned magnitude = half & 0x7fff;
  const union { unsigned bits; float value; } moved = {(magnitude << 13) + 0x38000000u};
  const float value = magnitude < 0x400 ? (float)(int)magnitude * 0x1p-24f : moved.value;
  return half & 0x8000 ? -value : value;
#endif
}
"""
_TOGETHER = 4
"""Vectors that are widened side by side: each waits for its own last step only."""


def widening_functions(plan: StagePlan, lanes: int) -> list[str]:
    """The C functions that widen the panels of a stage, one for each width; none in fp32."""
    if plan.storage == "fp32":
        return []
    if plan.in_half:
        panels = [] if plan.storage == "fp16" else panel_functions(plan, lambda width: halves(plan, lanes, width))
        return [*state_functions(plan, lanes), *panels]
    way = _row_by_row if plan.packed.by_rows else k_by_k
    return panel_functions(plan, lambda width: way(plan, lanes, width))


def panel_functions(plan: StagePlan, body: Callable[[int], list[str]]) -> list[str]:
    """The C functions with the `body` of every width of panels of a stage that is stored in few bits."""
    lines: list[str] = []
    kind = "unsigned short" if plan.in_half else "float"
    for width in sorted({panel.width for panel in plan.panels}):
        lines += [
            f"/* {width} rows of {plan.k} {plan.storage} elements. */",
            f"static void {panel_function(plan, width)}(const unsigned char *from, {kind} *to)",
            "{",
            *indented(body(width)),
            "}",
            "",
        ]
    return lines


def panel_function(plan: StagePlan, width: int) -> str:
    """The name of the C function that widens panels of this width."""
    return f"widen_{plan.number}_{width}"


def widening_calls(plan: StagePlan, run: PanelRun) -> list[str]:
    """The calls that widen the panels of `run` which are together, in the loops over p and ks; where they need it."""
    if plan.storage == "fp32" or (plan.in_half and plan.storage == "fp16"):
        return []
    width, base = run.first.width, "panels" if plan.in_half else "work"
    call = f"{panel_function(plan, width)}({panel_at(plan, run)}, {at(base, ('j', plan.k * width, run.together))});"
    return loop("j", run.together, [call])


def panel_at(plan: StagePlan, run: PanelRun, variable: str = "j") -> str:
    """Where panel `variable` of those together in the loops over p and ks lies, as bytes."""
    size = plan.packed.panel_bytes(run.first.width)
    before = 4 * plan.packed.words(plan.panels[: plan.panels.index(run.first)])
    terms: tuple[Term, ...] = (
        ("ks", 4 * plan.packed.words(plan.packed.panels), plan.k_slices),
        ("p", size * run.together, run.count),
        (variable, size, run.together),
        ("", before, 1),
    )
    return at(FROM, *terms)


def _one(plan: StagePlan) -> str:
    """1 in half precision, for the register of a float."""
    if plan.half and plan.storage == "fp16":
        return "const union { unsigned bits; float value; } one = {0xffff3c00u};"
    return "(void)0;"


def widened(plan: StagePlan, raw: list[str], wide: list[str], lmul: int) -> list[str]:
    """The codes in `raw`, or the values of fp16, as floats in `wide`; of int4 two for each of `raw`."""
    if plan.storage == "fp16":
        if plan.half:
            narrow = half_lmul(lmul)
            products = [f"HALF_TIMES({w}, {r}, one.value);" for r, w in zip(raw, wide, strict=True)]
            return [f"AS_HALF({narrow});", *products, f"AS_WIDE(m{lmul});"]
        columns = [[*half_bits(r, w), f"SCALE({w}, 0x1p112f);"] for r, w in zip(raw, wide, strict=True)]
        return [line for step in zip(*columns, strict=True) for line in step]
    offset = OFFSETS[plan.storage]
    if plan.storage == "int8":
        lines = [f"EXTEND_4({w}, {r});" for r, w in zip(raw, wide, strict=True)]
    else:
        # The low nibbles' registers take the bytes first; where there is no high one, the byte is made a nibble.
        pairs = [(r, wide[2 * n : 2 * n + 2]) for n, r in enumerate(raw)]
        lines = [f"EXTEND_4({w[0]}, {r});" for r, w in pairs]
        lines += [f"HIGH_NIBBLE({w[1]}, {w[0]});" for _, w in pairs if len(w) > 1]
        lines += [f"LOW_NIBBLE({w[0]}, {w[0]});" for _, w in pairs]
    # 0x4b000000 is 2^23: the code is in the lowest bits of its mantissa, and the subtraction is exact.
    lines += [f"SET_BITS({w}, 0x4b000000);" for w in wide]
    return lines + [f"SUBTRACT({w}, {(1 << 23) + offset}.0f);" for w in wide]


def _row_by_row(plan: StagePlan, lanes: int, width: int) -> list[str]:
    """Vectors along K, for some rows side by side."""
    together = _TOGETHER // (2 if plan.storage == "int4" else 1)
    whole = GROUP if plan.storage == "int4" else LARGEST_LMUL * lanes
    pieces = runs([min(whole, plan.k - first) for first in range(0, plan.k, whole)])
    lines = [_one(plan)]
    for first in range(0, width, together):
        rows, start = range(first, min(first + together, width)), 0
        for size, count in pieces:
            taken = -(-size // 2) if plan.storage == "int4" else size
            lmul = 1 << (-(-taken // lanes) - 1).bit_length()
            head = f"for (size_t g = {start}; g < {start + count}; g++) {{"
            body = _piece(plan, rows, size, lmul, width, whole=whole)
            lines += [f"SET_WIDE({taken}, m{lmul});", head, *indented(body), "}"]
            start += count
    return lines


def _piece(plan: StagePlan, rows: range, size: int, lmul: int, width: int, *, whole: int) -> list[str]:
    """Piece g along K, `size` of `whole` elements, of each of `rows`."""
    storage, each = plan.storage, row_bytes(plan.storage, plan.k)
    step = whole * ELEMENT_BITS[storage] // 8
    load = "LOAD_HALVES" if storage == "fp16" else "LOAD_BYTES"
    per_row = 2 if storage == "int4" else 1
    wide = [f"v{4 * number}" for number in range(per_row * len(rows))]
    raw = [f"v{20 + 2 * number}" for number in range(len(rows))]
    codes = [at("from", ("g", step, 2), ("", row * each, 1)) for row in rows]
    lines = [f"{load}({register}, {where});" for register, where in zip(raw, codes, strict=True)]
    lines += widened(plan, raw, wide, lmul)
    half = -(-size // 2)
    for number, row in enumerate(rows):
        if storage == "int8":
            scale = f"((const float *)(from + {code_bytes(storage, plan.k, width)}))[{row}]"
        elif storage == "int4":
            scales = f"((const unsigned short *)(from + {width * each}))"
            place = f"{scales}[{row * len(groups_of(plan.k))} + g]"
            scale = f"half_to_float({place})"
            if plan.half:
                lines += [f"float scale{row};", f"LOAD_HALF(scale{row}, &{place});", f"SINGLE(scale{row}, scale{row});"]
                scale = f"scale{row}"
        own = wide[per_row * number : per_row * (number + 1)]
        for part, register in enumerate(own):
            lines += [f"SCALE({register}, {scale});"] if storage != "fp16" else []
            # The second half of a group with an odd number of elements is one shorter: its last one is beyond the end.
            where = at("to", ("g", whole, 2), ("", row * plan.row_pitch + part * half, 1))
            lines += [f"STORE_FLOATS({register}, {where});"]
    return lines

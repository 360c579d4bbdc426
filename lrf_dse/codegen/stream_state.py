"""The state of a stream in half precision: scaled by a power of two, rounded, with the sums that codes need.

The largest magnitude decides the power of two, so that no element overflows and none that matters is lost. What was
added to codes to make them unsigned comes back as a multiple of the sum of the state: of all of it for int8, of every
group for int4. The sums are those of the rounded elements, as the products are.

    work[0]       what a sum is multiplied by at the end
    work[1]       int8: what is taken off every sum
    work[16...]   int4: what is taken off the sums of each group
    then          the state [padded K] in half precision, zeros at its end
"""

from __future__ import annotations

from lrf_dse.codegen.plan import WORK_HEAD, StagePlan, padded, work_floats
from lrf_dse.codegen.storage import GROUP, OFFSETS, groups_of
from lrf_dse.codegen.text import indented

MACROS = """\
/* States in half precision. */
#define LARGER(c, b) __asm__ volatile("vfmax.vv " #c ", " #c ", " #b ::: #c)
#define SMALLER(c, b) __asm__ volatile("vfmin.vv " #c ", " #c ", " #b ::: #c)
#define NEGATE(c) __asm__ volatile("vfsgnjn.vv " #c ", " #c ", " #c ::: #c)
#define FIRST_FROM(c, f) __asm__ volatile("vfmv.s.f " #c ", %0" ::"f"(f) : #c)
#define FIRST_TO(f, b) __asm__ volatile("vfmv.f.s %0, " #b : "=f"(f))
#define LARGEST(c, b) __asm__ volatile("vfredmax.vs " #c ", " #b ", " #c ::: #c)
#define SUM(c, b) __asm__ volatile("vfredusum.vs " #c ", " #b ", " #c ::: #c)
#define HALF_SUM(c, b) __asm__ volatile("vfwredusum.vs " #c ", " #b ", " #c ::: #c)
#define ADD_HALVES(c, b) __asm__ volatile("vfwadd.wv " #c ", " #c ", " #b ::: #c)
#define TO_HALF(c, b) __asm__ volatile("vfncvt.f.f.w " #c ", " #b ::: #c)
#define STORE_HALVES(b, p) __asm__ volatile("vse16.v " #b ", (%0)" ::"r"(p) : "memory")
#define SET_HALF(vl, lmul) __asm__ volatile("vsetvli x0, %0, e16, " #lmul ", ta, ma" ::"r"((size_t)(vl)))
"""

_CODE_BITS = 24
"""A code as the bits of a half precision number is that number times 2^24."""


def prepared_at(plan: StagePlan) -> str:
    """Where the state in half precision lies."""
    return f"(const unsigned short *)(work + {work_floats(plan.k) - padded(plan.k) // 2})"


def preparing(plan: StagePlan, lanes: int) -> list[str]:
    """The C function prepare_N(s, work)."""
    lines = [*_largest(plan.k, lanes), *_factors(plan), *_rounded(plan, lanes)]
    if plan.storage == "int8":
        lines += _sum(plan, lanes)
    if plan.storage == "int4":
        lines += _group_sums(plan, lanes)
    return [
        "/* The state in half precision, scaled so that its largest element is near 1. */",
        f"static void prepare_{plan.number}(const float *s, float *work)",
        "{",
        *indented(lines),
        "}",
        "",
    ]


def _largest(k: int, lanes: int) -> list[str]:
    """The largest magnitude: whole vectors, the last one ending with the state."""
    size = min(k, 8 * lanes)
    lines = [f"SET_WIDE({size}, m8);", "LOAD_FLOATS(v0, s);", "LOAD_FLOATS(v8, s);"]
    if k > size:
        lines += [
            f"for (size_t k = {size}; k < {k}; k += {size}) {{",
            f"  LOAD_FLOATS(v16, s + (k + {size} <= {k} ? k : {k - size}));",
            "  LARGER(v0, v16);",
            "  SMALLER(v8, v16);",
            "}",
        ]
    return [
        *lines,
        "union { float value; unsigned bits; } largest, scale, back;",
        "NEGATE(v8);",
        "LARGER(v0, v8);",
        "FIRST_FROM(v16, 0.0f);",
        "LARGEST(v16, v0);",
        "FIRST_TO(largest.value, v16);",
    ]


def _factors(plan: StagePlan) -> list[str]:
    """A power of two that makes the largest magnitude 1 to 2, and what undoes it; infinity and NaN pass as they are."""
    code_bits = 0 if plan.storage == "fp16" else _CODE_BITS
    return [
        "unsigned exponent = largest.bits >> 23 & 255;",
        "if (exponent == 255) exponent = 127;",
        "if (exponent < 1) exponent = 1;",
        f"if (exponent > {253 - code_bits}) exponent = {253 - code_bits};",
        "scale.bits = (254 - exponent) << 23;",
        f"back.bits = (exponent + {code_bits}) << 23;",
        "work[0] = back.value;",
    ]


def _rounded(plan: StagePlan, lanes: int) -> list[str]:
    """The scaled elements in half precision, then zeros."""
    k, size = plan.k, 4 * lanes
    zeros = padded(k) - k
    lines = [f"unsigned short *half = {prepared_at(plan).replace('const ', '')};"]
    for first, step in ((0, size), (k // size * size, k % size)):
        count = k // size if step == size else 1
        if not step or not count:
            continue
        lines += [
            f"for (size_t k = {first}; k < {first + step * count}; k += {step}) {{",
            f"  SET_WIDE({step}, m4);",
            "  LOAD_FLOATS(v0, s + k);",
            "  SCALE(v0, scale.value);",
            "  AS_HALF(m2);",
            "  TO_HALF(v8, v0);",
            "  STORE_HALVES(v8, half + k);",
            "}",
        ]
    while zeros:
        step = min(zeros, 16 * lanes)
        lines += [f"SET_HALF({step}, m8);", "CLEAR(v0);", f"STORE_HALVES(v0, half + {padded(k) - zeros});"]
        zeros -= step
    return lines


def _sum(plan: StagePlan, lanes: int) -> list[str]:
    """What the offset of the codes makes of all elements together."""
    size = 4 * lanes
    end = -(-plan.k // size) * size
    return [
        "float sum;",
        f"SET_WIDE({size}, m4);",
        "CLEAR(v8);",
        "AS_HALF(m2);",
        f"for (size_t k = 0; k < {end}; k += {size}) {{",
        "  LOAD_HALVES(v0, half + k);",
        "  ADD_HALVES(v8, v0);",
        "}",
        "AS_WIDE(m4);",
        "FIRST_FROM(v16, 0.0f);",
        "SUM(v16, v8);",
        "FIRST_TO(sum, v16);",
        f"work[1] = sum * {_offset(plan)};",
    ]


def _group_sums(plan: StagePlan, lanes: int) -> list[str]:
    """The same of every group."""
    lmul = max(1, GROUP // (2 * lanes))
    return [
        "float sum;",
        f"SET_HALF({GROUP}, m{lmul});",
        f"for (size_t group = 0; group < {len(groups_of(plan.k))}; group++) {{",
        f"  LOAD_HALVES(v0, half + {GROUP} * group);",
        f"  SET_WIDE({GROUP}, m{2 * lmul});",
        "  FIRST_FROM(v16, 0.0f);",
        f"  AS_HALF(m{lmul});",
        "  HALF_SUM(v16, v0);",
        f"  AS_WIDE(m{2 * lmul});",
        "  FIRST_TO(sum, v16);",
        f"  work[{WORK_HEAD} + group] = sum * {_offset(plan)};",
        f"  AS_HALF(m{lmul});",
        "}",
    ]


def _offset(plan: StagePlan) -> str:
    return f"{float(OFFSETS[plan.storage] * 2.0**-_CODE_BITS).hex()}f"

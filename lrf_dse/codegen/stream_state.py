"""The state of a stream in half precision: scaled by a power of two, rounded, with the sums that codes need.

The largest magnitude decides the power of two, so that no element overflows and none that matters is lost. What was
added to codes to make them unsigned comes back as a multiple of the sum of the state: of all of it for int8, of every
group for int4. The sums are those of the rounded elements, as the products are.

    work[0]       what a sum is multiplied by at the end
    work[1]       int8: what is taken off every sum
    work[2]       int4: 1 / work[0], by which the bias is multiplied before all sums
    work[16...]   int4: what is taken off the sums of each group
    then          the state [padded K] in half precision, zeros at its end
"""

from __future__ import annotations

from lrf_dse.codegen.plan import FEW_ELEMENTS, WORK_HEAD, StagePlan, padded, work_floats
from lrf_dse.codegen.storage import groups_of
from lrf_dse.codegen.stream_pass import CODE_BITS, offset_text, rounding
from lrf_dse.codegen.text import indented
from lrf_dse.tt.grid import GROUP

MACROS = """\
/* States in half precision. */
#define LARGER(c, b) __asm__ volatile("vfmax.vv " #c ", " #c ", " #b ::: #c)
#define SMALLER(c, b) __asm__ volatile("vfmin.vv " #c ", " #c ", " #b ::: #c)
#define FIRST_FROM(c, f) __asm__ volatile("vfmv.s.f " #c ", %0" ::"f"(f) : #c)
#define FIRST_TO(f, b) __asm__ volatile("vfmv.f.s %0, " #b : "=f"(f))
#define LARGEST(c, b) __asm__ volatile("vfredmax.vs " #c ", " #b ", " #c ::: #c)
#define LEAST(c, b) __asm__ volatile("vfredmin.vs " #c ", " #b ", " #c ::: #c)
#define SUM(c, b) __asm__ volatile("vfredusum.vs " #c ", " #b ", " #c ::: #c)
#define MAXIMUM(f, g) __asm__ volatile("fmax.s %0, %0, %1" : "+f"(f) : "f"(g))
#define MINIMUM(f, g) __asm__ volatile("fmin.s %0, %0, %1" : "+f"(f) : "f"(g))
#define SINGLE(f, h) __asm__ volatile("fcvt.s.h %0, %1" : "=f"(f) : "f"(h))
#define ROUND_TO_HALF(f) __asm__ volatile("fcvt.h.s %0, %0" : "+f"(f))
#define STORE_HALF(f, p) __asm__ volatile("fsh %0, %1" ::"f"(f), "m"(*(p)) : "memory")
#define SET_HALF(vl, lmul) __asm__ volatile("vsetvli x0, %0, e16, " #lmul ", ta, ma" ::"r"((size_t)(vl)))
"""

SIDE_BY_SIDE = 4
"""Vectors that are rounded, and groups that are summed up, at a time: each takes long, none waits for another."""


def prepared_at(plan: StagePlan) -> str:
    """Where the state in half precision lies."""
    # The state in half precision is the last part of the working space: two elements to a word.
    return f"(const unsigned short *)(work + {work_floats(plan.k) - padded(plan.k) // 2})"


def preparing(plan: StagePlan, lanes: int) -> list[str]:
    """The C function prepare_N(s, work): few elements with a scale, many of them without where that will do."""
    if plan.k <= FEW_ELEMENTS:
        scaled = [*_largest_of_few(plan.k), *factors(plan), *_few_rounded(plan, " * scale.value")]
        return [
            *_function(plan, "slowly", scaled, prefix="__attribute__((noinline, cold)) "),
            *_function(plan, "prepare", [*_few_rounded(plan, ""), *_largest_of_few(plan.k), *_unless_far(plan)]),
        ]
    slowly = [*largest(plan.k, lanes), *factors(plan), *_rounded(plan, lanes)]
    half, zeros = prepared_at(plan).replace("const ", ""), _zeros(padded(plan.k) - plan.k, padded(plan.k), lanes)
    return [
        *_function(plan, "slowly", slowly, prefix="__attribute__((noinline, cold)) "),
        *_function(plan, "prepare", rounding(plan, lanes, half, zeros)),
    ]


def _function(plan: StagePlan, name: str, lines: list[str], *, prefix: str = "") -> list[str]:
    scaled = ", scaled so that its largest element is near 1" * (name == "slowly")
    return [
        f"/* The state in half precision{scaled}. */",
        f"static {prefix}void {name}_{plan.number}(const float *s, float *work)",
        "{",
        *indented(lines),
        "}",
        "",
    ]


def _largest_of_few(k: int) -> list[str]:
    """The largest magnitude of a few elements, by chains of maxima side by side."""
    chains = min(k, 4)
    lines = [f"float m{i} = __builtin_fabsf(s[{i}]);" for i in range(chains)]
    lines += [f"MAXIMUM(m{i % chains}, __builtin_fabsf(s[{i}]));" for i in range(chains, k)]
    return [*lines, *(f"MAXIMUM(m0, m{i});" for i in range(1, chains))]


def _tree(terms: list[str]) -> str:
    """The sum of `terms`, none of which waits for more than it must.

    >>> _tree(["a", "b", "c"])
    '((a + b) + c)'
    """
    while len(terms) > 1:
        pairs = [
            f"({' + '.join(terms[i : i + 2])})" if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)
        ]
        terms = pairs
    return terms[0]


def _few_rounded(plan: StagePlan, scale: str) -> list[str]:
    """A few elements in half precision, and the sum of what they were rounded to; nothing reads beyond them."""
    each = range(plan.k)
    lines = [f"unsigned short *half = {prepared_at(plan).replace('const ', '')};"]
    lines += [f"float r{i} = s[{i}]{scale};" for i in each]
    # All conversions first: each takes four cycles, none waits for another.
    lines += [f"ROUND_TO_HALF(r{i});" for i in each] + [f"STORE_HALF(r{i}, half + {i});" for i in each]
    if plan.storage != "fp16":
        lines += [f"SINGLE(r{i}, r{i});" for i in each]
        total = _tree([f"r{i}" for i in each])
        place = 1 if plan.storage == "int8" else WORK_HEAD
        lines += [f"work[{place}] = {total} * {offset_text(plan)};"]
    return lines


def _unless_far(plan: StagePlan) -> list[str]:
    """Without a scale, where the largest magnitude m0 is not far from 1; NaN is."""
    back = 0 if plan.storage == "fp16" else CODE_BITS
    return [
        f"work[0] = 0x1p{back}f;",
        *([f"work[2] = 0x1p-{back}f;"] if plan.storage == "int4" else []),
        # The comparison is negated so that a NaN goes the slow way.
        f"if (!(m0 >= 0x1p-10f && m0 < 0x1p13f)) slowly_{plan.number}(s, work);",
    ]


def largest(k: int, lanes: int) -> list[str]:
    """The largest magnitude: whole vectors, the last one ending with the state, each loaded before it is needed."""
    lmul = min(8, 1 << (-(-k // lanes) - 1).bit_length())
    size = min(k, lmul * lanes)
    starts = [*range(size, k - size, size), k - size] if k > size else []
    lines = [f"SET_WIDE({size}, m{lmul});", "LOAD_FLOATS(v0, s);", "LOAD_FLOATS(v8, s);"]
    pairs, left = divmod(len(starts), 2)
    if pairs:
        lines += [
            f"for (size_t k = {size}; k < {size + 2 * pairs * size}; k += {2 * size}) {{",
            "  LOAD_FLOATS(v16, s + k);",
            f"  LOAD_FLOATS(v24, s + (k + {2 * size} <= {k} ? k + {size} : {k - size}));",
            *indented(["LARGER(v0, v16);", "SMALLER(v8, v16);", "LARGER(v0, v24);", "SMALLER(v8, v24);"]),
            "}",
        ]
    if left:
        lines += [f"LOAD_FLOATS(v16, s + {k - size});", "LARGER(v0, v16);", "SMALLER(v8, v16);"]
    # Short vectors are reduced much faster than long ones.
    while size == lmul * lanes and lmul > 1:
        lmul //= 2
        size //= 2
        lines += [f"SET_WIDE({size}, m{lmul});", f"LARGER(v0, v{lmul});", f"SMALLER(v8, v{8 + lmul});"]
    return [
        *lines,
        "float m0, least;",
        "FIRST_FROM(v16, 0.0f);",
        "FIRST_FROM(v24, 0.0f);",
        "LARGEST(v16, v0);",
        "LEAST(v24, v8);",
        "FIRST_TO(m0, v16);",
        "FIRST_TO(least, v24);",
        "MAXIMUM(m0, -least);",
    ]


def factors(plan: StagePlan) -> list[str]:
    """A power of two that makes the largest magnitude 1 to 2, and what undoes it; infinity and NaN pass as they are."""
    code_bits = 0 if plan.storage == "fp16" else CODE_BITS
    return [
        "union { float value; unsigned bits; } largest, scale, back;",
        # Both bounds keep the scale and its inverse normal numbers, for zeros and infinities too.
        "MAXIMUM(m0, 0x1p-100f);",
        "MINIMUM(m0, 0x1p100f);",
        "largest.value = m0;",
        # 0x7f800000 masks the exponent: 2^(254 - e) in biased exponents is the inverse of the power of two below m0.
        "scale.bits = 0x7f000000 - (largest.bits & 0x7f800000);",
        f"back.bits = (largest.bits & 0x7f800000) + {code_bits << 23};",
        "work[0] = back.value;",
        *(["back.bits = 0x7f000000 - back.bits;", "work[2] = back.value;"] if plan.storage == "int4" else []),
    ]


def _rounded(plan: StagePlan, lanes: int) -> list[str]:
    """The scaled elements in half precision, then zeros; and what the offset of the codes makes of their sums."""
    k, size = plan.k, 4 * lanes
    whole, left = k - k % size, k % size
    lines = [f"unsigned short *half = {prepared_at(plan).replace('const ', '')};"]
    lines += ["float sum;", f"SET_WIDE({size}, m4);", "CLEAR(v24);"] if plan.storage == "int8" else []
    lines += [f"SET_WIDE({size}, m4);"] if plan.storage != "int8" else []
    many, few = divmod(whole // size, SIDE_BY_SIDE)
    if many:
        step = SIDE_BY_SIDE * size
        lines += [
            f"for (size_t k = 0; k < {many * step}; k += {step}) {{",
            *indented([*_conversions(plan, [f"k + {i * size}" for i in range(SIDE_BY_SIDE)]), "AS_WIDE(m4);"]),
            "}",
        ]
    if few:
        lines += _conversions(plan, [str(whole - (few - i) * size) for i in range(few)])
    if left:
        lines += [f"SET_WIDE({left}, m4);", *_conversions(plan, [str(whole)], added=False)]
    lines += _zeros(padded(k) - k, padded(k), lanes)
    if plan.storage == "int8":
        last = [f"SET_HALF({size}, m2);", f"LOAD_HALVES(v8, half + {whole});", "ADD_HALVES(v24, v8);"] if left else []
        end = [
            "FIRST_FROM(v16, 0.0f);",
            "SUM(v16, v24);",
            "FIRST_TO(sum, v16);",
            f"work[1] = sum * {offset_text(plan)};",
        ]
        lines += [*last, f"SET_WIDE({size}, m4);", *end]
    return lines + (_group_sums(plan, lanes) if plan.storage == "int4" else [])


def _conversions(plan: StagePlan, places: list[str], *, added: bool = True) -> list[str]:
    """Vectors of elements, step after step side by side; `added` to the sum of all elements where codes need it."""
    wide, narrow = [f"v{4 * i}" for i in range(len(places))], [f"v{16 + 2 * i}" for i in range(len(places))]
    added = added and plan.storage == "int8"
    return [
        *(f"LOAD_FLOATS({register}, s + {k});" for register, k in zip(wide, places, strict=True)),
        *(f"SCALE({register}, scale.value);" for register in wide),
        "AS_HALF(m2);",
        *(f"TO_HALF({half}, {register});" for half, register in zip(narrow, wide, strict=True)),
        *(f"STORE_HALVES({register}, half + {k});" for register, k in zip(narrow, places, strict=True)),
        *(f"ADD_HALVES(v24, {register});" for register in narrow if added),
    ]


def _zeros(count: int, end: int, lanes: int) -> list[str]:
    """Zeros in the last `count` elements."""
    lines: list[str] = []
    while count:
        step = min(count, 16 * lanes)
        lmul = 1 << (-(-step // (2 * lanes)) - 1).bit_length()
        lines += [f"SET_HALF({step}, m{lmul});", "CLEAR(v0);", f"STORE_HALVES(v0, half + {end - count});"]
        count -= step
    return lines


def _group_sums(plan: StagePlan, lanes: int) -> list[str]:
    """What the offset of the codes makes of the elements of every group."""
    lmul, groups = max(1, GROUP // (2 * lanes)), len(groups_of(plan.k))
    many, few = divmod(groups, SIDE_BY_SIDE)
    lines = [f"SET_WIDE({GROUP}, m{2 * lmul});", "FIRST_FROM(v24, 0.0f);", f"AS_HALF(m{lmul});"]
    lines += [f"float {', '.join(f'sum{i}' for i in range(min(groups, SIDE_BY_SIDE)))};"]
    if many:
        head = f"for (size_t group = 0; group < {many * SIDE_BY_SIDE}; group += {SIDE_BY_SIDE}) {{"
        lines += [head, *indented(_sums_from(plan, "group", SIDE_BY_SIDE, lmul)), "}"]
    return lines + (_sums_from(plan, str(many * SIDE_BY_SIDE), few, lmul) if few else [])


def _sums_from(plan: StagePlan, group: str, count: int, lmul: int) -> list[str]:
    each = range(count)
    loads = [f"LOAD_HALVES(v{4 * i}, half + {GROUP} * ({group} + {i}));" for i in each]
    sums = [f"HALF_SUM(v{16 + i}, v{4 * i}, v24);" for i in each]
    moved = [f"FIRST_TO(sum{i}, v{16 + i});" for i in each]
    stored = [f"work[{WORK_HEAD} + {group} + {i}] = sum{i} * {offset_text(plan)};" for i in each]
    return [*loads, *sums, f"AS_WIDE(m{2 * lmul});", *moved, f"AS_HALF(m{lmul});", *stored]

"""The usual way to the state of a stream in half precision: one pass over it, unscaled.

The pass rounds the state, sums up what was rounded, and keeps its largest magnitude. Where that is too large or too
small for half precision, all is done again with a scale (`slowly`, lrf_dse/codegen/stream_state.py).
"""

from __future__ import annotations

from lrf_dse.codegen.plan import WORK_HEAD, StagePlan
from lrf_dse.codegen.storage import OFFSETS
from lrf_dse.codegen.text import half_lmul, indented
from lrf_dse.tt.grid import GROUP

MACROS = """\
/* States in half precision, in one pass. */
#define LARGEST_BITS(c, b) __asm__ volatile("vmax.vv " #c ", " #c ", " #b ::: #c)
#define LARGEST_BITS_BELOW_0(c, b) __asm__ volatile("vmaxu.vv " #c ", " #c ", " #b ::: #c)
#define REDUCE_BITS(c, b) __asm__ volatile("vredmax.vs " #c ", " #b ", " #c ::: #c)
#define REDUCE_BITS_BELOW_0(c, b) __asm__ volatile("vredmaxu.vs " #c ", " #b ", " #c ::: #c)
#define BITS_TO(x, b) __asm__ volatile("vmv.x.s %0, " #b : "=r"(x))
#define HALF_SUM(c, b, start) __asm__ volatile("vfwredusum.vs " #c ", " #b ", " #start ::: #c)
#define ADD_HALVES(c, b) __asm__ volatile("vfwadd.wv " #c ", " #c ", " #b ::: #c)
#define TO_HALF(c, b) __asm__ volatile("vfncvt.f.f.w " #c ", " #b ::: #c)
#define STORE_HALVES(b, p) __asm__ volatile("vse16.v " #b ", (%0)" ::"r"(p) : "memory")
"""

CODE_BITS = 24
"""A code as the bits of a half precision number is that number times 2^24."""
SMALLEST, LARGEST = 0x1400, 0x7000
"""2^-10 and 2^13 in half precision: a largest magnitude between them needs no scale."""

_WIDE, _NARROW = ("v0", "v4"), ("v8", "v10", "v12", "v14")
_ABOVE, _BELOW, _ZERO, _TOTAL = "v16", "v18", "v20", "v24"
_SUMS = tuple(f"v{number}" for number in range(24, 32))


class _Pass:
    """Vectors of `size` elements, one step of each behind the same step of the one before."""

    def __init__(self, plan: StagePlan, lanes: int) -> None:
        self.plan, self.lanes = plan, lanes
        self.lmul = min(4, GROUP // lanes) if plan.storage == "int4" else 4
        self.size = self.lmul * lanes
        self.per_group = GROUP // self.size
        self.narrow = half_lmul(self.lmul)

    def lines(self) -> list[str]:
        """The whole pass, and the largest magnitude as bits, `above` for positive elements and `below` for others."""
        whole, left = divmod(self.plan.k, self.size)
        together = len(_SUMS) if self.plan.storage != "int4" else len(_SUMS) * self.per_group
        turns, rest = divmod(whole, together)
        lines = [f"SET_WIDE({self.size}, m{self.lmul});"]
        lines += [f"CLEAR({_TOTAL});"] if self.plan.storage == "int8" else []
        lines += [f"AS_HALF({self.narrow});", f"CLEAR({_ABOVE});", f"CLEAR({_BELOW});", f"CLEAR({_ZERO});"]
        if turns:
            head = f"for (size_t k = 0; k < {turns * together * self.size}; k += {together * self.size}) {{"
            lines += [head, *indented(self._vectors("k", together)), "}"]
        start = turns * together
        return [*lines, *self._end(start, rest, left), *self._largest()]

    def _end(self, start: int, rest: int, left: int) -> list[str]:
        """The vectors from `start` on, and a last one of `left` elements, which is read again with zeros behind it."""
        lines = []
        if left:
            at = (start + rest) * self.size
            # The last elements are rounded with a short vector length and stored before the zeros that follow them,
            # then read as a whole vector: nothing is read beyond the state.
            lines += [f"SET_WIDE({left}, m{self.lmul});", f"AS_HALF({self.narrow});", f"LOAD_FLOATS(v0, s + {at});"]
            lines += ["TO_HALF(v8, v0);", f"STORE_HALVES(v8, half + {at});"]
            lines += [f"SET_WIDE({self.size}, m{self.lmul});", f"AS_HALF({self.narrow});"]
        return [*lines, *self._vectors(str(start * self.size), rest + bool(left), ready=bool(left))]

    def _vectors(self, first: str, count: int, *, ready: bool = False) -> list[str]:
        """`count` vectors from element `first` on; `ready` is whether the last one is rounded already."""
        # Sorting by i + step is a software pipeline: step s of vector i stands beside step s - 1 of vector i + 1.
        steps = [self._steps(first, i, ready=ready and i == count - 1) for i in range(count)]
        order = sorted((i + step, step, i) for i, each in enumerate(steps) for step in range(len(each)))
        lines = [steps[i][step] for _, step, i in order]
        if self.plan.storage != "int4" or not count:
            return lines
        groups = range(-(-count // self.per_group))
        lines += [f"AS_WIDE(m{self.lmul});", f"float {', '.join(f'sum{i}' for i in groups)};"]
        lines += [f"FIRST_TO(sum{i}, {_SUMS[i]});" for i in groups]
        place = f"work + {WORK_HEAD} + {first} / {GROUP}"
        lines += [f"({place})[{i}] = sum{i} * {offset_text(self.plan)};" for i in groups]
        return ["{", *indented([*lines, f"AS_HALF({self.narrow});"]), "}"]

    def _steps(self, first: str, i: int, *, ready: bool) -> list[str]:
        """What is done with vector `i`, step after step."""
        wide, half, place = _WIDE[i % 2], _NARROW[i % 4], f"{first} + {i * self.size}"
        lines = [f"LOAD_FLOATS({wide}, s + {place});", f"TO_HALF({half}, {wide});"]
        lines += [f"STORE_HALVES({half}, half + {place});"]
        # Three places stay, so that all vectors have their later steps at the same place of the pipeline.
        if ready:
            lines = ["(void)0;", f"LOAD_HALVES({half}, half + {place});", "(void)0;"]
        lines += [f"LARGEST_BITS({_ABOVE}, {half});", f"LARGEST_BITS_BELOW_0({_BELOW}, {half});"]
        if self.plan.storage == "int8":
            lines.insert(3, f"ADD_HALVES({_TOTAL}, {half});")
        if self.plan.storage == "int4":
            group, part = divmod(i, self.per_group)
            lines.insert(3, f"HALF_SUM({_SUMS[group]}, {half}, {_SUMS[group] if part else _ZERO});")
        return lines

    def _largest(self) -> list[str]:
        lines = [f"REDUCE_BITS({_ABOVE}, {_ABOVE});", f"REDUCE_BITS_BELOW_0({_BELOW}, {_BELOW});"]
        lines += ["long above, below;", f"BITS_TO(above, {_ABOVE});", f"BITS_TO(below, {_BELOW});"]
        if self.plan.storage == "int8":
            lines += [f"AS_WIDE(m{self.lmul});", f"FIRST_FROM({_NARROW[0]}, 0.0f);", f"SUM({_NARROW[0]}, {_TOTAL});"]
            lines += ["float sum;", f"FIRST_TO(sum, {_NARROW[0]});", f"work[1] = sum * {offset_text(self.plan)};"]
        return lines


def rounding(plan: StagePlan, lanes: int, half: str, zeros: list[str]) -> list[str]:
    """The C of the pass: the state `s` in half precision at `half`, with `zeros` behind it, and what codes need."""
    # Codes are multiplied as subnormal numbers, 2^24 times too small; the factor at the end puts that right.
    back = 0 if plan.storage == "fp16" else CODE_BITS
    return [
        f"unsigned short *half = {half};",
        *zeros,
        *_Pass(plan, lanes).lines(),
        "const unsigned long largest = (below & 0x7fff) > above ? (below & 0x7fff) : above;",
        f"work[0] = 0x1p{back}f;",
        *([f"work[2] = 0x1p-{back}f;"] if plan.storage == "int4" else []),
        # One comparison of unsigned numbers for both bounds: what is below SMALLEST wraps around to a large number.
        f"if (largest - {SMALLEST:#x} >= {LARGEST - SMALLEST:#x}) slowly_{plan.number}(s, work);",
    ]


def offset_text(plan: StagePlan) -> str:
    """What the sum of a state is multiplied by to give what the offset of the codes adds to a sum."""
    return f"{float(OFFSETS[plan.storage] * 2.0**-CODE_BITS).hex()}f"

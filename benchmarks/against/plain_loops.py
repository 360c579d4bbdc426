"""One TT layer as plain C loops, as one would write them: the input of C compilers and of polyhedral optimisers.

Pure text. Sizes are compile-time constants, pointers are restrict, every stage is a function of its own; the ABI is
that of every kernel (lrf_dse/codegen/emit.py). A form is how one stage's S'[l] = A S[l] is looped over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.contractions import Contraction
from lrf_dse.cost.counts import FP32_BYTES, StageCount
from lrf_dse.tt.contraction import Core

LoopForm = Literal["t3f einsum", "t3f sum in memory", "einsum", "sum in memory", "i-k-j", "i-k-j in a row"]
"""The literal einsum: t3f's 'aijb,rjb->ira' (from the last core only) or the transpose-free S'[l,r,d] = sum_k, each
with a scalar sum, or with its sum in the array, which is what polyhedral optimisers can reorder. By hand: the
innermost loop over contiguous columns, or over the rows of a transposed A where there are none; with the sum in the
array, or in a local row."""

FROM_THE_LAST_CORE: tuple[LoopForm, ...] = ("t3f einsum", "t3f sum in memory")
"""The forms that t3f's order alone has."""

FUNCTION = "layer_loops"
_ALIGNED_FLOATS = 16


@dataclass(frozen=True, eq=False)
class LoopCode:
    """C source with the function FUNCTION, the weights that it reads, and its scratch."""

    source: str
    weights: NDArray[np.float32]
    scratch_bytes: int


def emit_loops(way: Contraction, cores: Sequence[Core], form: LoopForm, *, scop: bool = False) -> LoopCode:
    """The loops of the layer with these `cores`. `scop` marks the nests for source-to-source optimisers.

    Raises ValueError for t3f's einsum in another order than from the last core.
    """
    if form in FROM_THE_LAST_CORE:
        if way.order[-1] != 0 or not way.from_an_end:
            raise ValueError(f"t3f contracts from the last core, not in the {way.name}")
        stages = [_t3f_stage(core, rows, form) for core, rows in _t3f_rows(way, cores)]
        weights = [core.ravel() for core in reversed(way.cores(cores))]
    else:
        counts = [stage.count for stage in way.stages]
        stages = [_stage(count, form) for count in counts]
        matrices = zip(counts, way.matrices(cores), strict=True)
        weights = [(matrix.T if _by_rows(form, count) else matrix).ravel() for count, matrix in matrices]
    if form in FROM_THE_LAST_CORE and way.batch > 1:
        stages.append(_swap(way.shape.out_features, way.batch))
    return _assemble(stages, weights, scop=scop)


@dataclass(frozen=True)
class _Nest:
    """One stage: declarations of its arrays `s` (in), `a` and `t` (out), its loops, and what it writes."""

    arrays: tuple[str, ...]
    loops: tuple[str, ...]
    out_floats: int


def _by_rows(form: LoopForm, count: StageCount) -> bool:
    """Whether the innermost loop runs over the rows of A: by hand, where the state has no columns."""
    return form in ("i-k-j", "i-k-j in a row") and count.columns == 1


def _stage(count: StageCount, form: LoopForm) -> _Nest:
    b, k, r, d = count.batches, count.k, count.rows, count.columns
    out = b * r * d
    if _by_rows(form, count):
        arrays = (f"(*restrict S)[{k}] = s", f"(*restrict A)[{r}] = a", f"(*restrict T)[{r}] = t")
        return _Nest(arrays, _in_rows(b, k, r) if form == "i-k-j" else _in_a_row(b, k, r), out)
    arrays = (f"(*restrict S)[{k}][{d}] = s", f"(*restrict A)[{k}] = a", f"(*restrict T)[{r}][{d}] = t")
    outer = (f"for (int l = 0; l < {b}; l++)", f"  for (int r = 0; r < {r}; r++) {{")
    columns, terms = f"for (int d = 0; d < {d}; d++)", f"for (int k = 0; k < {k}; k++)"
    inner: tuple[str, ...]
    match form:
        case "einsum":
            inner = (
                f"    {columns} {{",
                "      float sum = 0;",
                f"      {terms} sum += A[r][k] * S[l][k][d];",
                "      T[l][r][d] = sum;",
                "    }",
            )
        case "sum in memory":
            inner = (
                f"    {columns} {{",
                "      T[l][r][d] = 0;",
                f"      {terms} T[l][r][d] += A[r][k] * S[l][k][d];",
                "    }",
            )
        case "i-k-j":
            inner = (
                f"    {columns} T[l][r][d] = 0;",
                f"    {terms}",
                f"      {columns} T[l][r][d] += A[r][k] * S[l][k][d];",
            )
        case _:
            inner = (
                f"    float row[{d}];",
                f"    {columns} row[d] = 0;",
                f"    {terms}",
                f"      {columns} row[d] += A[r][k] * S[l][k][d];",
                f"    {columns} T[l][r][d] = row[d];",
            )
    return _Nest(arrays, (*outer, *inner, "  }"), out)


def _in_rows(b: int, k: int, r: int) -> tuple[str, ...]:
    return (
        f"for (int l = 0; l < {b}; l++) {{",
        f"  for (int r = 0; r < {r}; r++) T[l][r] = 0;",
        f"  for (int k = 0; k < {k}; k++)",
        f"    for (int r = 0; r < {r}; r++) T[l][r] += A[k][r] * S[l][k];",
        "}",
    )


def _in_a_row(b: int, k: int, r: int) -> tuple[str, ...]:
    return (
        f"for (int l = 0; l < {b}; l++) {{",
        f"  float row[{r}];",
        f"  for (int r = 0; r < {r}; r++) row[r] = 0;",
        f"  for (int k = 0; k < {k}; k++)",
        f"    for (int r = 0; r < {r}; r++) row[r] += A[k][r] * S[l][k];",
        f"  for (int r = 0; r < {r}; r++) T[l][r] = row[r];",
        "}",
    )


def _t3f_rows(way: Contraction, cores: Sequence[Core]) -> list[tuple[Core, int]]:
    """The merged cores, last one first, each with the rows r of the state that it meets."""
    size, found = way.batch * way.shape.in_features, []
    for core in reversed(way.cores(cores)):
        a, i, j, b = core.shape
        rows = size // (j * b)
        found.append((core, rows))
        size = rows * i * a
    return found


def _t3f_stage(core: Core, rows: int, form: LoopForm) -> _Nest:
    a, i, j, b = core.shape
    arrays = (f"(*restrict S)[{j * b}] = s", f"(*restrict A)[{i}][{j * b}] = a", f"(*restrict T)[{rows}][{a}] = t")
    outer = (
        f"for (int i = 0; i < {i}; i++)",
        f"  for (int r = 0; r < {rows}; r++)",
        f"    for (int p = 0; p < {a}; p++) {{",
    )
    inner: tuple[str, ...] = (
        "      float sum = 0;",
        f"      for (int k = 0; k < {j * b}; k++) sum += A[p][i][k] * S[r][k];",
        "      T[i][r][p] = sum;",
    )
    if form == "t3f sum in memory":
        inner = (
            "      T[i][r][p] = 0;",
            f"      for (int k = 0; k < {j * b}; k++) T[i][r][p] += A[p][i][k] * S[r][k];",
        )
    return _Nest(arrays, (*outer, *inner, "    }"), i * rows * a)


def _swap(features: int, batch: int) -> _Nest:
    """[M, batch] -> [batch, M], the last step of t3f."""
    arrays = (f"(*restrict S)[{batch}] = s", f"(*restrict T)[{features}] = t")
    loops = (
        f"for (int l = 0; l < {batch}; l++)",
        f"  for (int m = 0; m < {features}; m++) T[l][m] = S[m][l];",
    )
    return _Nest(arrays, loops, batch * features)


def _assemble(nests: Sequence[_Nest], weights: Sequence[NDArray[np.float32]], *, scop: bool) -> LoopCode:
    """One function per stage, and FUNCTION that calls them; states alternate between two halves of the scratch."""
    half = max((-(-nest.out_floats // _ALIGNED_FLOATS) * _ALIGNED_FLOATS for nest in nests[:-1]), default=0)
    lines = ["#include <stddef.h>", ""]
    calls, packed, offset, state = [], [], 0, "x"
    for number, nest in enumerate(nests):
        target = "y" if number == len(nests) - 1 else f"scratch + {number % 2 * half}"
        calls.append(f"  stage_{number}({state}, weights + {offset}, {target});")
        lines += _function(number, nest, scop=scop)
        state = target
        if number < len(weights):
            room = -(-weights[number].size // _ALIGNED_FLOATS) * _ALIGNED_FLOATS
            packed.append(np.pad(weights[number], (0, room - weights[number].size)))
            offset += room
    arguments = "const float *x, const float *weights, float *scratch, float *y, size_t group"
    lines += [f"void {FUNCTION}({arguments}) {{", "  (void)group, (void)scratch;", *calls, "}", ""]
    return LoopCode("\n".join(lines), np.concatenate(packed), 2 * half * FP32_BYTES)


def _function(number: int, nest: _Nest, *, scop: bool) -> list[str]:
    parameters = "const float *restrict s, const float *restrict a, float *restrict t"
    constant = ["const " if not text.startswith("(*restrict T") else "" for text in nest.arrays]
    marks = ("#pragma scop", "#pragma endscop") if scop else ("", "")
    return [
        f"static __attribute__((noinline)) void stage_{number}({parameters}) {{",
        "  (void)a;",
        *(
            f"  {prefix}float {text.replace(' = ', ' = (void *)')};"
            for prefix, text in zip(constant, nest.arrays, strict=True)
        ),
        *([marks[0]] if scop else []),
        *(f"  {line}" for line in nest.loops),
        *([marks[1]] if scop else []),
        "}",
        "",
    ]

"""One stage of a kernel in plain C: for chips without a vector unit, and for any other machine (tests on the host).

Same packed weights and same function as `lrf_dse.codegen.loops` writes with vectors. A tile is at most TILE rows of A
by TILE columns of the state, or by TILE batches where a stage has few columns: its sums stay in registers, and there
are enough of them to hide the latency of the multiply-add on an in-order core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lrf_dse.codegen.loops import over_k, panel_terms
from lrf_dse.codegen.microkernel import float_text
from lrf_dse.codegen.phases import stage_code
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.scalar_widening import (
    scalar_stream_function,
    scalar_widening_calls,
    scalar_widening_functions,
)
from lrf_dse.codegen.text import Term, at, indented, loop
from lrf_dse.codegen.tile import Finish
from lrf_dse.codegen.tiling import PanelRun, panel_runs

TILE = 4
"""4 x 4 sums and 8 operands take 24 of 32 registers, and two multiply-adds need one load."""

MACROS = """\
/* The value is made here, not elsewhere: clang would put all loads of a step first (U74: 63% of peak, not 76%). */
#ifdef __riscv
#define IN_ORDER(value) __asm__ volatile("" : "+f"(value))
#else
#define IN_ORDER(value) ((void)0)
#endif
"""


def scalar_stage_function(plan: StagePlan) -> list[str]:
    """The C functions of one stage: its tiles, then stage_N itself."""
    if plan.is_stream and plan.storage != "fp32":
        return scalar_stream_function(plan, _finished(plan, "total[row]", "bias[place + first + row]"))
    body = _by_batches(plan) if tiles_batches(plan) else _by_columns(plan)
    shape = (
        f"S' [{plan.batches}, {plan.rows}, {plan.columns}] = A [{plan.rows}, K] S [{plan.batches}, K, {plan.columns}]"
    )
    return [
        *scalar_widening_functions(plan),
        *(line for height, width in sorted(_tile_sizes(plan)) for line in (*_tile_function(plan, height, width), "")),
        *stage_code(plan, f"{shape}, K = {plan.k * plan.k_slices}", body),
    ]


def tiles_batches(plan: StagePlan) -> bool:
    """Whether a tile is several batches wide, not several columns."""
    return plan.columns < TILE <= plan.batches


def _by_columns(plan: StagePlan) -> list[str]:
    """Batch after batch, panel after panel: a panel's rows stay near while the columns pass."""
    by_batch = plan.batches >= plan.groups
    panels: list[str] = []
    for run in panel_runs(plan.panels):
        tiles: list[str] = []
        for columns in parts(plan.columns):
            for rows in parts(run.first.rows):
                call = _tile_call(plan, run, rows, columns)
                tiles += loop("c", columns.count, loop("r", rows.count, [call]))
        if plan.storage != "fp32":  # widened once, before all batches
            tiles = loop("l", plan.batches, tiles, groups=plan.groups if by_batch else 1)
            tiles = over_k(plan, [*scalar_widening_calls(plan, run), *tiles])
        panels += loop("p", run.count, tiles, groups=1 if by_batch else plan.groups)
    if plan.storage != "fp32":
        return panels
    return loop("l", plan.batches, over_k(plan, panels), groups=plan.groups if by_batch else 1)


def _by_batches(plan: StagePlan) -> list[str]:
    """Tiles of several batches; the inner loop goes over the smaller operand, A or the state, which then stays near."""
    state_inside = plan.batches < plan.rows or plan.storage != "fp32"
    panels: list[str] = []
    for run in panel_runs(plan.panels):
        tiles: list[str] = []
        for rows in parts(run.first.rows):
            each = Part(1, 0, plan.columns)
            wide = _tile_call(plan, run, rows, each, batches=TILE)
            narrow = _tile_call(plan, run, rows, each)
            choice = [f"if (some == {TILE})", *indented([wide]), "else", *indented([narrow])]
            tiles += loop("r", rows.count, loop("c", plan.columns, choice))
        inside = _over_batches(plan, tiles) if state_inside else tiles
        if plan.storage != "fp32":
            inside = over_k(plan, [*scalar_widening_calls(plan, run), *inside])
        panels += loop("p", run.count, inside)
    if plan.storage != "fp32":
        return panels
    return over_k(plan, panels if state_inside else _over_batches(plan, panels))


def _over_batches(plan: StagePlan, body: list[str]) -> list[str]:
    """`body` for `some` batches from l on: TILE, or one where no whole tile fits."""
    begin, end = "0", str(plan.batches)
    if plan.groups > 1:
        begin, end = f"{plan.batches} * group / {plan.groups}", f"{plan.batches} * (group + 1) / {plan.groups}"
    fits = f"l + {TILE} <= {end}"
    if plan.has_bias and 1 < plan.bias_batches < plan.batches:
        # A tile must not cross from one row of y to the next: there the bias starts again.
        fits = f"({fits} && l % {plan.bias_batches} + {TILE} <= {plan.bias_batches})"
    # `some` is how many batches this turn takes.
    head = f"for (size_t l = {begin}, some; l < {end}; l += some) {{"
    return [head, *indented([f"some = {fits} ? {TILE} : 1;", *body]), "}"]


@dataclass(frozen=True)
class Part:
    """`count` pieces of `size` rows or columns each, from `start` on."""

    size: int
    start: int
    count: int


def parts(total: int) -> Iterator[Part]:
    """The tiles that cover `total` rows or columns: full ones, then what is left."""
    full, left = divmod(total, TILE)
    if full:
        yield Part(TILE, 0, full)
    if left:
        yield Part(left, full * TILE, 1)


def _tile_call(plan: StagePlan, run: PanelRun, rows: Part, columns: Part, *, batches: int = 0) -> str:
    """The call of one tile, `batches` wide or as wide as the `columns`, in the loops over l, ks, p, r and c."""
    column = (("c", columns.size, columns.count), ("", columns.start, 1))
    place: tuple[Term, ...] = (
        ("p", run.first.rows * plan.columns, run.count),
        ("r", rows.size * plan.columns, rows.count),
        *column,
        ("", (run.first.row + rows.start) * plan.columns, 1),
    )
    panel = at("w", *panel_terms(plan, run, run.count)) if plan.storage == "fp32" else "work"
    arguments = [
        at(panel, ("r", rows.size, rows.count), ("", rows.start, 1)),
        str(run.first.width),
        at("s", ("l", plan.in_step, plan.batches), ("ks", plan.k * plan.columns, plan.k_slices), *column),
        at("out", ("l", plan.out_step, plan.batches), *place),
    ]
    if plan.has_bias:
        arguments.append(at("bias", (f"l % {plan.bias_batches}", plan.out_step, plan.bias_batches), *place))
    arguments += ["first"] * plan.partial + ["last"] * (plan.partial and plan.finish is not None)
    return f"{_tile_name(plan, rows.size, batches or columns.size)}({', '.join(arguments)});"


def _tile_name(plan: StagePlan, height: int, width: int) -> str:
    return f"tile_{plan.number}_{height}x{width}"


def _tile_sizes(plan: StagePlan) -> set[tuple[int, int]]:
    """Rows and columns of the tiles that the loops call."""
    # One function for each size that occurs: bounds known to the compiler let it keep all sums in registers.
    heights = {part.size for panel in plan.panels for part in parts(panel.rows)}
    widths = {TILE, 1} if tiles_batches(plan) else {part.size for part in parts(plan.columns)}
    return {(height, width) for height in heights for width in widths}


def _tile_function(plan: StagePlan, height: int, width: int) -> list[str]:
    """The C function of a tile: `a` holds its rows side by side for every k, `a_step` floats apart."""
    sums = [(r, c) for r in range(height) for c in range(width)]
    in_step, out_step, bias_step = 1, 1, 1
    if tiles_batches(plan):
        in_step, out_step, bias_step = plan.in_step, plan.out_step, plan.bias_step
    parameters = ["const float *a", "size_t a_step", "const float *b", "float *out"]
    parameters += ["const float *bias"] if plan.has_bias else []
    parameters += ["int first"] * plan.partial + ["int last"] * (plan.partial and plan.finish is not None)
    start = "first ? 0.0f : {0}" if plan.partial else "0.0f"
    outputs = {(r, c): f"out[{r * plan.columns + c * out_step}]" for r, c in sums}
    biases = {(r, c): f"bias[{r * plan.columns + c * bias_step}]" for r, c in sums}
    finish = [line for r, c in sums for line in _finished(plan, f"sum{r}{c}", biases[r, c])]
    if plan.partial and finish:
        finish = ["if (last) {", *indented(finish), "}"]
    return [
        f"/* {height} x {width} sums of {plan.k} terms each. */",
        f"static inline void {_tile_name(plan, height, width)}({', '.join(parameters)})",
        "{",
        *indented(
            [
                *(f"float sum{r}{c} = {start.format(outputs[r, c])};" for r, c in sums),
                *(f"float a{r} = a[{r}];" for r in range(height)),
                *(f"float b{c} = b[{c * in_step}];" for c in range(width)),
                # Each turn loads the operands of the next step, so the last products stand behind the loop.
                f"for (size_t k = 1; k < {plan.k}; k++) {{",
                *indented(["a += a_step;", f"b += {plan.columns};", *_step(height, width, in_step)]),
                "}",
                *(f"sum{r}{c} += a{r} * b{c};" for r, c in sums),
                *finish,
                *(f"{outputs[r, c]} = sum{r}{c};" for r, c in sums),
            ]
        ),
        "}",
    ]


def _step(height: int, width: int, in_step: int) -> list[str]:
    """Multiply-adds of one k; each operand of the next k is loaded when this one has had its last use.

    So loads fall between multiply-adds, which an in-order core with two pipes runs side by side.
    """
    lines = []
    for c in range(width):
        for r in range(height):
            lines.append(f"sum{r}{c} += a{r} * b{c}; IN_ORDER(sum{r}{c});")
            lines += [f"a{r} = a[{r}]; IN_ORDER(a{r});"] if c == width - 1 else []
        lines.append(f"b{c} = b[{c * in_step}]; IN_ORDER(b{c});")
    return lines


def _finished(plan: StagePlan, value: str, bias: str) -> list[str]:
    """The bias and the activation of the layer's last stage."""
    finish: Finish | None = plan.finish
    if finish is None:
        return []
    # A comparison with NaN is false: it stays, which fminf and fmaxf would not do.
    lines = [f"{value} += {bias};"] if finish.has_bias else []
    bounds = finish.activation
    if bounds and bounds.low is not None:
        lines.append(f"if ({value} < {float_text(bounds.low)}) {value} = {float_text(bounds.low)};")
    if bounds and bounds.high is not None:
        lines.append(f"if ({value} > {float_text(bounds.high)}) {value} = {float_text(bounds.high)};")
    return lines

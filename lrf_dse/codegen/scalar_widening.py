"""Weights of few bits in plain C: panels widened into the working space, and streams that are widened as they go."""

from __future__ import annotations

from lrf_dse.codegen.phases import stage_parameters
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.storage import OFFSETS, code_bytes, groups_of, row_bytes, scale_bytes
from lrf_dse.codegen.text import at, indented, loop
from lrf_dse.codegen.tiling import PanelRun, panel_runs
from lrf_dse.codegen.widening import panel_at

TOGETHER = 4
"""Rows of a stream that are summed up side by side."""


def scalar_widening_functions(plan: StagePlan) -> list[str]:
    """The C functions that widen panels to [k, width], one for each width; none in fp32 and for streams."""
    if plan.storage == "fp32" or plan.is_stream:
        return []
    lines: list[str] = []
    for width in sorted({panel.width for panel in plan.panels}):
        lines += [
            f"/* {width} rows of {plan.k} {plan.storage} elements. */",
            f"static void {_name(plan, width)}(const unsigned char *from, float *to)",
            "{",
            *indented(_panel(plan, width)),
            "}",
            "",
        ]
    return lines


def scalar_widening_calls(plan: StagePlan, run: PanelRun) -> list[str]:
    """The call that widens panel p of `run`; none in fp32."""
    if plan.storage == "fp32":
        return []
    return [f"{_name(plan, run.first.width)}({panel_at(plan, run)}, work);"]


def _name(plan: StagePlan, width: int) -> str:
    return f"widen_{plan.number}_{width}"


def _panel(plan: StagePlan, width: int) -> list[str]:
    lines, first = [], 0
    for group, size in enumerate(groups_of(plan.k) if plan.storage == "int4" else [plan.k]):
        scale = f" * {_scale(plan, width, group, 'row')}" if plan.storage != "fp16" else ""
        value = f"{_element(plan, width, group, size, 'row')}{scale}"
        store = f"to[({first} + k) * {width} + row] = {value};"
        head = [f"for (size_t row = 0; row < {width}; row++)", f"  for (size_t k = 0; k < {size}; k++)"]
        lines += [*head, f"    {store}"]
        first += size
    return lines


def _element(plan: StagePlan, width: int, group: int, size: int, row: str) -> str:
    """Element k of a group (int4) or of the panel in row `row`, without its scale."""
    storage = plan.storage
    start, step, row_step = 0, width, 1
    if plan.packed.by_rows:
        start, step, row_step = group * 16, 1, row_bytes(storage, plan.k) // (2 if storage == "fp16" else 1)
    elif storage == "int4":
        start = group * (code_bytes("int4", 32, width) + scale_bytes("int4", width))
    place = f"{start} + {row} * {row_step}"
    if storage == "fp16":
        return f"half_to_float(((const unsigned short *)from)[{place} + k * {step}])"
    if storage == "int8":
        return f"(float)((int)from[{place} + k * {step}] - {OFFSETS[storage]})"
    if plan.packed.by_rows:
        half = -(-size // 2)
        nibble = f"(from[{place} + k % {half}] >> (k / {half} * 4) & 15)"
    else:
        nibble = f"(from[{place} + k / 2 * {step}] >> (k % 2 * 4) & 15)"
    return f"(float)((int){nibble} - {OFFSETS[storage]})"


def _scale(plan: StagePlan, width: int, group: int, row: str) -> str:
    """The scale of row `row`."""
    storage, k = plan.storage, plan.k
    if storage == "int8":
        return f"((const float *)(from + {code_bytes(storage, k, width)}))[{row}]"
    if plan.packed.by_rows:
        scales = f"(const unsigned short *)(from + {width * row_bytes(storage, k)})"
        return f"half_to_float(({scales})[{row} * {len(groups_of(k))} + {group}])"
    stride = code_bytes(storage, 32, width) + scale_bytes(storage, width)
    offset = group * stride + code_bytes(storage, groups_of(k)[group], width)
    return f"half_to_float(((const unsigned short *)(from + {offset}))[{row}])"


def scalar_stream_function(plan: StagePlan, finished: list[str]) -> list[str]:
    """The C function stage_N of a stream of few bits; `finished` adds bias and activation to `total[row]`."""
    body: list[str] = []
    for run in panel_runs(plan.panels):
        rows = run.first.rows
        panel = [
            f"const unsigned char *from = {panel_at(plan, run)};",
            f"const size_t place = {at('0', ('p', run.first.width, run.count), ('', run.first.row, 1))};",
            f"for (size_t first = 0; first < {rows}; first += {TOGETHER}) {{",
            f"  const size_t rows = {rows} - first < {TOGETHER} ? {rows} - first : {TOGETHER};",
            f"  float total[{TOGETHER}] = {{0}};",
            *indented(_groups(plan, run)),
            "  for (size_t row = 0; row < rows; row++) {",
            *indented(indented(finished)),
            "    out[place + first + row] = total[row];",
            "  }",
            "}",
        ]
        whole = loop("p", run.count, panel, groups=plan.groups)
        body += whole if len(whole) != len(panel) else ["{", *indented(panel), "}"]
    return [
        f"/* Stage {plan.number}: S' [{plan.rows}] = A [{plan.rows}, {plan.k}] S, {plan.storage}. */",
        f"static void stage_{plan.number}({', '.join(stage_parameters(plan))})",
        "{",
        *indented(["(void)work;"] if plan.work_floats else []),
        *indented(body),
        "}",
    ]


def _groups(plan: StagePlan, run: PanelRun) -> list[str]:
    """The sums of some rows, group after group."""
    lines, start, width = [], 0, run.first.width
    for group, size in enumerate(groups_of(plan.k) if plan.storage == "int4" else [plan.k]):
        element = _element(plan, width, group, size, "(first + row)")
        scale = f" * {_scale(plan, width, group, '(first + row)')}" if plan.storage != "fp16" else ""
        lines += [
            "{",
            f"  float sum[{TOGETHER}] = {{0}};",
            f"  for (size_t k = 0; k < {size}; k++)",
            f"    for (size_t row = 0; row < {TOGETHER}; row++)",
            f"      sum[row] += row < rows ? s[{start} + k] * {element} : 0.0f;",
            "  for (size_t row = 0; row < rows; row++)",
            f"    total[row] += sum[row]{scale};",
            "}",
        ]
        start += size
    return lines

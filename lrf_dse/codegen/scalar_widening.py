"""Weights of few bits in plain C: panels widened into the working space, and streams that are widened as they go."""

from __future__ import annotations

from collections.abc import Iterator

from lrf_dse.codegen.phases import one_column, stage_code
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.storage import ELEMENT_BITS, OFFSETS, PER_WORD, code_bytes, groups_of, row_bytes, scale_bytes
from lrf_dse.codegen.text import at, indented, loop
from lrf_dse.codegen.tiling import PanelRun, panel_runs
from lrf_dse.codegen.widening import panel_at, panel_function, panel_functions
from lrf_dse.schema import Storage
from lrf_dse.tt.grid import GROUP

TOGETHER = 4
"""Rows of a stream that are summed up side by side."""


def scalar_widening_functions(plan: StagePlan) -> list[str]:
    """The C functions that widen panels to [k, width], one for each width; none in fp32 and for streams."""
    if plan.storage == "fp32" or plan.is_stream:
        return []
    return panel_functions(plan, lambda width: widened_panel(plan, width))


def scalar_widening_calls(plan: StagePlan, run: PanelRun) -> list[str]:
    """The call that widens panel p of `run`; none in fp32."""
    if plan.storage == "fp32":
        return []
    return [f"{panel_function(plan, run.first.width)}({panel_at(plan, run)}, work);"]


def _groups(plan: StagePlan) -> list[int]:
    """The numbers of elements along K that share scales."""
    return groups_of(plan.k) if plan.storage == "int4" else [plan.k]


def widened_panel(plan: StagePlan, width: int) -> list[str]:
    """The body of the C function that widens a panel at `from` to the floats `to` [k, width]."""
    lines, first = [], 0
    for group, size in enumerate(_groups(plan)):
        scale = f" * {_scale(plan, width, group, 'row')}" if plan.storage != "fp16" else ""
        for count, step, elements in _elements(plan, width, group, size, "row"):
            lines += [f"for (size_t row = 0; row < {width}; row++)", f"  for (size_t k = 0; k < {count}; k++) {{"]
            for part, element in enumerate(elements):
                lines += [f"    to[({first + part} + {step} * k) * {width} + row] = {element}{scale};"]
            lines += ["  }"]
            first += count * step
    return lines


def _elements(plan: StagePlan, width: int, group: int, size: int, row: str) -> Iterator[tuple[int, int, list[str]]]:
    """How often, and of how many elements along K, then these in step k of row `row`, without their scale.

    They are those of a group (int4) or of the whole panel.
    """
    storage = plan.storage
    if storage == "fp16":
        place = f"{row} * {plan.k} + k" if plan.packed.by_rows else f"k * {width} + {row}"
        yield size, 1, [f"half_to_float(((const unsigned short *)from)[{place}])"]
        return
    start, per_word = 0, PER_WORD[storage]
    if plan.packed.by_rows:
        line = f"{row} * {row_bytes(storage, plan.k)} + {group * 16} + k"
        # Row by row, low nibbles are the first half of a group and high nibbles the second one.
        half = -(-size // 2)
        if storage == "int8":
            yield size, 1, [_code(f"from[{line}]", 0, storage)]
        for part, count in enumerate((half, size - half)) if storage == "int4" else ():
            yield count, 1, [_code(f"from[{line}]", part, storage)]
        return
    if storage == "int4":
        start = group * (code_bytes("int4", GROUP, width) + scale_bytes("int4", width))
    left = size % per_word
    # What is left along K is one more word if it fills more than half of one, else a byte for each row
    # (lrf_dse/codegen/storage.py).
    words = size // per_word + (left > per_word // 2)
    whole = size // per_word
    place = f"((const unsigned short *)(from + {start}))[k * {width} + {row}]"
    if whole:
        yield whole, per_word, [_code(place, part, storage) for part in range(per_word)]
    if left:
        at_end = place.replace("k *", f"{whole} *") if words > whole else f"from[{start + 2 * whole * width} + {row}]"
        yield 1, left, [_code(at_end, part, storage) for part in range(left)]


def _code(word: str, part: int, storage: Storage) -> str:
    """Code number `part` of a word, as a float."""
    bits = ELEMENT_BITS[storage]
    # The offset that made the code unsigned comes off as an integer: exact.
    return f"(float)((int)({word} >> {part * bits} & {(1 << bits) - 1}) - {OFFSETS[storage]})"


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
            *indented(_sums(plan, run)),
            "  for (size_t row = 0; row < rows; row++) {",
            *indented(indented(finished)),
            "    out[place + first + row] = total[row];",
            "  }",
            "}",
        ]
        # A loop that runs once leaves no braces, which the declarations of a panel need.
        whole = loop("p", run.count, panel, groups=plan.groups)
        body += whole if len(whole) != len(panel) else ["{", *indented(panel), "}"]
    return stage_code(plan, one_column(plan), [*(["(void)work;"] if plan.work_floats else []), *body])


def _sums(plan: StagePlan, run: PanelRun) -> list[str]:
    """The sums of some rows, group after group."""
    lines, start, width = [], 0, run.first.width
    for group, size in enumerate(_groups(plan)):
        scale = f" * {_scale(plan, width, group, '(first + row)')}" if plan.storage != "fp16" else ""
        lines += ["{", f"  float sum[{TOGETHER}] = {{0}};"]
        for count, step, elements in _elements(plan, width, group, size, "(first + row)"):
            # The scale stands outside the sum: one multiplication for a group, not one for each element.
            products = " + ".join(f"s[{start + part} + {step} * k] * {each}" for part, each in enumerate(elements))
            lines += [
                f"  for (size_t k = 0; k < {count}; k++)",
                f"    for (size_t row = 0; row < {TOGETHER}; row++)",
                f"      sum[row] += row < rows ? {products} : 0.0f;",
            ]
            start += count * step
        lines += ["  for (size_t row = 0; row < rows; row++)", f"    total[row] += sum[row]{scale};", "}"]
    return lines

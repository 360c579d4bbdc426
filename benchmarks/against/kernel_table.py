"""The kernel benchmark as text: one row a kernel, the means, the stages against their bounds. Decides no number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.against.kernel_report import RIVALS

Row = tuple[str, ...]

TITLES: Mapping[str, str] = {
    "ours": "ours, fp32",
    "ours_fp16": "ours, fp16",
    "ours_int8": "ours, int8",
    "ours_int4": "ours, int4",
    "iree_as_used": "IREE, as used",
    "iree_t3f": "IREE, t3f, best flags",
    "iree_transpose_free": "IREE, transpose-free, best flags",
    "iree": "IREE, best",
    "polly": "Polly",
    "pluto_default": "Pluto, default",
    "pluto": "Pluto, best",
    "c_literal": "C, einsum",
    "c_hand": "C, i-k-j",
    "c": "best C",
    "dense_iree": "dense, IREE",
    "dense_packed": "dense, ours",
}

SHOWN = (
    *("iree_as_used", "iree", "polly", "pluto_default", "pluto", "c", "dense_iree", "dense_packed"),
    *("ours_fp16", "ours_int8", "ours_int4"),
)
"""The ratios that tables show, in this order; the CSV has those of all columns."""

SLOWER_THAN_DENSE, SLOWER = "D", "!"
"""Marks of a row: slower than dense; slower than another column of the same compressed layer."""


def title(name: str, report: Mapping[str, Any]) -> str:
    """A column's title, with the version of the tool where the report names one."""
    return str(report["titles"].get(name, TITLES[name]))


def shown(report: Mapping[str, Any]) -> list[str]:
    """The ratios of SHOWN that some row has."""
    return [name for name in SHOWN if report["geomean_rows"][name]]


def kernel_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """One row a kernel: our cycles in fp32 and their share of the row's own roofline, then every ratio to ours."""
    names = shown(report)
    head = ("kernel", "TT shape", ">ours, cycles", ">% of roofline", *(f">{title(name, report)}" for name in names), "")
    return head, [_kernel_row(row, names) for row in report["rows"]]


def _kernel_row(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    ours = row["columns"].get("ours", {})
    shape = f"{'x'.join(map(str, row['out_dims']))} / {'x'.join(map(str, row['in_dims']))}"
    marks = SLOWER_THAN_DENSE * any(name.startswith("dense") for name in row["slower_than"])
    marks += SLOWER * any(name in RIVALS for name in row["slower_than"])
    share = _percent(ours.get("percent_of_roofline"))
    return (row["name"], shape, _figure(ours), share, *(_times(row["ratios"][name]) for name in names), marks)


def _figure(column: Mapping[str, Any]) -> str:
    if "cycles" not in column:
        return "failed" if "failure" in column else "-"
    cycles = column["cycles"]
    return f"{cycles:,.0f}" if cycles >= 1 else f"{cycles:.3g}"


def failures(report: Mapping[str, Any]) -> list[str]:
    """One line for every column that failed on a row."""
    return [
        f"{row['name']}: {title(name, report)}: {column['failure']['stage']}: {column['failure']['reason']}"
        for row in report["rows"]
        for name, column in row["columns"].items()
        if "failure" in column
    ]


def headline_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The mean of every ratio over all rows, with the least and the most over the timing model's switches."""
    head: Row = ("column", ">times ours", ">least", ">most", ">rows")
    rows: list[Row] = []
    for name in shown(report):
        least, most = report["spans"][name] or (None, None)
        count = f"{report['geomean_rows'][name]} of {report['rows_measured']}"
        rows.append((title(name, report), _times(report["geomean"][name]), _times(least), _times(most), count))
    return head, rows


def summary_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The geometric means under the model as it is and under every switch, and the share of the FMA peak."""
    models = {"as it is": report} | {k: v for k, v in report["switches"].items() if k != "default"}
    names = shown(report)
    head = ("model", *(f">{title(name, report)}" for name in names), ">% of peak, large stages in L2")
    return head, [
        (label, *(_mean(means, name) for name in names), _percent(_hundredfold(means["peak_fraction"])))
        for label, means in models.items()
    ]


def kind_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The means for each kind of rows, the model as it is; beside them the share of the rows' own rooflines."""
    names = shown(report)
    head = ("rows", ">count", ">% of roofline", *(f">{title(name, report)}" for name in names))
    kinds = {**report["kinds"], "all": report}
    return head, [
        (
            label,
            str(means["rows_measured"]),
            _percent(means["percent_of_roofline"]["ours"]),
            *(_mean(means, name) for name in names),
        )
        for label, means in kinds.items()
    ]


def storage_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The share of its own roofline that each storage of ours reaches, for each kind of rows."""
    columns = list(report["percent_of_roofline"])
    head = ("rows", *(f">{title(name, report)}" for name in columns))
    kinds = {**report["kinds"], "all": report}
    return head, [
        (label, *(_percent(means["percent_of_roofline"][name]) for name in columns)) for label, means in kinds.items()
    ]


def _mean(means: Mapping[str, Any], name: str) -> str:
    """A geometric mean, with the number of rows behind it where these are not all."""
    behind = means["geomean_rows"][name]
    return _times(means["geomean"][name]) + (f" ({behind} rows)" if 0 < behind < means["rows_measured"] else "")


def stage_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Every stage of our kernels with its own bound, and how close it comes."""
    head: Row = (
        "kernel",
        ">stage",
        ">batches x rows x K x columns",
        ">FMA",
        ">bytes",
        ">cycles",
        ">% of bound",
        "in L2",
    )
    rows: list[Row] = []
    for row in report["rows"]:
        for number, stage in enumerate(row["stages"], start=1):
            cycles = stage["cycles"].get("default")
            sizes = " x ".join(str(stage[key]) for key in ("batches", "rows", "k", "columns"))
            share = _percent(100 * stage["bound"] / cycles if cycles else None)
            figures = (f"{stage['fma_cycles']:,.0f}", f"{stage['byte_cycles']:,.0f}", f"{cycles or 0:,.0f}", share)
            rows.append((row["name"], str(number), sizes, *figures, "yes" if stage["fits_l2"] else "no"))
    return head, rows


def dense_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Every layer against IREE's dense one: cycles and times ours, warm and cold caches; break-even ranks."""
    head: Row = (
        "kernel",
        ">ours",
        ">cold",
        ">dense",
        ">cold",
        ">dense / ours",
        ">cold",
        ">dense at its bound",
        ">times",
        ">break-even rank",
        ">% FLOPs",
    )
    rows: list[Row] = []
    for row in report["rows"]:
        ours, dense = (row["columns"].get(name, {}) for name in ("ours", "dense_iree"))
        if "cycles" not in ours:
            continue
        cycles = (_whole(column.get(kind)) for column in (ours, dense) for kind in ("cycles", "cold_cycles"))
        against = row["against_dense"] or {"warm": None, "cold": None, "break_even_rank": None}
        times = (_times(against["warm"]), _times(against["cold"]))
        rank, bound = against["break_even_rank"], row["dense_bound"]
        even = "-" if rank is None else f"{rank}" + (" (all)" if against["up_to_cap"] else "")
        best_dense = (_whole(bound), _times(bound / ours["cycles"] if bound else None))
        share = _percent(100 * row["flops"] / row["dense_flops"])
        rows.append((row["name"], *cycles, *times, *best_dense, even, share))
    return head, rows


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

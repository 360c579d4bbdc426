"""The kernel benchmark as text: one row a kernel, the means, the stages against their bounds. Decides no number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, ...]

TITLES: Mapping[str, str] = {
    "ours": "ours",
    "iree_t3f": "IREE, t3f",
    "iree_transpose_free": "IREE, transpose-free",
    "polyhedral": "polyhedral",
    "c_literal": "C, einsum",
    "c_hand": "C, i-k-j",
    "dense_iree": "dense, IREE",
    "dense_packed": "dense, ours",
    "c": "best C",
    "dense": "dense",
}

_LEVELS = ("l1", "l2", "dram")
"""What instructions accessed, and what came from beyond the first and the second cache (Measurement.bytes_by_level)."""

SLOWER_THAN_DENSE, SLOWER = "D", "!"
"""Marks of a row: slower than dense; slower than another column of the same compressed layer."""


def kernel_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Titles and rows: figures, times ours in brackets, shares of the peak and bytes of ours."""
    columns = [name for name in TITLES if any(name in row["columns"] for row in report["rows"])]
    head = (
        "kernel",
        "TT shape",
        *(f">{title(name, report)}" for name in columns),
        ">% peak",
        *(f">{level.upper()} KiB" for level in _LEVELS),
        "",
    )
    return head, [_kernel_row(row, columns) for row in report["rows"]]


def title(name: str, report: Mapping[str, Any]) -> str:
    """A column's title; the polyhedral one never claims Pluto where there was none."""
    return str(report["polyhedral"]) if name == "polyhedral" else TITLES[name]


def _kernel_row(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    ours = row["columns"]["ours"]
    moved = ours.get("bytes", {})
    shape = f"{'x'.join(map(str, row['out_dims']))} / {'x'.join(map(str, row['in_dims']))}"
    marks = SLOWER_THAN_DENSE * row["slower_than_dense"]
    marks += SLOWER * bool(set(row["slower_than"]) - {"dense"})
    return (
        row["name"],
        shape,
        *(_figure(row["columns"].get(name), ours.get("cycles") if name != "ours" else None) for name in columns),
        _percent(ours.get("percent_of_peak")),
        *(f"{moved[level] / 1024:.0f}" if level in moved else "-" for level in _LEVELS),
        marks,
    )


def _figure(column: Mapping[str, Any] | None, ours: float | None) -> str:
    if column is None:
        return "-"
    if "failure" in column:
        return "failed"
    cycles = column["cycles"]
    text = f"{cycles:,.0f}" if cycles >= 1 else f"{cycles:.3g}"
    return f"{text} ({cycles / ours:.2f})" if ours else text


def failures(report: Mapping[str, Any]) -> list[str]:
    """One line for every column that failed on a row."""
    return [
        f"{row['name']}: {title(name, report)}: {column['failure']['stage']}: {column['failure']['reason']}"
        for row in report["rows"]
        for name, column in row["columns"].items()
        if "failure" in column
    ]


def summary_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The geometric means under the model as it is and under every switch, and the share of the FMA peak."""
    models = {"as it is": report} | {k: v for k, v in report["switches"].items() if k != "default"}
    return _means("model", models, report)


def kind_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The same for each kind of rows by itself, under the model as it is."""
    return _means("rows", report["kinds"], report)


def _means(what: str, of: Mapping[str, Any], report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    names = list(report["geomean"])
    head = (what, *(f">{title(name, report)}" for name in names), ">% peak, large stages in L2")
    return head, [
        (
            label,
            *(_mean(means, name) for name in names),
            _percent(means["peak_fraction"] and 100 * means["peak_fraction"]),
        )
        for label, means in of.items()
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


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

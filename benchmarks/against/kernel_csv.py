"""All figures of the kernel benchmark as one CSV, a line for each column of each row; and two such files compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.against.kernel_report import RATIOS, geomean
from benchmarks.against.kernel_table import Row, title
from lrf_dse.errors import UsageError

HEAD = (
    *("kernel", "kind", "out_dims", "in_dims", "ranks", "batch", "flops", "column", "cycles", "cold_cycles"),
    *("times_ours", "least", "most", "percent_of_roofline", "percent_of_peak", "max_rel_error", "variants", "variant"),
)
"""`least` and `most` are those of `times_ours` over the timing model's switches; `variants` counts those tried."""

Figures = Mapping[tuple[str, str], float]
"""Cycles by kernel and column."""


def csv_text(report: Mapping[str, Any]) -> str:
    """The report's figures; a column that failed on a row has its reason in the place of its variant."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEAD)
    for row in report["rows"]:
        shape = ("x".join(map(str, row[key])) for key in ("out_dims", "in_dims", "ranks"))
        kernel = (row["name"], row["kind"], *shape, row["batch"], row["flops"])
        for name, column in row["columns"].items():
            writer.writerow((*kernel, name, *_figures(column, row["columns"]["ours"])))
    return buffer.getvalue()


def _figures(column: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[object]:
    tried = len(column["trials"])
    if "cycles" not in column:
        reason = f"{column['failure']['stage']}: {column['failure']['reason']}"
        yield from (*[""] * 8, tried, reason)
        return
    times = [column["sweep"][model] / own for model, own in ours.get("sweep", {}).items() if column["sweep"].get(model)]
    yield from (f"{column['cycles']:g}" if column["cycles"] < 1 else f"{column['cycles']:.0f}", column["cold_cycles"])
    yield f"{column['cycles'] / ours['cycles']:.3f}" if "cycles" in ours else ""
    yield from (f"{least(times):.3f}" if times else "" for least in (min, max))
    yield from (_rounded(column[share]) for share in ("percent_of_roofline", "percent_of_peak"))
    yield from (f"{column['max_rel_error']:.1e}", tried, column["variant"])


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def read_cycles(path: Path) -> Figures:
    """The cycles of an earlier CSV. Raises UsageError, with the file and the line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            if missing := {"kernel", "column", "cycles"} - set(lines.fieldnames or ()):
                raise UsageError(f"{path}: has no column {min(missing)!r}: give a CSV of this benchmark")
            return {(line["kernel"], line["column"]): float(line["cycles"]) for line in lines if line["cycles"]}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path}: not a readable CSV of this benchmark: {error}") from error


def before_table(report: Mapping[str, Any], earlier: Figures) -> tuple[Row, list[Row]]:
    """The mean of every ratio before and now, over the rows that both have."""
    now = {
        (row["name"], name): c["cycles"]
        for row in report["rows"]
        for name, c in row["columns"].items()
        if "cycles" in c
    }
    kernels = [row["name"] for row in report["rows"]]
    rows: list[Row] = []
    for name, columns in RATIOS.items():
        pairs = [(_ratio(earlier, kernel, columns), _ratio(now, kernel, columns)) for kernel in kernels]
        both = [(before, after) for before, after in pairs if before is not None and after is not None]
        if both:
            means = (geomean(before for before, _ in both), geomean(after for _, after in both))
            rows.append((title(name, report), str(len(both)), *(f"{mean:.2f}" for mean in means)))
    ours = [(earlier[k, "ours"], now[k, "ours"]) for k in kernels if (k, "ours") in earlier and (k, "ours") in now]
    if ours:
        rows.append(("our cycles, now over before", str(len(ours)), "1", f"{geomean(n / b for b, n in ours):.2f}"))
    return ("times ours", ">rows", ">before", ">now"), rows


def _ratio(cycles: Figures, kernel: str, columns: tuple[str, ...]) -> float | None:
    found = [cycles[kernel, column] for column in columns if (kernel, column) in cycles]
    return min(found) / cycles[kernel, "ours"] if found and (kernel, "ours") in cycles else None

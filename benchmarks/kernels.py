"""TT kernels against every compiler on the same compressed layers: goals, docs/kernels.md and docs/kernels.csv.

    .venv/bin/python benchmarks/kernels.py [--set quick|paper|FILE] [--target NAME] [--board USER@HOST] [--work FOLDER]
                                           [--jobs N] [--minutes N] [--ours-only] [--before CSV]
                                           [--json FILE] [--out FOLDER] [--docs]

A second run goes on where the first one ended. After --minutes no row is begun, and the report has those that there
are; with --ours-only our kernels alone are measured. --before compares the means with those of an earlier CSV. --docs
writes the tables, the CSV and the plot of docs/kernels.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.against.benchmark import run_benchmark
from benchmarks.against.kernel_csv import before_table, csv_text, read_cycles
from benchmarks.against.kernel_page import roofline_png, write_pages
from benchmarks.against.kernel_report import COLUMN_ORDER, RIVALS
from benchmarks.against.kernel_set import KernelCase, kernel_set
from benchmarks.against.kernel_table import (
    Row,
    failures,
    headline_table,
    kernel_table,
    kind_table,
    storage_table,
    summary_table,
    title,
)
from benchmarks.against.kernels import DENSE_COLUMNS
from benchmarks.kit.page import markdown_table, with_section
from lrf_dse.builders.cache import cache_dir
from lrf_dse.runners.board import board_for
from lrf_dse.target import Target, load_target

DOCS = Path(__file__).resolve().parent.parent / "docs"
AS_IT_IS, PERFECT, IN_ORDER = "default", "perfect memory", "in-order write-back"
GOALS = (
    ("iree_t3f", AS_IT_IS, 3.0),
    ("iree_transpose_free", AS_IT_IS, 2.4),
    ("iree_transpose_free", PERFECT, 1.6),
    ("polly", AS_IT_IS, 20.0),
    ("c", AS_IT_IS, 6.0),
)
"""Ratio to ours, under which switch of the timing model, at least."""

PEAK_GOALS = ((AS_IT_IS, 0.9), (IN_ORDER, 0.8))
SLOWEST = 3


def goal_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """What was asked for, under which model, goal, figure, verdict."""
    for name, model, goal in GOALS:
        found = report["switches"][model]["geomean"][name]
        yield f"ours against {title(name, report)}", model, f"{goal:g} times", _times(found), _met(found, goal)
    for model, goal in PEAK_GOALS:
        found = report["switches"][model]["peak_fraction"]
        figure = "no such stage" if found is None else f"{100 * found:.0f} %"
        yield "share of the FMA peak, large stages in L2", model, f"{100 * goal:g} %", figure, _met(found, goal)
    compared = [row for row in report["rows"] if any(row["ratios"][name] for name in RIVALS)]
    beaten = [row for row in compared if not set(row["slower_than"]) & set(RIVALS)]
    count = f"{len(beaten)} of {len(compared)}"
    verdict = "met" if len(beaten) == len(report["rows"]) else "MISSED" if len(beaten) < len(compared) else "so far"
    yield "rows never slower than another column of the same layer", AS_IT_IS, "all", count, verdict


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} times"


def _met(value: float | None, goal: float) -> str:
    return "not measured" if value is None else "met" if value >= goal else "MISSED"


def coverage_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """How many variants (flag sets, loop forms, contractions) stand behind each column's best, a row."""
    rows: list[Row] = []
    for name in COLUMN_ORDER:
        tried = [len(row["columns"][name]["trials"]) for row in report["rows"] if name in row["columns"]]
        if tried:
            right = sum("cycles" in row["columns"].get(name, {}) for row in report["rows"])
            spread = (str(min(tried)), f"{median(tried):g}", str(max(tried)))
            rows.append((title(name, report), f"{right} of {len(report['rows'])}", *spread))
    return ("column", "rows with a right result", "variants, fewest", "median", "most"), rows


def slowest_rows(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that come least near their own roofline."""
    known = [row for row in report["rows"] if row["columns"].get("ours", {}).get("percent_of_roofline")]
    return sorted(known, key=lambda row: float(row["columns"]["ours"]["percent_of_roofline"]))[:SLOWEST]


def stall_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Where the cycles of the slowest rows go, as parts of all."""
    rows = slowest_rows(report)
    causes = sorted({cause for row in rows for cause, n in row["columns"]["ours"]["stalls"].items() if n})
    head = ("kernel", "schedule", "cycles", "% of roofline", "% of peak", "issuing", *(f"waits: {c}" for c in causes))
    table: list[Row] = []
    for row in rows:
        ours = row["columns"]["ours"]
        cycles, stalls = ours["cycles"], ours["stalls"]
        parts = [cycles - sum(stalls.values()), *(stalls.get(cause, 0.0) for cause in causes)]
        share = (f"{ours['percent_of_roofline']:.0f}", f"{ours['percent_of_peak']:.0f}")
        table.append(
            (row["name"], row["schedule"], f"{cycles:,.0f}", *share, *(f"{100 * p / cycles:.0f} %" for p in parts))
        )
    return head, table


def state(report: Mapping[str, Any], cases: Sequence[KernelCase]) -> str:
    """Which rows of the set there are, in a sentence: a run may have ended before the last one."""
    missing = [case.name for case in cases if case.name not in {row["name"] for row in report["rows"]}]
    bare = [row["name"] for row in report["rows"] if not set(row["columns"]) & set(DENSE_COLUMNS)]
    said = [f"{len(report['rows'])} of the {len(cases)} rows are measured."]
    if missing:
        said.append(f"These are not measured yet: {', '.join(missing)}.")
    if bare:
        said.append(f"The dense layer of these is not measured yet: {', '.join(bare)}.")
    return " ".join(said)


def write_docs(report: Mapping[str, Any], target: Target, cases: Sequence[KernelCase], before: str | None) -> None:
    """The tables of docs/kernels.md, docs/kernels.csv and docs/roofline.png; `before` is the table of old and new."""
    sections = {
        "state": state(report, cases),
        "headline": _markdown(*headline_table(report)),
        "goals": markdown_table(["what", "model", "goal", "figure", "verdict"], goal_rows(report)),
        "kinds": _markdown(*kind_table(report)),
        "storages": _markdown(*storage_table(report)),
        "switches": _markdown(*summary_table(report)),
        "coverage": _markdown(*coverage_table(report)),
        "failures": "\n".join(f"- {line}" for line in failures(report)) or "None.",
        "slowest": _markdown(*stall_table(report)),
    }
    if before is not None:
        sections["before"] = before
    page = DOCS / "kernels.md"
    text = page.read_text(encoding="utf-8")
    for name, section in sections.items():
        text = with_section(text, name, section)
    page.write_text(text, encoding="utf-8")
    (DOCS / "kernels.csv").write_text(csv_text(report), encoding="utf-8")
    (DOCS / "roofline.png").write_bytes(roofline_png(report, target))


def _markdown(head: Row, rows: list[Row]) -> str:
    return markdown_table([name.lstrip(">") for name in head], rows)


def _say(stage: str, done: int, total: int) -> None:
    print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print the goals, write what was asked for; 1 if a goal is missed on the set "paper"."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="quick", help="quick, paper, or a TOML file of [[kernel]] tables")
    parser.add_argument("--target", default="spacemit-k1")
    parser.add_argument("--board", help="measure on this host by OpenSSH")
    parser.add_argument("--before", type=Path, help="compare with this earlier CSV, on the rows of both")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--out", type=Path, help="folder for kernels.html and roofline.png")
    parser.add_argument("--work", type=Path, default=cache_dir() / "bench-kernels", help="folder of the records")
    parser.add_argument("--jobs", type=int, default=2, help="rows that are measured at a time")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no row after so many; show what there is"
    )
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    cases, target = kernel_set(chosen.set), load_target(chosen.target)
    board = None if chosen.board is None else board_for(chosen.board, target)
    earlier = None if chosen.before is None else read_cycles(chosen.before)
    report = run_benchmark(
        *(cases, target, chosen.work),
        board=board,
        ours_only=chosen.ours_only,
        jobs=chosen.jobs,
        minutes=chosen.minutes,
        progress=_say,
    )
    facts = report.to_json()
    before = None if earlier is None else _markdown(*before_table(facts, earlier))
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if chosen.out:
        write_pages(facts, target, chosen.out)
    if chosen.docs:
        write_docs(facts, target, cases, before)
    print(state(facts, cases), end="\n\n")
    goals = list(goal_rows(facts))
    for head, rows in (kernel_table(facts), kind_table(facts), storage_table(facts), headline_table(facts)):
        print(_markdown(head, rows), end="\n\n")
    print(before or "", end="\n\n" if before else "")
    print(markdown_table(["what", "model", "goal", "figure", "verdict"], goals))
    return int(chosen.set == "paper" and any(verdict == "MISSED" for *_, verdict in goals))


if __name__ == "__main__":
    sys.exit(main())

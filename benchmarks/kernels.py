"""TT kernels against every compiler on the same compressed layers: goals, and the tables of docs/kernels.md.

    .venv/bin/python benchmarks/kernels.py [--set quick|paper|FILE] [--target NAME] [--board USER@HOST] [--work FOLDER]
                                           [--ours-only] [--json FILE] [--out FOLDER] [--docs]

The set "paper" takes hours on two cores; a second run goes on where the first one ended, and with --ours-only measures
our kernels alone. --docs writes the tables, and the plot of docs/kernels.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.against.benchmark import run_benchmark
from benchmarks.against.kernel_page import roofline_png, write_pages
from benchmarks.against.kernel_report import COLUMN_ORDER, KernelReport
from benchmarks.against.kernel_set import kernel_set
from benchmarks.against.kernel_table import (
    Row,
    dense_table,
    failures,
    kernel_table,
    kind_table,
    stage_table,
    summary_table,
    title,
)
from benchmarks.against.our_columns import OurKernel, spec_of
from benchmarks.against.variants import LayerData
from benchmarks.kit.page import markdown_table, with_section
from benchmarks.simulators.llvm import disassemble
from benchmarks.simulators.loops import Loop, distinct, find_loops
from benchmarks.simulators.mca import LoopEntry, compare_with_mca
from lrf_dse.builders.cache import cache_dir
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.codegen import default_schedule
from lrf_dse.runners.board import board_for
from lrf_dse.target import Target, load_target

DOCS = Path(__file__).resolve().parent.parent / "docs"
AS_IT_IS, PERFECT, IN_ORDER = "default", "perfect memory", "in-order write-back"
GOALS = (
    ("iree_t3f", AS_IT_IS, 3.0),
    ("iree_transpose_free", AS_IT_IS, 2.4),
    ("iree_transpose_free", PERFECT, 1.6),
    ("polyhedral", AS_IT_IS, 20.0),
    ("c", AS_IT_IS, 6.0),
)
"""Ratio to ours, under which switch of the timing model, at least."""

PEAK_GOALS = ((AS_IT_IS, 0.9), (IN_ORDER, 0.8))
SLOWEST = 3
HOTTEST = "4096x4096 d=2 r16"
"""The row whose hottest loop is shown: large, and its operands fit the L2."""


def goal_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """What was asked for, under which model, goal, figure, verdict."""
    for name, model, goal in GOALS:
        found = report["switches"][model]["geomean"][name]
        yield f"ours against {title(name, report)}", model, f"{goal:g} times", _times(found), _met(found, goal)
    for model, goal in PEAK_GOALS:
        found = report["switches"][model]["peak_fraction"]
        figure = "no such stage" if found is None else f"{100 * found:.0f} %"
        yield "share of the FMA peak, large stages in L2", model, f"{100 * goal:g} %", figure, _met(found, goal)
    compared = [row for row in report["rows"] if any(row["ratios"][n] for n in row["ratios"].keys() - {"dense"})]
    beaten = [row for row in compared if not set(row["slower_than"]) - {"dense"}]
    count = f"{len(beaten)} of {len(compared)}"
    verdict = "met" if len(beaten) == len(report["rows"]) else "MISSED" if len(beaten) < len(compared) else "so far"
    yield "rows never slower than columns 1 to 4", AS_IT_IS, "all", count, verdict


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} times"


def _met(value: float | None, goal: float) -> str:
    return "met" if value is not None and value >= goal else "MISSED"


def coverage_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """How many variants (flag sets, loop forms, contractions) stand behind each column's best, a row."""
    rows: list[Row] = []
    for name in COLUMN_ORDER:
        tried = [len(row["columns"][name]["trials"]) for row in report["rows"] if name in row["columns"]]
        right = sum("cycles" in row["columns"].get(name, {}) for row in report["rows"])
        middle = f"{median(tried):g}" if tried else "-"
        spread = (str(min(tried, default=0)), middle, str(max(tried, default=0)))
        rows.append((title(name, report), f"{right} of {len(report['rows'])}", *spread))
    return ("column", "rows with a right result", "variants, fewest", "median", "most"), rows


def slowest_rows(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that come least near the FMA peak."""
    known = [row for row in report["rows"] if row["columns"]["ours"].get("percent_of_peak")]
    return sorted(known, key=lambda row: float(row["columns"]["ours"]["percent_of_peak"]))[:SLOWEST]


def stall_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Where the cycles of the slowest rows go, as parts of all; the bound is that of the stages together."""
    rows = slowest_rows(report)
    causes = sorted({cause for row in rows for cause, n in row["columns"]["ours"]["stalls"].items() if n})
    head = ("kernel", "schedule", "cycles", "% of peak", "% of bound", "issuing", *(f"waits: {c}" for c in causes))
    table: list[Row] = []
    for row in rows:
        ours = row["columns"]["ours"]
        cycles, stalls = ours["cycles"], ours["stalls"]
        bound = sum(stage["bound"] for stage in row["stages"])
        parts = [cycles - sum(stalls.values()), *(stalls.get(cause, 0.0) for cause in causes)]
        share = (f"{ours['percent_of_peak']:.0f}", f"{100 * bound / cycles:.0f}")
        table.append(
            (row["name"], row["schedule"], f"{cycles:,.0f}", *share, *(f"{100 * p / cycles:.0f} %" for p in parts))
        )
    return head, table


def hottest_loop(target: Target, work: Path) -> tuple[Loop, LoopEntry | None]:
    """The loop with most multiply-adds of the row HOTTEST, and what both models say of it."""
    (case,) = (case for case in kernel_set("paper") if case.name == HOTTEST)
    data = LayerData(case)
    kernel = OurKernel(data, target, default_schedule(spec_of(data), target))
    built = compile_generated(kernel.code().source, target, work, name="kernel")
    loop = distinct(find_loops(disassemble(built), HOTTEST))[0]
    return loop, next(iter(compare_with_mca([loop], target, work / "micro").entries), None)


def loop_text(loop: Loop, entry: LoopEntry | None) -> str:
    """The loop as assembly with what the models say."""
    assembly = "\n".join(f"    {one.text}" for one in loop.body)
    said = "It could not be placed in a program of its own."
    if entry is not None:
        said = (
            f"llvm-mca: {entry.mca:.1f} cycles an iteration. Timing model: {entry.modelled:.1f}; with results written "
            f"in order {entry.in_order:.1f}; with LLVM's costs too {entry.like_mca:.1f}."
        )
    return f"`{loop.source}`: {loop.summary}; {loop.vtype}. {said}\n\n{assembly}"


def write_docs(report: KernelReport, facts: Mapping[str, Any]) -> None:
    """The tables of docs/kernels.md, and docs/roofline.png."""
    with tempfile.TemporaryDirectory() as scratch:
        loop = loop_text(*hottest_loop(report.target, Path(scratch)))
    failed = "\n".join(f"- {line}" for line in failures(facts)) or "None."
    sections = {
        "coverage": _markdown(*coverage_table(facts)),
        "goals": markdown_table(["what", "model", "goal", "figure", "verdict"], goal_rows(facts)),
        "means": _markdown(*summary_table(facts)),
        "kinds": _markdown(*kind_table(facts)),
        "kernels": _markdown(*kernel_table(facts)),
        "failures": failed,
        "slowest": _markdown(*stall_table(facts)),
        "stages": _markdown(*stage_table(facts)),
        "dense": _markdown(*dense_table(facts)),
        "loop": loop,
    }
    page = DOCS / "kernels.md"
    text = page.read_text(encoding="utf-8")
    for name, section in sections.items():
        text = with_section(text, name, section)
    page.write_text(text, encoding="utf-8")
    (DOCS / "roofline.png").write_bytes(roofline_png(facts, report.target))


def _markdown(head: Row, rows: list[Row]) -> str:
    return markdown_table([name.lstrip(">") for name in head], rows)


def main() -> int:
    """Measure, print the goals, write what was asked for; 1 if a goal is missed on the set "paper"."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="quick", help="quick, paper, or a TOML file of [[kernel]] tables")
    parser.add_argument("--target", default="spacemit-k1")
    parser.add_argument("--board", help="measure on this host by OpenSSH")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--out", type=Path, help="folder for kernels.html and roofline.png")
    parser.add_argument("--work", type=Path, default=cache_dir() / "bench-kernels")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    cases, target = kernel_set(chosen.set), load_target(chosen.target)
    board = None if chosen.board is None else board_for(chosen.board, target)
    report = run_benchmark(cases, target, chosen.work, board=board, ours_only=chosen.ours_only, jobs=2)
    facts = report.to_json()
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if chosen.out:
        write_pages(facts, target, chosen.out)
    if chosen.docs:
        write_docs(report, facts)
    goals = list(goal_rows(facts))
    for head, rows in (kernel_table(facts), summary_table(facts), dense_table(facts)):
        print(_markdown(head, rows), end="\n\n")
    print(markdown_table(["what", "model", "goal", "figure", "verdict"], goals))
    return int(chosen.set == "paper" and any(verdict == "MISSED" for *_, verdict in goals))


if __name__ == "__main__":
    sys.exit(main())

"""Our kernels in fp32, fp16, int8 and int4: cycles, share of their own roofline, bytes and errors.

    python benchmarks/storages.py [--target NAME] [--rows TEXT] [--kind KIND ...] [--plain] [--docs]
    python benchmarks/storages.py --modules | --chips | --copies [--docs]

`--rows` keeps the rows whose name contains TEXT, `--plain` adds plain C loops (compilers' best of literal and hand
written ones) to tiny rows. `--modules` compiles two rows as whole models instead, with our kernels and with IREE's,
`--chips` runs every storage of one row on chips with other vectors and without, and `--copies` the rows that compute
with weights that are widened once, at load, into a copy in RAM. `--docs` writes tables into docs/storages.md,
and all rows into docs/storages.csv. Every kernel is verified before it is timed. All is kept in the user's cache, so
that a stopped run goes on. Exit code 1 if a kernel is wrong or a goal is missed:

* where weights are used once: 85 % of the roofline, and neither int8 nor fp16 slower than fp32;
* where they are used often: at most 5 % slower than fp32;
* tiny layers: never slower than the fp32 dense kernel or plain C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import get_args

from benchmarks.against.storage_modules import ModuleFigures, module_figures
from benchmarks.against.storages import (
    STORAGES,
    Kind,
    StorageFigures,
    StorageRow,
    measure_storage,
    plain_c_cycles,
    storage_rows,
)
from benchmarks.kit.page import markdown_table, with_section, write_csv
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target, load_target
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, user_records

PAGE = Path(__file__).resolve().parents[1] / "docs" / "storages.md"
FIGURES = PAGE.with_suffix(".csv")
SHARE_GOAL, SLOWER_GOAL = 0.85, 1.05
CHIPS, CHIPS_ROW = ("canaan-k230", "sifive-x280", "starfive-jh7110"), "784x300 low rank 32"
"""Vectors half and twice as long as those of spacemit-k1, and none."""
HEADER = ["layer", "weights", "bytes", "cycles", "roofline", "bound by", "share", "error", "schedule", "fp32 others"]


def main() -> int:
    """Measure what is not recorded, print the table and the goals that are missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="spacemit-k1")
    parser.add_argument("--rows", default="")
    parser.add_argument("--kind", nargs="+", default=list(get_args(Kind)), choices=get_args(Kind))
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--modules", action="store_true")
    parser.add_argument("--chips", action="store_true")
    parser.add_argument("--copies", action="store_true")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    target = load_target(chosen.target)
    if chosen.modules:
        write(chosen.docs, "modules", modules(target))
        return 0
    if chosen.chips:
        write(chosen.docs, "chips", chips())
        return 0
    if chosen.copies:
        write(chosen.docs, "copies", copies(target, chosen.rows))
        return 0
    measure = RecordedMeasure(RunnerMeasure(target), user_records())
    lines, missed = [], []
    found: list[Sequence[StorageFigures]] = []
    for row in storage_rows():
        if row.kind not in chosen.kind or chosen.rows not in row.name:
            continue
        figures = [measure_storage(row, storage, target, measure) for storage in STORAGES]
        dense = measure_storage(replace(row, shape=None), "fp32", target, measure) if row.kind == "tiny" else None
        plain = plain_c_cycles(row, target) if chosen.plain and row.kind == "tiny" else None
        others = {"our dense kernel": dense.cycles if dense else None, "plain C": plain}
        lines += [cells(each, others) for each in figures]
        found.append(figures)
        missed += list(misses(row, figures, others))
        print(f"{row.name}: {[each.cycles for each in figures]}", file=sys.stderr, flush=True)
    print("\n".join(f"missed: {line}" for line in missed))
    print(markdown_table(HEADER, lines))
    if chosen.docs:
        write_csv(FIGURES, [dict(zip(HEADER, line, strict=True)) for line in lines])
    write(chosen.docs, "storages", summary(found))
    return 1 if missed else 0


def write(docs: bool, section: str, text: str) -> None:
    """Print a table, and put it into the page where asked to."""
    print(text)
    if docs:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), section, text), encoding="utf-8")


def modules(target: Target) -> str:
    """Two rows as whole models, in Markdown."""
    names = ["layer", "computed by", "model.onnx", ".vmfb", "program", "flash", "RAM", "cycles", "error"]
    rows = [row for row in storage_rows() if row.name in ("784x300 low rank 32", "784x300 dense")]
    lines = [module_cells(figures) for row in dict.fromkeys(rows) for figures in module_figures(row, target)]
    return markdown_table(names, lines)


def module_cells(figures: ModuleFigures) -> list[str]:
    """One line of the table of modules; without a figure the reason stands in its place."""
    sizes = [f"{size:,}" for size in (figures.onnx_bytes, figures.vmfb_bytes, figures.program_bytes) if size]
    cells = [figures.row.name, figures.way, *(sizes or [""] * 3)]
    error = f"{figures.error:.1e}" if figures.error is not None else ""
    found = figures.measured
    if found is None:
        reason = figures.reason.split(" {", maxsplit=1)[0].replace("|", "/")[:120]
        return [*cells, "", "", reason, error]
    return [*cells, f"{found.flash_bytes:,}", f"{found.ram_bytes:,}", f"{found.cycles or 0:,.0f}", error]


def chips() -> str:
    """One row in every storage on chips of other kinds, in Markdown."""
    (row,) = (row for row in storage_rows() if row.name == CHIPS_ROW)
    lines = []
    for name in CHIPS:
        target = load_target(name)
        measure = RecordedMeasure(RunnerMeasure(target), user_records())
        for storage in STORAGES:
            figures = measure_storage(row, storage, target, measure)
            lines.append([f"{name}, {vectors(target)}", *cells(figures, {})[1:-1]])
    return markdown_table(["chip", *HEADER[1:-1]], lines)


def copies(target: Target, text: str) -> str:
    """The rows that compute, as they are stored and with a copy of their weights in RAM; names hold `text`."""
    measure = RecordedMeasure(RunnerMeasure(target), user_records())
    lines = []
    for row in (row for row in storage_rows() if row.kind == "computes" and text in row.name):
        single = measure_storage(row, "fp32", target, measure)
        lines.append(copy_cells(single, single, "fp32"))
        for storage in STORAGES[1:]:
            for copied, how in ((False, storage), (True, f"{storage}, widened at load")):
                lines.append(copy_cells(measure_storage(row, storage, target, measure, copied=copied), single, how))
    names = ["layer", "weights", "bytes of weights", "flash", "RAM", "copy in RAM", "cycles", "times fp32", "error"]
    return markdown_table(names, lines)


def copy_cells(figures: StorageFigures, single: StorageFigures, how: str) -> list[str]:
    """One line of the table of copies."""
    name, size, found = figures.row.name, f"{figures.weight_bytes:,}", figures.outcome
    if isinstance(found, Failure):
        return [name, how, size, "", "", "", f"{found.stage}: {found.reason}"[:120], "", ""]
    times = f"{figures.cycles / single.cycles:.2f}" if figures.cycles and single.cycles else ""
    ram = (f"{found.flash_bytes:,}", f"{found.ram_bytes:,}", f"{found.ram_parts['state_bytes']:,}")
    return [name, how, size, *ram, f"{found.cycles or 0:,.0f}", times, f"{found.max_rel_error:.1e}"]


def vectors(target: Target) -> str:
    """What vectors a chip has, in words."""
    return f"VLEN {target.isa.vlen_bits}" if target.isa.vlen_bits else "no vectors"


def summary(rows: Sequence[Sequence[StorageFigures]]) -> str:
    """For each kind of rows and each storage: the share of the roofline, and cycles by those of fp32, in Markdown."""
    lines = []
    for kind in get_args(Kind):
        mine = [{each.storage: each for each in figures} for figures in rows if figures[0].row.kind == kind]
        for storage in STORAGES if mine else ():
            shares = [share for figures in mine if (share := figures[storage].share)]
            both = [(figures[storage].cycles, figures["fp32"].cycles) for figures in mine]
            times = [a / b for a, b in both if a and b]
            lines.append(
                [
                    kind,
                    storage,
                    f"{len(shares)} of {len(mine)}",
                    f"{fmean(shares):.0%}",
                    f"{min(shares):.0%}",
                    str(sum(share >= SHARE_GOAL for share in shares)),
                    f"{geometric_mean(times):.2f}",
                    f"{max(times):.2f}",
                ]
            )
    reached = f"rows of at least {SHARE_GOAL:.0%}"
    head = ["rows", "weights", "measured", "share of roofline, mean", "least", reached, "times fp32, mean", "most"]
    return markdown_table(head, lines)


def cells(figures: StorageFigures, others: dict[str, float | None]) -> list[str]:
    """One line of the table."""
    outcome = figures.outcome
    measured = isinstance(outcome, Measurement)
    beside = ", ".join(f"{name} {cycles:,.0f}" for name, cycles in others.items() if cycles)
    return [
        figures.row.name,
        figures.storage,
        f"{figures.weight_bytes:,}",
        f"{figures.cycles:,.0f}" if figures.cycles else "failed",
        f"{figures.roofline:,.0f}",
        figures.bound,
        f"{figures.share:.0%}" if figures.share else "",
        f"{outcome.max_rel_error:.1e}" if isinstance(outcome, Measurement) and measured else "",
        " | ".join(map(str, figures.schedule.stages)),
        beside if figures.storage == "fp32" else "",
    ]


def misses(row: StorageRow, figures: Sequence[StorageFigures], others: dict[str, float | None]) -> Iterator[str]:
    """The goals that a row misses, in words."""
    by_storage = {each.storage: each for each in figures}
    single = by_storage["fp32"].cycles
    for each in figures:
        if isinstance(each.outcome, Failure) or not each.cycles or not single:
            yield f"{row.name} {each.storage}: {each.outcome}"
            continue
        name = f"{row.name} {each.storage}"
        if row.kind == "used once" and each.share and each.share < SHARE_GOAL:
            yield f"{name}: {each.share:.0%} of its roofline"
        if row.kind == "used once" and each.storage in ("fp16", "int8") and each.cycles > single:
            yield f"{name}: {each.cycles / single:.2f} times fp32"
        if row.kind == "computes" and each.cycles > SLOWER_GOAL * single:
            yield f"{name}: {each.cycles / single:.2f} times fp32"
        for other, cycles in others.items():
            if cycles and each.cycles > cycles:
                yield f"{name}: {each.cycles / cycles:.2f} times {other}"


if __name__ == "__main__":
    sys.exit(main())

"""The timing model of spacemit-k1 against llvm-mca, on loops cut from compiled kernels.

    .venv/bin/python benchmarks/llvm_mca.py [--docs]

Goal: at least 20 loops; each is within 15 %, or the difference is explained: the timing model with results written in
order and LLVM's costs is within 5 %. --docs writes the summary of docs/simulators.md, and all loops as .csv.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.kit.page import markdown_table, with_section, write_csv
from benchmarks.simulators.llvm import disassemble
from benchmarks.simulators.loops import Loop, distinct, find_loops
from benchmarks.simulators.mca import EXPLAINED, GOAL, LoopEntry, McaReport, compare_with_mca
from benchmarks.simulators.sample import sample_candidates
from lrf_dse.builders.kernel_object import compile_kernel
from lrf_dse.builders.program import BUILDERS
from lrf_dse.codegen.choice import default_schedule
from lrf_dse.codegen.emit import emit
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.pipeline.timing import layer_program
from lrf_dse.schema import Candidate
from lrf_dse.target import Target, load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "simulators.md"
FIGURES = PAGE.with_name("timing-model-mca.csv")
LEAST_LOOPS = 20
SEED = 1


def kernel_images(target: Target, work: Path) -> Iterator[tuple[str, Path]]:
    """The kernels of every sample layer, by every builder of models and ours: what made it, and its ELF file."""
    for number, (name, candidate) in enumerate(sample_candidates().items()):
        model, _ = layer_program(candidate, seed=SEED)
        for builder, build in BUILDERS.items():
            folder = work / f"{number}-{builder}"
            folder.mkdir()
            for index, image in enumerate(build(model, target, folder).schedule.executables.values()):
                path = folder / f"kernels{index}.so"
                path.write_bytes(image)
                yield f"{name}, {builder}", path
        yield f"{name}, ours", own_kernel(candidate, target, work, name=f"kernel{number}")


def own_kernel(candidate: Candidate, target: Target, work: Path, *, name: str) -> Path:
    """The object file of our kernel for `candidate`, on the schedule that the closed form chooses."""
    layer = candidate.layer
    spec = KernelSpec(candidate.tt_shape, layer.out_features, layer.in_features, layer.batch, layer.has_bias)
    code = emit(spec, default_schedule(spec, target), target, name=name)
    return compile_kernel(code.source, target, work, name=name)


def sample_loops(target: Target, work: Path) -> tuple[Loop, ...]:
    """One loop of each kind in those kernels."""
    return distinct(
        loop for source, path in kernel_images(target, work) for loop in find_loops(disassemble(path), source)
    )


def rows(report: McaReport) -> list[dict[str, object]]:
    """One row for each loop, figures rounded."""
    return [
        {
            "loop": entry.name,
            "alike": entry.loop.times,
            "LMUL": entry.loop.lmuls,
            "instructions": entry.loop.summary,
            "modelled": f"{entry.modelled:.1f}",
            "llvm-mca": f"{entry.mca:.1f}",
            "ratio": f"{entry.modelled / entry.mca:.2f}",
            "in order": f"{entry.in_order / entry.mca:.2f}",
            "LLVM's costs": f"{entry.like_mca / entry.mca:.2f}",
            "difference": difference(entry),
        }
        for entry in report.entries
    ]


def loops_table(table: list[dict[str, object]]) -> str:
    return markdown_table(list(table[0]), [list(row.values()) for row in table])


def difference(entry: LoopEntry) -> str:
    """The causes of a difference beyond the goal, in words."""
    if entry.agrees:
        return ""
    return "; ".join(f"{cause.what} ({cause.cycles:+.1f})" for cause in entry.causes) or "not explained"


def cost_rows(report: McaReport) -> list[list[object]]:
    """The costs that LLVM's model and the table of the target have differently."""
    return [
        [charge.operation, charge.instruction, f"{charge.busy:g}", f"{charge.llvm_busy:g}", charge.latency,
         charge.llvm_latency]
        for charge in sorted(report.charges, key=lambda charge: (charge.operation, charge.lmul, charge.instruction))
        if charge.differs
    ]  # fmt: skip


def summary(report: McaReport) -> tuple[bool, list[str]]:
    """Whether the goal is met, and the lines that say so."""
    entries = report.entries
    agree = sum(entry.agrees for entry in entries)
    in_order = sum(abs(entry.in_order / entry.mca - 1) <= GOAL for entry in entries)
    like = sum(entry.explained for entry in entries)
    unexplained = [entry.name for entry in entries if not entry.agrees and not entry.explained]
    met = len(entries) >= LEAST_LOOPS and not unexplained
    return met, [
        f"{len(entries)} loops; {len(report.left_out)} more could not be placed. Within {GOAL:.0%} of LLVM: {agree}; "
        f"with results written in order {in_order}; with LLVM's costs too, within {EXPLAINED:.0%}: {like}.",
        *(f"Not explained: {name}." for name in unexplained),
        f"Goal ({LEAST_LOOPS} loops, each within {GOAL:.0%} or explained): {'met' if met else 'MISSED'}.",
    ]


def main() -> int:
    """Measure, print the tables, write what was asked for; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    target = load_target("spacemit-k1")
    with tempfile.TemporaryDirectory() as scratch:
        loops = sample_loops(target, Path(scratch))
        report = compare_with_mca(loops, target, Path(scratch) / "micro")
    table = rows(report)
    met, lines = summary(report)
    costs = markdown_table(["operation", "as in", "cycles", "LLVM's", "latency", "LLVM's"], cost_rows(report))
    print("\n\n".join(["\n".join(lines), loops_table(table), costs]))
    for name, reason in report.left_out.items():
        print(f"left out: {name}: {reason}")
    if chosen.docs:
        write_csv(FIGURES, table)
        text = "\n\n".join([" ".join(lines), costs])
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), "llvm-mca", text), encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

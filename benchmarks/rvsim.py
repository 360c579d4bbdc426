"""The timing plugin against rvsim, an independent simulator, on kernels that both can run: do they rank alike?

    python benchmarks/rvsim.py [--docs]

Modelled cycles of a warm inference, spacemit-k1, by every builder of models. --docs writes the summary of
docs/simulators.md, and all programs as .csv. rvsim's model (benchmarks.simulators.rvsim_model) is fitted to the same
microbenchmarks as the plugin's: agreement says that two programs that share their published costs, and no code, draw
the same conclusions from them. Exit code 1 below a rank correlation of 0.9.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.kit.page import markdown_table, with_section, write_csv
from benchmarks.simulators.rvsim import RvsimRunner
from benchmarks.simulators.sample import sample_candidates
from benchmarks.simulators.second_opinion import SecondOpinion, second_opinion, spearman
from lrf_dse.builders.program import BUILDERS
from lrf_dse.pipeline.timing import layer_program
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.target import load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "simulators.md"
FIGURES = PAGE.with_name("timing-model-rvsim.csv")
TARGET = "spacemit-k1"
GOAL = 0.9
SEED = 1
STRONGEST = 5
"""So many of the pairs in opposite order are shown."""


def opinions(work: Path) -> Iterator[tuple[str, SecondOpinion]]:
    """For every builder, both runners' cycles of the sample layers."""
    kernels = {name: partial(layer_program, candidate, seed=SEED) for name, candidate in sample_candidates().items()}
    target = load_target(TARGET)
    for builder in BUILDERS:
        folder = work / builder
        yield (
            builder,
            second_opinion(kernels, target, folder, builder=builder, reference=QemuRunner(), opinion=RvsimRunner()),
        )


def summary(found: dict[str, SecondOpinion]) -> tuple[bool, str]:
    """Whether the goal is met, and one line for each builder and for all kernels together."""
    everything = [(e.reference_cycles, e.opinion_cycles) for opinion in found.values() for e in opinion.entries]
    both = spearman(everything)
    lines = [
        f"{builder}: {len(opinion.entries)} kernels, Spearman {shown(opinion.spearman)}"
        for builder, opinion in found.items()
    ]
    lines.append(f"all: {len(everything)} programs, Spearman {shown(both)}, goal {GOAL}")
    return both is not None and both >= GOAL, "\n".join(f"- {line}" for line in lines)


def shown(value: float | None) -> str:
    """A correlation, or that there is none."""
    return "unknown" if value is None else f"{value:.3f}"


def programs(found: dict[str, SecondOpinion]) -> list[dict[str, object]]:
    """A row for each program with the cycles of both."""
    return [
        {
            "builder": builder,
            "kernel": e.name,
            "plugin": f"{e.reference_cycles:.0f}",
            "rvsim": f"{e.opinion_cycles:.0f}",
            "ratio": f"{e.ratio:.2f}",
        }
        for builder, opinion in found.items()
        for e in opinion.entries
    ]


def tables(found: dict[str, SecondOpinion]) -> str:
    """The pairs in opposite order; what one of them did not run, counted by its reason."""
    pairs = [
        [builder, pair.faster, pair.slower, f"{pair.reference:.2f} x", f"{pair.opinion:.2f} x"]
        for builder, opinion in found.items()
        for pair in opinion.disagreements[:STRONGEST]
    ]
    reasons = Counter((builder, reason) for builder, one in found.items() for reason in one.left_out.values())
    left_out = [[builder, count, reason] for (builder, reason), count in sorted(reasons.items())]
    parts = [
        "Pairs in opposite order, the strongest of each builder:",
        markdown_table(["builder", "faster by the plugin", "faster by rvsim", "plugin", "rvsim"], pairs),
        "Left out:",
        markdown_table(["builder", "kernels", "reason"], left_out),
    ]
    return "\n\n".join(parts)


def main() -> int:
    """Measure, print, write what was asked for; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = dict(opinions(Path(scratch)))
    met, lines = summary(found)
    text = f"{lines}\n\n{tables(found)}"
    print(text)
    for row in programs(found):
        print(*row.values(), sep="  ")
    if chosen.docs:
        write_csv(FIGURES, programs(found))
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), "rvsim", text), encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

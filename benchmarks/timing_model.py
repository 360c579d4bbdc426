"""The timing model of spacemit-k1 against published measurements: goals, and the plot of docs/timing-model.md.

    .venv/bin/python benchmarks/timing_model.py [--plot FILE.png]

Goals: fitted entries within 5 %, held-out ones within 15 %. Only the held-out ones validate the model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from lrf_dse.bench.timing import TimingReport, run_timing
from lrf_dse.target import load_target

GOALS = {"fitted": 0.05, "held_out": 0.15}


def plot(report: TimingReport, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    for kind, marker in (("fitted", "o"), ("held_out", "D")):
        entries = report.of_kind(kind)  # type: ignore[arg-type]
        middle = [sum(entry.published) / 2 for entry in entries]
        half = [(entry.published[1] - entry.published[0]) / 2 for entry in entries]
        modelled = [entry.modelled for entry in entries]
        axes.errorbar(middle, modelled, xerr=half, fmt=marker, markersize=5, label=kind.replace("_", " "))
    axes.plot([0.9, 500], [0.9, 500], color="0.6", linewidth=1, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="published (cycles, or bytes a cycle)", ylabel="modelled")
    axes.set_title(f"Timing model of {report.target}: {len(report.entries)} microbenchmarks")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = run_timing(load_target("spacemit-k1"), Path(scratch))
    missed = False
    for kind, goal in GOALS.items():
        facts = report.to_json()[kind]
        error = abs(facts["worst"]["error"])
        missed |= error > goal
        print(
            f"{kind:<9} geometric mean {100 * facts['geomean_error']:.1f} %, worst {facts['worst']['name']} "
            f"{100 * facts['worst']['error']:+.1f} %, goal {100 * goal:.0f} %: {'met' if error <= goal else 'MISSED'}"
        )
    if arguments.plot:
        plot(report, arguments.plot)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

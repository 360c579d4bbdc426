"""Could ranking by IREE's cycles choose other plans? Every shape by our kernels and by IREE's, on the examples' layers.

    python benchmarks/rivals.py [--examples lenet300 ...] [--target NAME ...] [--count N] [--docs]

A plan holds the faster kernel of each shape. So it can depend on an estimate of IREE's kernels only through shapes on
which these win. Of every distinct layer of the examples, `--count` survivors of its space are built by both, verified
and timed (modelled cycles, all of IREE's builders). What is measured is kept in the user's cache, so a stopped run goes
on. --docs writes the table into docs/estimates.md. Exit code 1 where IREE's kernel is more than 1 % faster.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import fmean

from benchmarks.kit.page import markdown_table, with_section
from benchmarks.kit.predicted import predicted, spaces_of
from benchmarks.kit.training_data import EXAMPLES
from lrf_dse.builders.cache import cache_dir
from lrf_dse.farm import Local
from lrf_dse.models.compress import Compressor
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.layers import layer_task
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import measure_all
from lrf_dse.pipeline.weights import Weights
from lrf_dse.schema import Candidate, Measurement
from lrf_dse.store import Store

PAGE = Path(__file__).resolve().parents[1] / "docs" / "estimates.md"
SECTION = "rivals"
NAMES = ("lenet300", "patches", "inpaint")
MOST = 0.01
"""Plans of both rankings are the same where no shape differs by more."""
TARGETS = ("spacemit-k1", "canaan-k230")


@dataclass(frozen=True)
class Row:
    """One shape of a layer: cycles by our kernel and by IREE's fastest; None where a program fails."""

    example: str
    target: str
    candidate: Candidate
    ours: float | None
    iree: float | None


def shapes_of(x: Exploration, count: int) -> Iterator[Candidate]:
    """At most `count` survivors of every distinct layer, spread over their sizes."""
    seen = set()
    for layer, space in spaces_of(x).items():
        facts = (layer.in_features, layer.out_features, layer.batch, layer.has_bias)
        if facts in seen or not space.survivors:
            continue
        seen.add(facts)
        last = len(space.survivors) - 1
        places = sorted({round(i * last / max(1, count - 1)) for i in range(count)})
        yield from (replace(space.survivors[place].candidate, kernel="rvv") for place in places)


def rows_of(example: str, target: str, count: int, store: Store, work: Path) -> Iterator[Row]:
    """Every shape measured with both kernels."""
    model = read_model(EXAMPLES / example / "model.onnx")
    settings = ExploreSettings(model.path, target, work)
    compressor = Compressor(model, seed=0)
    accuracies = Accuracies(Evaluation(Weights(compressor, work), {}), store)
    base = predicted(settings, FitErrors(compressor, store), accuracies)
    x = replace(base, tools=base.bench.tools)
    shapes = list(shapes_of(x, count))
    tasks = {c: layer_task(x, c) for shape in shapes for c in (shape, shape.without_generated)}
    with Local(2) as farm:
        found = measure_all("rivals", list(tasks.values()), store=store, bench=x.bench, folder=work, farm=farm)

    def cycles(candidate: Candidate) -> float | None:
        outcome = found[tasks[candidate].key]
        return outcome.cycles if isinstance(outcome, Measurement) else None

    for shape in shapes:
        yield Row(example, target, shape, cycles(shape), cycles(shape.without_generated))


def summary(rows: Sequence[Row]) -> str:
    """A line for each example and chip: shapes, those on which IREE's kernel wins, and its cycles against ours."""
    lines = []
    for group in dict.fromkeys((row.example, row.target) for row in rows):
        mine = [row for row in rows if (row.example, row.target) == group]
        ratios = [row.iree / row.ours for row in mine if row.iree is not None and row.ours is not None]
        wins = sum(ratio < 1 for ratio in ratios)
        failed = sum(row.ours is None for row in mine), sum(row.iree is None for row in mine)
        spread = (
            (f"{min(ratios):.2f}", f"{exp(fmean(map(log, ratios))):.2f}", f"{max(ratios):.2f}")
            if ratios
            else ("-",) * 3
        )
        lines.append((*group, str(len(mine)), str(wins), *spread, f"{failed[0]} / {failed[1]}"))
    heads = ("example", "target", "shapes", "IREE's is faster on", "IREE / ours, least", "mean", "most")
    return markdown_table((*heads, "failed, ours / IREE's"), lines)


def lost(row: Row, *, by: float = 0.0) -> bool:
    """Whether IREE's kernel is the faster one, by more than this share, or the only one."""
    return row.iree is not None and (row.ours is None or row.iree < (1 - by) * row.ours)


def main() -> int:
    """Measure, print, write; 1 where IREE's kernel wins anywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--target", nargs="+", default=list(TARGETS))
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with Store(cache_dir() / "rivals") as store:
        for example in chosen.examples:
            for target in chosen.target:
                with tempfile.TemporaryDirectory() as work:
                    rows += rows_of(example, target, chosen.count, store, Path(work))
                print(summary(rows), flush=True)
    for row in filter(lost, rows):
        print(f"IREE's is faster: {row.candidate.layer.name} {row.candidate.label}: {row.iree} against {row.ours}")
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text("utf-8"), SECTION, summary(rows)), "utf-8")
    return int(any(lost(row, by=MOST) for row in rows))


if __name__ == "__main__":
    sys.exit(main())

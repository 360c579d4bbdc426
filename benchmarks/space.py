"""The design space: how long it takes, what its steps remove, and what the heuristic ones lose.

    python benchmarks/space.py [--most N] [--docs]

Times are processor seconds of this machine, each case in a process of its own, with its peak of resident memory.
`--most` leaves out cases with more candidates. `--docs` writes docs/space.md, .json and .png. Exit code 1 if a goal is
missed.

The losses are found on small layers, where every tuple of ranks of every shape of 2 to 4 cores can be looked at: the
true front in (lower bound of cycles, parameters, error bound), against what is left of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.kit.page import markdown_table
from lrf_dse.codegen.bound_columns import LayerBound
from lrf_dse.cost.counts import dense_parameters
from lrf_dse.cost.curves import tuple_counts
from lrf_dse.cost.funnel import OPTIONAL, STEPS
from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import LayerLatency, prune
from lrf_dse.front.pareto import front_of_three
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.reader import read_with
from lrf_dse.pipeline.estimates import latency_on
from lrf_dse.pipeline.spaces import LayerSpace, layer_spaces, model_spaces
from lrf_dse.report.facts import LayerFunnel
from lrf_dse.report.funnel_figure import draw_funnels, short
from lrf_dse.schema import Candidate, FcLayer
from lrf_dse.target import load_target
from lrf_dse.tt.error_bounds import OfSpectra
from lrf_dse.tt.orders import ShapeBlock, shape_blocks
from lrf_dse.tt.spectra import layer_spectra

ROOT = Path(__file__).resolve().parents[1]
LENET = ROOT / "examples" / "lenet300" / "model.onnx"
K1 = load_target("spacemit-k1")

VGG = [
    FcLayer("fc6", 25088, 4096, 1, has_bias=True),
    FcLayer("fc7", 4096, 4096, 1, has_bias=True),
    FcLayer("fc8", 4096, 1000, 1, has_bias=True),
]
BERT = [
    FcLayer(f"block{block}.{name}", ins, outs, 1, has_bias=True)
    for block in range(12)
    for name, ins, outs in (
        *((part, 768, 768) for part in ("query", "key", "value", "output")),
        ("up", 768, 3072),
        ("down", 3072, 768),
    )
]
SMALL = ((18, 12), (16, 16), (24, 10), (30, 14))
"""In and out of the layers whose tuples of ranks are all looked at."""


@dataclass(frozen=True)
class Case:
    """A space that is timed, with the seconds and the memory that it should take."""

    name: str
    layers: str
    depths: tuple[int, ...] = (2, 3, 4, 5, 6)
    most: int = 10**8
    goal_s: float | None = None
    goal_bytes: float | None = None
    estimates: bool = False


@dataclass(frozen=True)
class Timed:
    """What a case took: processor seconds, peak memory, candidates that were looked at; spaces of whole models."""

    case: Case
    candidates: int
    seconds: float
    peak_bytes: int
    spaces: tuple[LayerSpace, ...] = ()

    @property
    def met(self) -> bool:
        """Whether it keeps its goals."""
        fast = self.case.goal_s is None or self.seconds <= self.case.goal_s
        return fast and (self.case.goal_bytes is None or self.peak_bytes <= self.case.goal_bytes)


CASES = [
    *(Case(f"784 -> 300, at most {short(most)}", "lenet", most=most) for most in (10**5, 10**6, 10**8)),
    Case("25088 -> 4096, 2 to 4 cores", "fc6", (2, 3, 4)),
    Case("25088 -> 4096, 2 to 4 cores, at most 2.4e7", "fc6", (2, 3, 4), most=24_000_000, goal_s=5, goal_bytes=1e9),
    *(Case(f"25088 -> 4096, at most {short(most)}", "fc6", most=most) for most in (10**5, 10**6, 10**7)),
    Case("25088 -> 4096, at most 1.0e8", "fc6", goal_s=60, goal_bytes=2e9),
    Case("VGG-16, three layers", "vgg", goal_s=60, estimates=True),
    Case("BERT base, 72 layers", "bert", goal_s=60, estimates=True),
    Case("25088 -> 4096, at most 1.0e9", "fc6", most=10**9),
]


def layers_of(name: str) -> list[FcLayer]:
    """The layers that a case is about."""
    if name == "lenet":
        return [FcLayer("fc1", 784, 300, 1, has_bias=True)]
    return {"vgg": VGG, "bert": BERT}.get(name) or [layer for layer in VGG if layer.name == name]


def run_case(case: Case) -> Timed:
    """In this process: a space of many layers as `lrf-dse space` has it, of one the search alone, without estimates."""
    began = time.process_time()
    spaces: tuple[LayerSpace, ...] = ()
    if case.estimates:
        spaces = layer_spaces(layers_of(case.layers), None, K1, top=8)
        found = [space.found for space in spaces]
    else:
        (layer,) = layers_of(case.layers)
        latency = latency_on(layer, K1, None)
        assert latency is not None
        narrowing = Narrowing(8, by_kind=True, depths=case.depths, most=case.most)
        found = [prune(layer, None, K1, narrowing, latency=replace(latency, estimate=lambda _: 1.0))]
    seconds = time.process_time() - began
    looked_at = sum(step.remaining for each in found for step in each.funnel if step.name == "sample")
    return Timed(case, looked_at, seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, spaces)


def timed(cases: Sequence[Case]) -> list[Timed]:
    """Every case in a process of its own."""
    found = []
    for number, case in enumerate(CASES):
        if case not in cases:
            continue
        command = [sys.executable, "-m", "benchmarks.space", "--case", str(number)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        row = from_json(Timed, json.loads(done.stdout))
        found.append(row)
        size = f"{row.candidates:,} candidates, {row.peak_bytes / 1e6:.0f} MB"
        print(f"{case.name}: {row.seconds:.1f} s, {size}", file=sys.stderr, flush=True)
    return found


def time_table(rows: Sequence[Timed]) -> str:
    """Markdown."""
    header = ["space", "candidates", "CPU seconds", "goal", "peak MB", "goal", "met"]
    return markdown_table(
        header,
        [
            [
                row.case.name,
                f"{row.candidates:,}",
                f"{row.seconds:.1f}",
                "-" if row.case.goal_s is None else f"{row.case.goal_s:g}",
                f"{row.peak_bytes / 1e6:.0f}",
                "-" if row.case.goal_bytes is None else f"{row.case.goal_bytes / 1e6:.0f}",
                "-" if row.case.goal_s is None else ("yes" if row.met else "**no**"),
            ]
            for row in rows
        ],
    )


@dataclass(frozen=True)
class Loss:
    """What one step loses of a small layer's true front: points without an equal, and what they lack in error bound."""

    layer: str
    step: str
    front: int
    lost: float
    mean_points: float
    worst_points: float


def losses() -> list[Loss]:
    """Of every heuristic step alone, and of all that are taken by default, on each small layer."""
    found = []
    for ins, outs in SMALL:
        layer = FcLayer(f"{ins} -> {outs}", ins, outs, 1, has_bias=True)
        weight = trained_like(outs, ins)
        spectra = layer_spectra(weight, more_work=1e12)
        true = true_front(layer, OfSpectra(spectra))
        bound = LayerBound(layer, K1)
        latency = latency_on(layer, K1, None)
        assert latency is not None

        def by_bound(candidate: Candidate, bound: LayerBound = bound) -> float:
            shape = candidate.tt_shape
            assert shape is not None
            columns = (np.array([row]) for row in (shape.out_dims, shape.in_dims, shape.ranks))
            return float(bound.of(*columns)[0])

        by_bounds = replace(latency, estimate=by_bound)
        dense = LayerLatency(
            by_bounds.bounds, by_bound, dense=float(bound.at_least(np.array([ins * outs]), np.array([0]))[0])
        )
        for name, without in step_sets():
            top = 8 if name == "all of them" else 10**6
            narrowing = Narrowing(top, depths=(2, 3, 4), without=without, most=200 if name == "sample" else 10**8)
            if name == "estimated":
                narrowing = replace(narrowing, top=8)
            left = prune(layer, spectra, K1, narrowing, latency=dense if name in {"faster", "worth it"} else by_bounds)
            points = np.array([[each.cycles or 0.0, each.params, each.error_bound] for each in left.survivors])
            found.append(loss_of(layer.name, name, true, points))
    return found


def step_sets() -> Iterator[tuple[str, tuple[str, ...]]]:
    """A name, and the steps that are left out for it: all optional ones but one."""
    yield "ranks", OPTIONAL
    for step in OPTIONAL:
        if STEPS[step] == "heuristic":
            yield step, tuple(other for other in OPTIONAL if other != step)
    yield "all of them", ()


def loss_of(layer: str, step: str, true: NDArray[np.float64], left: NDArray[np.float64]) -> Loss:
    """`true` and `left` are points (cycles, parameters, error bound); dense is among the points of both."""
    missing = []
    for cycles, params, error in true:
        usable = left[(left[:, 0] <= cycles * (1 + 1e-9)) & (left[:, 1] <= params)] if len(left) else left
        missing.append(100 * (min(1.0, *usable[:, 2], 1.0) - error) if len(usable) else 100 * (1.0 - error))
    lacks = np.array(missing)
    return Loss(layer, step, len(true), float((lacks > 1e-6).mean()), float(lacks.mean()), float(lacks.max()))


def true_front(layer: FcLayer, errors: OfSpectra) -> NDArray[np.float64]:
    """Of every tuple of ranks of every shape of 2 to 4 cores that is below dense: (cycles, params, error)."""
    bound = LayerBound(layer, K1)
    front = np.empty((0, 3))
    for d in (2, 3, 4):
        for block in shape_blocks(layer.out_features, layer.in_features, d):
            for i in range(len(block)):
                front = joined_front(front, losses_of_shape(layer, errors, bound, block[np.array([i])]))
    return front


def losses_of_shape(layer: FcLayer, errors: OfSpectra, bound: LayerBound, shape: ShapeBlock) -> NDArray[np.float64]:
    """All tuples of ranks up to the caps, below dense."""
    before = (shape.outs_upto * shape.ins_upto)[0, :-1]
    caps = np.minimum(before, (shape.outs_from * shape.ins_from)[0, 1:])
    inner = np.array(list(product(*(range(1, int(cap) + 1) for cap in caps))), dtype=np.int64)
    many = ShapeBlock(np.repeat(shape.out_dims, len(inner), axis=0), np.repeat(shape.in_dims, len(inner), axis=0))
    params, _ = tuple_counts(many, inner, layer)
    some = np.flatnonzero(params < dense_parameters(layer))
    many, inner, params = many[some], inner[some], params[some]
    ones = np.ones((len(inner), 1), dtype=np.int64)
    if not len(inner):
        return np.empty((0, 3))
    cycles = bound.of(many.out_dims, many.in_dims, np.concatenate([ones, inner, ones], axis=1))
    return np.stack([cycles, params, errors.bounds(errors.cuts(many), inner)], axis=1)


def joined_front(front: NDArray[np.float64], more: NDArray[np.float64]) -> NDArray[np.float64]:
    """The front of both."""
    both = np.concatenate([front, more])
    return both[front_of_three(both[:, 0], both[:, 1], both[:, 2])]


def trained_like(outs: int, ins: int) -> NDArray[np.float32]:
    """Random weights whose singular values fall as those of trained layers do."""
    rng = np.random.default_rng(0)
    side = min(outs, ins)
    scaled = rng.standard_normal((outs, side)) / np.sqrt(np.arange(1, side + 1))
    return (scaled @ rng.standard_normal((side, ins))).astype(np.float32)


def loss_table(found: Sequence[Loss]) -> str:
    """Markdown: a row a step, a pair of columns a layer."""
    layers = list(dict.fromkeys(loss.layer for loss in found))
    rows = []
    for step in dict.fromkeys(loss.step for loss in found):
        mine = {loss.layer: loss for loss in found if loss.step == step}
        cells = [
            f"{mine[name].lost:.0%}, {mine[name].mean_points:.1f} / {mine[name].worst_points:.1f}" for name in layers
        ]
        rows.append([step, *cells])
    sizes = {loss.layer: loss.front for loss in found}
    return markdown_table(["step", *(f"{name} ({sizes[name]})" for name in layers)], rows)


def funnel_table(spaces: Sequence[LayerSpace]) -> str:
    """Markdown: a row a step, a column a layer."""
    header = ["step", "is", *(space_name(space) for space in spaces)]
    columns = [[step.remaining for step in space.found.funnel] for space in spaces]
    steps = [[name, kind, *map(short, left)] for (name, kind), *left in zip(STEPS.items(), *columns, strict=True)]
    return markdown_table(header, steps)


def space_name(space: LayerSpace) -> str:
    """A layer with its sizes, and how many are like it."""
    more = f" (x{len(space.layers)})" if len(space.layers) > 1 else ""
    return f"{space.layer.name}{more} {space.layer.in_features} -> {space.layer.out_features}"


def draw_times(rows: Sequence[Timed]) -> bytes:
    """Processor seconds against candidates, both logarithmic."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for layers, text in (("lenet", "784 -> 300"), ("fc6", "25088 -> 4096")):
        mine = sorted((row.candidates, row.seconds) for row in rows if row.case.layers == layers)
        axes.plot(*zip(*mine, strict=True), marker="o", label=text)
    goals = [(row.candidates, row.case.goal_s) for row in rows if row.case.goal_s and row.case.layers == "fc6"]
    axes.scatter(*zip(*goals, strict=True), marker="v", color="black", label="goals")
    axes.set(xscale="log", yscale="log", xlabel="candidates", ylabel="CPU seconds", title="Time of the search")
    axes.grid(visible=True, which="major", linewidth=0.5)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


PAGE = """# The design space

Written by `python benchmarks/space.py --docs`. The space of a layer is every factorisation of both sizes into 2 to 6
ordered factors (a mode may be 1, both modes of a core may not), with every tuple of ranks up to the caps and 1024. It
is counted by dynamic programming over divisors. `lrf-dse space MODEL` shows it for a model.

## Time

Processor seconds on one core of a machine that others used too, each case in a process of its own, without spectra
(error bounds of any weights). More candidates than 10^8 are sampled, or than a row says; all shapes of two cores and
all aligned ones are always among them. VGG-16 and BERT base are whole: with estimates of kernels, and layers that are
alike explored once.

{times}

![Time of the search](space-time.png)

Branch and bound is why 10^8 candidates take seconds: a range of ranks whose best corner is dominated is dropped whole.

## Funnels

What each step leaves. LeNet-300-100 with the spectra of its weights:

{lenet}

VGG-16 (fully connected layers) and a BERT-base encoder, with error bounds of any weights:

{large}

![Funnels](space.png)

## What heuristic steps lose

Layers small enough to look at every tuple of ranks of every shape of 2 to 4 cores: the true front in (lower bound of
cycles, parameters, error bound), its points in brackets. Each step is taken alone; then all, down to the 8 that
survive. A cell: the share of the front's points that no remaining candidate equals; then how much larger the error
bound is at the same cycles and parameters, on average and at worst, in percentage points. Where nothing that small is
left, a layer of zeros (100 %) counts.

{losses}

Safe steps lose nothing: tests prove it on random layers by brute force (`tests/cost/test_search.py`).
"""


def main() -> int:
    """Measure, print, and with --docs write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=1e9, help="no case with more candidates")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case is not None:
        print(json.dumps(to_json(run_case(CASES[chosen.case]))))
        return 0
    rows = timed([case for case in CASES if case.most <= chosen.most or case.estimates])
    lost = losses()
    lenet = model_spaces(read_with(LENET, ReadOptions()), K1, top=8)
    large = [space for row in rows for space in row.spaces]
    page = PAGE.format(
        times=time_table(rows), lenet=funnel_table(lenet), large=funnel_table(large), losses=loss_table(lost)
    )
    print(page)
    if chosen.docs:
        docs = ROOT / "docs"
        docs.joinpath("space.md").write_text(page, encoding="utf-8")
        figures = {
            "times": [asdict(replace(row, spaces=())) for row in rows],
            "losses": [asdict(loss) for loss in lost],
        }
        docs.joinpath("space.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        funnels = [LayerFunnel(space_name(space), space.found.funnel) for space in (*lenet[:1], *large)]
        docs.joinpath("space.png").write_bytes(draw_funnels("Funnels of single layers, spacemit-k1", funnels))
        docs.joinpath("space-time.png").write_bytes(draw_times(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""What the closed form is fitted to and judged by: candidates drawn at random, measured, and kept as text.

What is predicted, and from what, is lrf_dse/cost/closed_form.py; the fit is closed_form_fit.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.builders.program import BUILDERS
from lrf_dse.cost.closed_form import KERNEL_TERMS
from lrf_dse.cost.counts import dense_flops, dense_parameters, flops, parameters
from lrf_dse.errors import BuildError
from lrf_dse.models.evaluate import run_once
from lrf_dse.pipeline.timing import layer_program
from lrf_dse.runners.job import Array, Job
from lrf_dse.runners.runner import get_runner
from lrf_dse.schema import Candidate, FcLayer, Measurement, Order, TTShape, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims, rank_caps

if TYPE_CHECKING:
    import onnx

COLUMNS = ("in_features", "out_features", "batch", "out_dims", "in_dims", "ranks", "order", *KERNEL_TERMS)


@dataclass(frozen=True)
class Sample:
    """A candidate and its modelled warm cycles by builder; a program that failed is not in them."""

    candidate: Candidate
    cycles: Mapping[str, float]

    @property
    def is_tt(self) -> bool:
        """Neither dense nor plain low rank."""
        shape = self.candidate.tt_shape
        return shape is not None and not shape.is_low_rank

    @property
    def best(self) -> float:
        """What the pipeline keeps."""
        return min(self.cycles.values())


def read_samples(path: Path) -> list[Sample]:
    """The samples of a CSV file with COLUMNS."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_sample(row) for row in csv.DictReader(file)]


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Inverse of `read_samples`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(sample) for sample in samples)


def layer_name(candidate: Candidate) -> str:
    """Sizes and batch, as tables call a layer here."""
    layer = candidate.layer
    return f"{layer.in_features}x{layer.out_features}" + (f" batch {layer.batch}" if layer.batch > 1 else "")


def draw(layer: FcLayer, source: random.Random, *, d: int) -> Candidate | None:
    """A random TT candidate below dense with ranks that are multiples of 8, of at most 4 times dense FLOPs.

    Either order, for dims that are aligned with it three times of four; d = 1 stands for plain low rank. None where
    the draw is not such a candidate.
    """
    order: Order = source.choice(("last_first", "last_first", "first_first"))
    choices = list(aligned_dims(layer.out_features, layer.in_features, d)) if d > 1 else []
    if d > 1 and not choices:
        return None
    out_dims, in_dims = source.choice(choices) if choices else low_rank_dims(layer.out_features, layer.in_features)
    if d == 1:
        order = "last_first"
    elif order == "first_first" and source.random() < 0.75:
        out_dims, in_dims = out_dims[::-1], in_dims[::-1]
    caps = [min(cap, 256) // 8 for cap in rank_caps(out_dims, in_dims)]
    if min(caps) < 1:
        return None
    ranks = [8 * round(exp(source.uniform(0.0, log(cap)))) for cap in caps]
    if source.random() < 0.6:
        ranks = [min(ranks)] * len(ranks)
    shape = TTShape(out_dims, in_dims, (1, *ranks, 1))
    small = parameters(shape, bias=layer.has_bias) < dense_parameters(layer)
    few = flops(shape, order, batch=layer.batch) < 4 * dense_flops(layer)
    return Candidate(layer, shape, order=order) if small and few else None


def measure(candidate: Candidate, target: Target, work: Path) -> Sample:
    """Build, verify and time the program of every builder in the folder `work`, which must be empty."""
    model, inputs = layer_program(candidate, seed=0)
    return Sample(candidate, measure_program(model, inputs, target, work, builders=tuple(KERNEL_TERMS)))


def measure_program(
    model: onnx.ModelProto, inputs: Sequence[Array], target: Target, work: Path, *, builders: Sequence[str]
) -> dict[str, float]:
    """Modelled warm cycles by builder, of the programs that build and answer rightly."""
    expected, cycles = run_once(model, inputs), {}
    for name in builders:
        folder = work / name
        folder.mkdir(parents=True)
        try:
            program = Path(BUILDERS[name](model, target, folder).program.path)
        except BuildError:
            continue
        outcome = get_runner("qemu").run(Job(program, target, tuple(inputs), tuple(expected), folder / "run"))
        if isinstance(outcome, Measurement) and outcome.cycles is not None:
            cycles[name] = outcome.cycles
    return cycles


def _sample(row: Mapping[str, str]) -> Sample:
    layer = FcLayer("fc", int(row["in_features"]), int(row["out_features"]), int(row["batch"]), True)
    cycles = {name: float(row[name]) for name in KERNEL_TERMS if row[name]}
    if not row["ranks"]:
        return Sample(dense_candidate(layer), cycles)
    out_dims, in_dims, ranks = (tuple(map(int, row[name].split("x"))) for name in ("out_dims", "in_dims", "ranks"))
    order: Order = "first_first" if row["order"] == "first_first" else "last_first"
    return Sample(Candidate(layer, TTShape(out_dims, in_dims, ranks), order=order), cycles)


def _cells(sample: Sample) -> list[str]:
    layer, shape = sample.candidate.layer, sample.candidate.tt_shape
    dims = (shape.out_dims, shape.in_dims, shape.ranks) if shape else ((), (), ())
    cycles = (sample.cycles.get(name) for name in KERNEL_TERMS)
    return [
        *map(str, (layer.in_features, layer.out_features, layer.batch)),
        *("x".join(map(str, each)) for each in dims),
        sample.candidate.order,
        *("" if each is None else f"{each:.0f}" for each in cycles),
    ]

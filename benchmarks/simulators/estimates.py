"""Estimates of our kernels against measurements: kernels drawn at random, each measured, and how far both agree.

Owns the draw and the figures. The estimate is that of `lrf_dse.codegen.predicted_cycles`, the lower bound, which holds
for IREE's programs too, that of `lrf_dse.codegen.lower_bound`; what measures is an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median

from benchmarks.simulators.second_opinion import spearman
from lrf_dse.codegen import KernelSchedule, KernelSpec, default_schedule, lower_bound, predicted_cycles
from lrf_dse.cost.counts import dense_flops, dense_parameters, flops, parameters
from lrf_dse.pipeline.keys import timing_key
from lrf_dse.pipeline.timing import Bench, build_and_run, layer_program
from lrf_dse.schema import Candidate, Failure, FcLayer, Measurement, TTShape, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims, rank_caps
from lrf_dse.tune.measuring import Measure
from lrf_dse.tune.records import KernelRecords

KINDS = ("dense", "low rank", "TT d=2", "TT d=3", "TT d=4")
BATCHES = (1, 4, 16)
FEWEST_FEATURES, MOST_FEATURES = 24, 3072
MOST_FLOPS = 2.4e7
"""Of one kernel: more takes minutes on a simulator, and says nothing new."""


@dataclass(frozen=True)
class Compared:
    """One program: what was estimated of it (None: nothing estimates it), what bounds it, what was measured. Cycles."""

    kind: str
    spec: KernelSpec
    schedule: KernelSchedule | None
    estimate: float | None
    bound: float
    measured: float

    @property
    def error(self) -> float:
        """The estimate over the measurement, less 1. Raises ValueError without an estimate."""
        if self.estimate is None:
            raise ValueError(f"nothing estimates {self.spec}")
        return self.estimate / self.measured - 1

    @property
    def breaks_bound(self) -> bool:
        """Whether the program was faster than its lower bound: then this is none."""
        return self.measured < self.bound


@dataclass(frozen=True)
class Agreement:
    """How estimates agree with measurements: absolute relative errors, and the rank correlation of both."""

    count: int
    median: float
    ninety: float
    worst: float
    spearman: float | None


def draw_kernels(seed: int) -> Iterator[tuple[str, KernelSpec]]:
    """Kernels without end, the KINDS in turn: sizes log-uniform, TT shapes aligned and smaller than dense.

    The same seed gives the same kernels.
    """
    source = random.Random(seed)
    while True:
        for kind in KINDS:
            spec = None
            while spec is None:
                spec = _draw(kind, source)
            yield kind, spec


def _draw(kind: str, source: random.Random) -> KernelSpec | None:
    sizes = [round(exp(source.uniform(log(FEWEST_FEATURES), log(MOST_FEATURES)))) for _ in range(2)]
    batch, has_bias = source.choice(BATCHES), source.random() < 0.8
    if kind != "dense":  # a size with many divisors; of a dense layer any will do
        sizes = [max(24, 12 * round(size / 12)) if source.random() < 0.5 else 8 * -(-size // 8) for size in sizes]
    layer = FcLayer("fc", sizes[0], sizes[1], batch, has_bias)
    if kind == "dense":
        shape, work = None, dense_flops(layer)
    else:
        shape = _draw_shape(kind, layer, source)
        if shape is None or parameters(shape) >= dense_parameters(layer):
            return None
        work = flops(shape, batch=batch)
    return KernelSpec(shape, sizes[1], sizes[0], batch, has_bias) if work <= MOST_FLOPS else None


def _draw_shape(kind: str, layer: FcLayer, source: random.Random) -> TTShape | None:
    """A TT shape of the kind with random ranks: mostly multiples of 8, as explorations ask for, and of any size."""
    sizes = layer.out_features, layer.in_features
    dims = [low_rank_dims(*sizes)] if kind == "low rank" else list(aligned_dims(*sizes, int(kind[-1])))
    if not dims:
        return None
    out_dims, in_dims = source.choice(dims)
    multiple = 8 if source.random() < 0.8 else 1
    caps = [min(cap, 128) // multiple for cap in rank_caps(out_dims, in_dims)]
    if min(caps) < 1:
        return None
    ranks = [multiple * round(exp(source.uniform(0.0, log(cap)))) for cap in caps]
    if source.random() < 0.6:
        ranks = [min(ranks)] * len(ranks)
    return TTShape(out_dims, in_dims, (1, *ranks, 1))


def compare_ours(
    kernels: Iterable[tuple[str, KernelSpec]], target: Target, folder: Path, *, measure: Measure
) -> Iterator[Compared | Failure]:
    """Each kernel on the schedule of the closed form: estimated and measured. The target needs a timing model."""
    for number, (kind, spec) in enumerate(kernels):
        schedule = default_schedule(spec, target)
        outcome = measure(spec, schedule, folder / str(number))
        estimate = predicted_cycles(spec, schedule, target)
        yield (
            outcome
            if isinstance(outcome, Failure)
            else Compared(kind, spec, schedule, estimate, *_measured(spec, outcome, target))
        )


def compare_iree(
    kernels: Iterable[tuple[str, KernelSpec]], target: Target, folder: Path, *, records: KernelRecords
) -> Iterator[Compared | Failure]:
    """The same layers as IREE compiles them, the faster of its builders: only bounded, as nothing estimates them."""
    bench = Bench(target)
    for number, (kind, spec) in enumerate(kernels):
        layer = FcLayer("fc", spec.in_features, spec.out_features, spec.batch, spec.has_bias)
        candidate = dense_candidate(layer) if spec.shape is None else Candidate(layer, spec.shape)
        key = timing_key(candidate, target, bench.tools)
        outcome = records.get(key)
        if outcome is None:
            (folder / str(number)).mkdir(parents=True)
            outcome = build_and_run(*layer_program(candidate, seed=0), bench, folder / str(number))
            records.put(key, outcome)
        yield (
            outcome
            if isinstance(outcome, Failure)
            else Compared(kind, spec, None, None, *_measured(spec, outcome, target))
        )


def _measured(spec: KernelSpec, outcome: Measurement, target: Target) -> tuple[float, float]:
    """The lower bound of a program, and its cycles."""
    bound = lower_bound(spec, target)
    assert bound is not None and outcome.cycles is not None  # both come from the timing model
    return bound, outcome.cycles


def agreement(compared: Sequence[Compared]) -> Agreement:
    """Of at least two estimated kernels. Raises ValueError for fewer."""
    if len(compared) < 2:
        raise ValueError(f"agreement needs two kernels or more, got {len(compared)}")
    errors = sorted(abs(each.error) for each in compared)
    return Agreement(
        count=len(errors),
        median=median(errors),
        ninety=errors[-(-9 * len(errors) // 10) - 1],
        worst=errors[-1],
        spearman=spearman([((1 + each.error) * each.measured, each.measured) for each in compared]),
    )

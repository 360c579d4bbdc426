"""Fronts of a network by the tool and by an independent search, both on the same evaluator.

A whole model takes the closed-form cycles of its layers' kernels and the bytes of their parameters as stored, and loses
what the network with its matrices loses on all samples held out (`models.fed`), every layer with its own fit. The
tool's sequential corrections and reordered units are left out: they would be another evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, log
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kit.predicted import narrowed_spaces, predicted
from lrf_dse.cost.counts import dense_parameters, parameters, stored_bytes
from lrf_dse.front.pareto import non_dominated
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import load_data
from lrf_dse.models.metrics import get_metric
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.layers import measure_layers
from lrf_dse.pipeline.methods import competitors
from lrf_dse.pipeline.selecting import select_finalists
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.weights import Weights
from lrf_dse.plan.options import Combination
from lrf_dse.plan.terrain import WORST, Gap
from lrf_dse.plan.volume import hypervolume
from lrf_dse.schema import Candidate, FcLayer, Storage, TTShape, dense_candidate
from lrf_dse.store import Store
from lrf_dse.target import load_target
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims, rank_caps

FloatArray = NDArray[np.float64]

SEED, TARGET = 0, "spacemit-k1"
STORAGES: tuple[Storage, ...] = ("fp32", "fp16", "int8", "int4")


@dataclass(frozen=True)
class Grid:
    """What the independent search has for a layer.

    `shapes` are numbers of TT shapes by depth, evenly taken from all aligned ones, at `ranks` ranks each, evenly spaced
    on a logarithmic scale; of plain low rank there are three times as many ranks.
    """

    shapes: Mapping[int, int]
    ranks: int


GRID = Grid({2: 4, 3: 4}, 8)
"""Each shape of each layer is a fit of its own, of up to a second or two."""


@dataclass(frozen=True)
class Whole:
    """A whole model: modelled cycles and bytes of its FC layers, its drop, and its choices."""

    cycles: float
    size: float
    drop: float
    choices: tuple[str, ...]


class _Memory(dict[str, Any]):
    """Records in memory: those of a folder take longer than a small model's evaluation."""

    def put(self, key: str, _kind: str, value: Any, *, context: Any = None) -> None:
        """Keep a value."""
        self[key] = value


class Network:
    """A network in `folder` (model.onnx, calibration.npz, validation.npz), its records in `work`."""

    def __init__(self, name: str, folder: Path, work: Path, metric: str) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.name, self.folder, self.work = name, folder, work
        model = read_model(folder / "model.onnx")
        calibration, held_out = (
            load_data(folder / f"{part}.npz", model, get_metric(metric)) for part in ("calibration", "validation")
        )
        compressor = Compressor(model, seed=SEED, calibration=calibration)
        self.errors = FitErrors(compressor, Store(work))
        # Another search may judge thousands of models: on a third of the samples it would find lucky ones.
        evaluation = Evaluation(Weights(compressor, work), {"validation": replace(held_out, part="validation")})
        self.accuracies = Accuracies(evaluation, _Memory(), corrects=False)
        self.layers, self._target = model.fc_layers, load_target(TARGET)
        self._known_cycles: dict[tuple[FcLayer, TTShape | None, Storage], float] = {}

    def exploration(self, evaluations: int, top: int) -> Exploration:
        """The tool's exploration at such a budget, programs predicted."""
        settings = ExploreSettings(
            self.folder / "model.onnx",
            TARGET,
            self.folder / "validation.npz",
            self.work,
            calibration=self.folder / "calibration.npz",
            seed=SEED,
            kernels=("rvv",),
            tune=1,
            evaluations=evaluations,
            top=top,
        )
        return predicted(settings, self.errors, self.accuracies)

    def whole(self, choices: Sequence[Candidate]) -> Whole:
        """What the model with these choices takes and loses; a gain is no loss."""
        cycles = [self._cycles(choice) for choice in choices]
        drop = max(0.0, self.accuracies.drop_points(choices) or 0.0)
        return Whole(sum(cycles), float(sum(map(stored_bytes, choices))), drop, tuple(c.label for c in choices))

    def _cycles(self, choice: Candidate) -> float:
        key = choice.layer, choice.tt_shape, choice.storage
        if key not in self._known_cycles:
            expected = estimate(replace(choice, kernel="rvv"), self._target).cycles
            self._known_cycles[key] = (expected or 0.0) * choice.layer.uses
        return self._known_cycles[key]

    @cached_property
    def dense(self) -> Whole:
        """The model as it is, in fp32."""
        return self.whole([dense_candidate(layer, "rvv") for layer in self.layers])

    @property
    def reference(self) -> FloatArray:
        """The reference point: the dense model's log cycles and log bytes, and 5 points."""
        return np.array([log(self.dense.cycles), log(self.dense.size), WORST])

    def volume(self, wholes: Iterable[Whole]) -> float:
        """The hypervolume of models below the reference point."""
        rows = np.array([(log(w.cycles), log(w.size), min(w.drop, WORST)) for w in wholes]).reshape(-1, 3)
        return hypervolume(rows, self.reference)


@dataclass(frozen=True)
class Explored:
    """What an exploration judged, its finalists and gaps, the ranks asked for, and its processor time."""

    judged: tuple[Whole, ...]
    finalists: tuple[Whole, ...]
    gaps: tuple[Gap, ...]
    combinations: int
    asked: int
    stable: bool
    seconds: float


def explored(network: Network, evaluations: int, top: int) -> Explored:
    """The tool's front at a budget."""
    start = process_time()
    x = network.exploration(evaluations, top)
    found, _ = select_finalists(x, measure_layers(x, narrowed_spaces(x)))

    def wholes(members: Iterable[Combination]) -> tuple[Whole, ...]:
        return tuple(network.whole(member.choices) for member in members)

    return Explored(
        wholes(p.combination for p in found.predictions),
        wholes(found.finalists),
        found.gaps,
        found.combinations,
        len(found.asked),
        found.stable,
        process_time() - start,
    )


class Genes:
    """The independent search's space: a structure, a rank of it and a storage of each layer, as whole numbers."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.structures = [[None, *_structures(layer, GRID)] for layer in network.layers]
        self._ranks = 3 * GRID.ranks
        self.upper = np.array([u for s in self.structures for u in (len(s) - 1, self._ranks - 1, len(STORAGES) - 1)])
        self._known: dict[tuple[int, ...], Whole] = {}

    def whole(self, genes: NDArray[np.int64]) -> Whole:
        """The model of these genes; the same ones are judged once."""
        key = tuple(int(g) for g in genes)
        if key not in self._known:
            chosen = [
                self._candidate(layer, structures, *key[3 * k : 3 * k + 3])
                for k, (layer, structures) in enumerate(zip(self._network.layers, self.structures, strict=True))
            ]
            self._known[key] = self._network.whole(chosen)
        return self._known[key]

    @property
    def judged(self) -> tuple[Whole, ...]:
        """Every model so far."""
        return tuple(self._known.values())

    def _candidate(
        self, layer: FcLayer, structures: Sequence[tuple[TTShape, ...] | None], structure: int, rank: int, storage: int
    ) -> Candidate:
        ladder = structures[structure]
        candidate = replace(dense_candidate(layer, "rvv"), storage=STORAGES[storage])
        if ladder is None:
            return candidate
        shape = ladder[rank * len(ladder) // self._ranks]
        return competitors(replace(candidate, tt_shape=shape, decomposer="tt_svd"), with_data=True)[-1]


def _structures(layer: FcLayer, grid: Grid) -> list[tuple[TTShape, ...]]:
    """The shapes of a layer, each with its ranks, smallest first; plain low rank comes first."""
    sizes = layer.out_features, layer.in_features
    pairs = [low_rank_dims(*sizes)]
    for depth, count in grid.shapes.items():
        every = list(aligned_dims(*sizes, depth))
        pairs += (
            [every[i] for i in np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))] if every else []
        )
    ladders = [_ladder(layer, pair, 3 * grid.ranks if k == 0 else grid.ranks) for k, pair in enumerate(pairs)]
    return [ladder for ladder in ladders if ladder]


def _ladder(layer: FcLayer, dims: tuple[tuple[int, ...], tuple[int, ...]], count: int) -> tuple[TTShape, ...]:
    caps = rank_caps(*dims)
    ranks = np.unique(np.geomspace(1, max(caps), count).round().astype(int)).tolist()
    shapes = [TTShape(*dims, (1, *(min(rank, cap) for cap in caps), 1)) for rank in ranks]
    return tuple(s for s in dict.fromkeys(shapes) if parameters(s) < dense_parameters(layer))


def front_of(wholes: Iterable[Whole]) -> tuple[Whole, ...]:
    """Those that no other dominates in cycles, bytes and drop, drops up to 5 points; fastest first, equals once."""
    unique = list({(w.cycles, w.size, w.drop): w for w in wholes if w.drop <= WORST}.values())
    kept = [unique[i] for i in non_dominated([(w.cycles, w.size, w.drop) for w in unique])]
    return tuple(sorted(kept, key=lambda w: (w.cycles, w.size)))


def log_point(whole: Whole) -> tuple[float, float, float]:
    """What the independent search minimises: log cycles, log bytes, and the drop up to twice what counts."""
    return log(whole.cycles), log(whole.size), min(whole.drop, 2 * WORST)


def ratio(gap: Gap) -> float:
    """How far apart a gap's ends are."""
    return exp(log(gap.high) - log(gap.low))

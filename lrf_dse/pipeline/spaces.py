"""The design space of every layer, narrowed with nothing built, measured or fitted: what `lrf-dse space` shows.

Owns what replaces measurements and data there: dense layers are estimated, and error bounds are those of the weights,
or of any weights where spectra would take minutes. Layers that are alike are then one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import PruneResult, prune
from lrf_dse.models.model import Model
from lrf_dse.pipeline.estimates import estimate, latency_on
from lrf_dse.progress import Progress, silent
from lrf_dse.schema import FcLayer, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.counting import SpaceSize, monarch_size, space_size
from lrf_dse.tt.spectra import affordable_unfoldings, layer_spectra, spectrum_work

WEIGHTS_WORK = 1e12
"""Multiply-adds for which the spectra of a model's weights are computed: about half a minute on one core."""

WeightsOf = Callable[[str], NDArray[np.float32]]
"""W [out, in] of a layer by name."""


@dataclass(frozen=True)
class LayerSpace:
    """The space of layers that are alike, and what is left of it; `any_weights`: error bounds know no weights."""

    layers: tuple[str, ...]
    layer: FcLayer
    any_weights: bool
    size: SpaceSize
    found: PruneResult


@dataclass(frozen=True)
class ExploreTime:
    """What `explore` would do, about: layers' programs and fits, and processor seconds on one core of a desktop."""

    programs: int
    fits: int
    seconds: float


def layer_spaces(
    layers: Iterable[FcLayer],
    weights: WeightsOf | None,
    target: Target,
    *,
    top: int,
    without: Collection[str] = (),
    progress: Progress = silent,
) -> tuple[LayerSpace, ...]:
    """The narrowed spaces of `layers`, the kinds of shapes apart, as `explore` has them with data.

    Error bounds are those of any weights without `weights`, and where spectra take more than `WEIGHTS_WORK` together.
    """
    chosen = list(layers)
    narrowing = Narrowing(top, by_kind=True, without=without)
    # All or none: bounds of a layer with spectra and of one without would not compare.
    known = weights if sum(map(_spectra_work, chosen)) <= WEIGHTS_WORK else None
    groups: dict[FcLayer, list[str]] = {}
    for layer in chosen:
        # Where weights do not count, layers that differ only in name, operation and uses have one space.
        groups.setdefault(layer if known else replace(layer, name="", op="", uses=1), []).append(layer.name)
    found = []
    for done, (layer, names) in enumerate(groups.items()):
        progress("narrow the spaces", done, len(groups))
        spectra = None if known is None else layer_spectra(known(names[0]), seed=narrowing.seed)
        # Nothing is measured here, so the dense layer's own estimate takes the place of its time.
        latency = latency_on(layer, target, estimate(dense_candidate(layer, "rvv"), target).cycles)
        narrowed = prune(layer, spectra, target, narrowing, latency=latency)
        sizes = layer.out_features, layer.in_features
        size = space_size(*sizes) + monarch_size(*sizes)
        found.append(LayerSpace(tuple(names), replace(layer, name=names[0]), known is None, size, narrowed))
    progress("narrow the spaces", len(groups), len(groups))
    return tuple(found)


def model_spaces(
    model: Model, target: Target, *, top: int, without: Collection[str] = (), progress: Progress = silent
) -> tuple[LayerSpace, ...]:
    """The narrowed spaces of the FC layers of a model."""
    return layer_spaces(
        model.fc_layers, lambda name: model.weights(name)[0], target, top=top, without=without, progress=progress
    )


def _spectra_work(layer: FcLayer) -> float:
    sizes = layer.out_features, layer.in_features
    return sum(spectrum_work(*sizes, unfolding) for unfolding in affordable_unfoldings(*sizes))


_CPU_S: Mapping[str, float] = {"program": 0.25, "fit": 0.35, "plan": 1.5, "start": 20.0}
"""Processor seconds of a layer's program (zig and QEMU), of one shape fitted and judged, of a whole model built and
measured (IREE), and of what any exploration does. The first three are totals of explorations of LeNet-300-100, divided
by their number; the last is what was left. Fits of wide layers and models with much else in them take far longer."""

_PLANS = 24
"""Whole models that are measured, about."""

_STORED = 1.5
"""Candidates in few bits for each that survives."""


def explore_time(spaces: Iterable[LayerSpace]) -> ExploreTime:
    """What `explore` takes after such spaces, roughly: fits of wide layers and the rest of the model are not in it."""
    survivors = sum(len(space.found.survivors) * len(space.layers) for space in spaces)
    programs = round(survivors * (1 + _STORED))
    # Two methods for each shape on average (`models.layer_fit.methods_for`).
    fits = 2 * survivors
    seconds = _CPU_S["start"] + programs * _CPU_S["program"] + fits * _CPU_S["fit"] + _PLANS * _CPU_S["plan"]
    return ExploreTime(programs, fits, seconds)

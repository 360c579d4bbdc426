"""Content keys of a run's records: what a figure depends on, and nothing else.

A timing depends on shapes, order, target and tools, never on weights. An accuracy or a weight error depends on
the model, the decomposition with its seed and every choice made in the model, never on target or tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, TypedDict

from lrf_dse.finetune.reorder import REORDER_VERSION
from lrf_dse.finetune.sequential import SEQUENTIAL_VERSION
from lrf_dse.finetune.train import FINETUNE_VERSION, Recipe
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.models.bounds import BOUNDS_VERSION
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import Dataset
from lrf_dse.models.layer_fit import METHODS_VERSION, get_method
from lrf_dse.models.model import Model
from lrf_dse.models.parts import SPLIT_VERSION
from lrf_dse.models.rewrite import REWRITE_VERSION, layer_form
from lrf_dse.runners.machine import machine_facts
from lrf_dse.runners.timing import timing_model_text
from lrf_dse.schema import Candidate, FcLayer, Storage
from lrf_dse.target import Target
from lrf_dse.tt.stored_fit import GRID_VERSION

_NONE: Mapping[str, str] = MappingProxyType({})

SPACE_VERSION = 8
"""To be raised whenever enumeration, counts, bounds, estimates or pruning change what survives."""


class FittedTo(TypedDict):
    """What fits depend on besides the model and the choices."""

    calibration: Dataset | None
    seed: int


def fitted_to(compressor: Compressor) -> FittedTo:
    """What every key of a fit by this compressor holds besides the choices."""
    return {"calibration": compressor.calibration, "seed": compressor.seed}


def timing_key(
    candidate: Candidate,
    target: Target,
    tools: Mapping[str, str],
    sources: Mapping[str, str] = _NONE,
    *,
    around: Mapping[str, Any] | None = None,
) -> str:
    """Key of the measurement of one layer by itself; `sources` are of generated kernels, by layer.

    `around` is what was added to the figures of a kernel that was measured alone; None: it was in a module.
    """
    layer = candidate.layer
    return content_key(
        "timing",
        # Sizes and no name: layers of one size share a measurement.
        sizes=[layer.out_features, layer.in_features, layer.batch, layer.has_bias],
        computation=_computation(candidate, sources),
        # Of x and y; the storage of the weights stands in `computation`.
        dtype="float32",
        around=None if around is None else dict(around),
        **machine_facts(target, tools, candidate.threads),
    )


def plan_timing_key(
    model: Model,
    choices: Iterable[Candidate],
    target: Target,
    tools: Mapping[str, str],
    sources: Mapping[str, str] = _NONE,
) -> str:
    """Key of the measurement of a whole model. The graph around the layers is known by the model's hash."""
    chosen = tuple(choices)
    return content_key(
        "plan-timing",
        model=model.key,
        batch=model.batch,
        choices={c.layer.name: _computation(c, sources) for c in chosen},
        rewriting=REWRITE_VERSION,
        **machine_facts(target, tools, max((c.threads for c in chosen), default=1)),
    )


def sweep_key(plan_timing: str, builder: str) -> str:
    """Key of the cycles under every switch of the timing model, of a plan's program by one builder."""
    return content_key("sweep", plan_timing=plan_timing, builder=builder)


def accuracy_key(
    model: Model,
    data: Dataset,
    choices: Iterable[Candidate],
    *,
    calibration: Dataset | None,
    seed: int,
    sequential: bool = False,
    reordered: bool = False,
    shipped: bool = False,
) -> str:
    """Key of an accuracy on one part of the data; `calibration` counts where a choice is fitted to it.

    `shipped`: measured in the form of the graph that ships, not by the matrices that it stands for.
    """
    return content_key(
        "accuracy",
        # The two forms differ in rounding: sums run in another order in a chain of factors than in their product.
        form="graph" if shipped else "matrices",
        model=model.key,
        batch=model.batch,
        data=_part(data),
        metric=data.metric.version,
        seed=seed,
        # Keeping a layer changes nothing: a plan that replaces one layer is that layer judged alone.
        **_fitted(choices, calibration, sequential=sequential, reordered=reordered),
    )


def bounds_key(weights: str, data: Dataset, *, model: Model, seed: int) -> str:
    """Key of the drop, with its bounds, of the plan with the weights of that key on one part of the data."""
    return content_key(
        "bounds",
        model=model.key,
        batch=model.batch,
        weights=weights,
        data=_part(data),
        metric=data.metric.version,
        seed=seed,
        version=BOUNDS_VERSION,
    )


def plan_weights_key(
    model: Model,
    choices: Iterable[Candidate],
    *,
    calibration: Dataset | None,
    seed: int,
    sequential: bool = False,
    reordered: bool = False,
) -> str:
    """Key of everything that a plan puts in the place of the model's weights."""
    fitted = _fitted(choices, calibration, sequential=sequential, reordered=reordered)
    return content_key("plan-weights", model=model.key, seed=seed, **fitted)


def finetuning_key(
    weights: str, lessons: Dataset, recipe: Recipe, parts: Mapping[str, Dataset], *, batch: int | None
) -> str:
    """Key of a training that starts from the weights of that key; `parts` pick its epoch and judge it.

    `batch` is the model's: so many samples make a step.
    """
    return content_key(
        "finetuning",
        weights=weights,
        lessons=_part(lessons),
        batch=batch,
        recipe=asdict(recipe),
        version=FINETUNE_VERSION,
        parts={name: [*(_part(data) or ()), data.metric.version] for name, data in parts.items()},
    )


def space_key(
    model: Model,
    layer: FcLayer,
    target: Target,
    *,
    top: int,
    cores: tuple[int, ...],
    seed: int,
    calibration: Dataset | None,
    dense_cycles: float | None,
    smallest: Storage,
) -> str:
    """Key of a layer's narrowed space: weights and data decide it, and what the layer takes as it is.

    The target counts with what estimates are made of: its vectors, its peak, its memory and its timing model.
    """
    core = target.core
    return content_key(
        "space",
        model=model.key,
        layer=to_json(layer),
        lanes=target.fp32_lanes,
        core=[core.count, *(figure and figure.value for figure in (core.issue_width, core.fma_per_cycle))],
        memory=[[level.size_bytes, level.read_bytes_per_cycle.value] for level in target.memory],
        timing=None if target.timing is None else timing_model_text(target),
        # What cannot be faster than the dense layer is left out, so its time is part of what decides.
        dense_cycles=dense_cycles,
        smallest=smallest,
        top=top,
        cores=list(cores),
        seed=seed,
        calibration=_part(calibration),
        version=SPACE_VERSION,
    )


def layer_error_key(
    model: Model, candidate: Candidate, *, calibration: Dataset | None, seed: int, final: bool = False
) -> str:
    """Key of the errors that a fit makes in one layer's weights and outputs: the latter on rows it has not seen.

    `final` is the fit to all rows, which ships.
    """
    return content_key(
        "layer-error",
        model=model.key,
        layer=candidate.layer.name,
        choice=_weights(candidate, calibration),
        calibration=_part(calibration),
        seed=seed,
        final=final,
    )


def _computation(candidate: Candidate, sources: Mapping[str, str]) -> dict[str, Any]:
    """How a layer is computed: of a generated kernel its source counts, of IREE's the form of the graph."""
    shape = None if candidate.tt_shape is None else to_json(candidate.tt_shape)
    found = {"shape": shape, "order": candidate.order, "kernel": candidate.kernel, "threads": candidate.threads}
    found["storage"] = candidate.storage
    # The source says all of a generated kernel: a change of the generator that leaves the text alone measures nothing
    # again.
    if candidate.kernel == "rvv":
        return found | {"source": sources[candidate.layer.name]}
    return found | {"form": layer_form(candidate.layer, candidate.tt_shape, candidate.order)}


def _fitted(
    choices: Iterable[Candidate], calibration: Dataset | None, *, sequential: bool, reordered: bool
) -> dict[str, Any]:
    """What decides all weights of a model; a layer that is kept is no choice. What sees whole models sees data."""
    facts: dict[str, Any] = {"choices": {c.layer.name: _weights(c, calibration) for c in choices if not c.is_dense}}
    # Versions of a correction count only where it is used: a new one makes no other accuracy old.
    if sequential:
        facts["sequential"] = [SEQUENTIAL_VERSION, _part(calibration)]
    if reordered:
        facts["reordered"] = [REORDER_VERSION, _part(calibration)]
    return facts


def _weights(candidate: Candidate, calibration: Dataset | None) -> dict[str, Any] | None:
    """What decides the weights that are computed with; plain TT-SVD sees no data, rounding to few bits sees all."""
    if candidate.is_dense:
        return None
    few_bits, shape = candidate.storage != "fp32", candidate.tt_shape
    # Plain TT-SVD stays valid for any calibration data, so that its records do too.
    sees_data = few_bits or get_method(candidate.decomposer).needs_data
    return {
        "shape": None if shape is None else to_json(shape),
        "order": candidate.order,
        "decomposer": candidate.decomposer,
        "version": METHODS_VERSION,
        "storage": [candidate.storage, GRID_VERSION] if few_bits else None,
        "calibration": _part(calibration) if sees_data else None,
    }


def _part(data: Dataset | None) -> list[Any] | None:
    """The file, the part and its size (the seed, which drew it, is in every key)."""
    return None if data is None else [data.sha256, data.part, data.samples, SPLIT_VERSION]

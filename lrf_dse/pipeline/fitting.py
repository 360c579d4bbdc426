"""Fits and accuracies by the workers of a cluster: what they are sent, and what becomes of the results.

On one machine nothing is done here: what is asked for is made where it is asked for. With a cluster a stage says ahead
what it will ask for. Workers make it, the client puts it into the compressor's memory and the records under the same
keys, and the stage then finds it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lrf_dse.farm import Farm, Shared, Work, stream
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.judged import Accuracy
from lrf_dse.models.compress import Compressor, Fitted, LayerPart
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.keys import fitted_to, layer_error_key
from lrf_dse.pipeline.recorded import NoRecords
from lrf_dse.pipeline.weights import Weights
from lrf_dse.progress import Progress
from lrf_dse.schema import Candidate, FcLayer


def fit_ahead(
    farm: Farm,
    errors: FitErrors,
    candidates: Iterable[Candidate],
    *,
    stage: str,
    progress: Progress,
    final: bool = False,
) -> None:
    """Let workers make the fits of `candidates` that the records do not know; `final` those that ship.

    A task has the candidates of one layer and shape: storages start from the fit in fp32.
    """
    # On this machine fits are made where they are asked for; a second pass over them would gain nothing.
    if not farm.ships:
        return
    groups: dict[str, list[Candidate]] = {}
    for candidate in dict.fromkeys(one.without_generated for one in candidates if not one.is_dense):
        if _is_missing(errors, candidate, final=final):
            # One task for a layer and shape: its storages all start from one fit in fp32.
            groups.setdefault(_group_key(errors.compressor, candidate, final=final), []).append(candidate)
    if not groups:
        return
    compressor, layers = errors.compressor, errors.compressor.model.fc_layers
    # How often a worker may ask for a layer's part decides how it is sent (`farm.Shared`).
    uses = Counter(group[0].layer.name for group in groups.values())

    def prepare(group: Sequence[Candidate]) -> tuple[Any, ...]:
        part = shared_part(compressor, name := group[0].layer.name, uses=uses[name])
        # Fits that are in memory here go along, so that workers do not make them again.
        known = [found for one in group if (found := compressor.known(one)) is not None]
        return part, known, group, final, layers

    def keep(_key: str, made: Sequence[Fitted]) -> None:
        for fitted in made:
            compressor.adopt(fitted)
            errors.output_error(fitted.candidate)  # recorded while it is in memory

    tasks = [Work(key, fitted_there, partial(prepare, group)) for key, group in groups.items()]
    progress(stage, 0, len(tasks))
    stream(farm, tasks, keep=keep, finished=lambda done: progress(stage, done, len(tasks)))


def shared_part(compressor: Compressor, name: str, *, uses: int) -> Shared[LayerPart]:
    """One layer as fits see it, which each of about `uses` workers gets once."""
    key = content_key("part", model=compressor.model.key, layer=name, seen=_seen(compressor))
    return Shared(key, compressor.part(name), uses=uses)


def fitted_there(
    part: LayerPart,
    known: Sequence[Fitted],
    candidates: Sequence[Candidate],
    final: bool,
    layers: Sequence[FcLayer],
) -> list[Fitted]:
    """The trials, and if `final` also the fits, of candidates of one layer."""
    for fitted in known:
        part.compressor.adopt(fitted)
    with few_blas_threads(layers):
        return [part.compressor.fitted(candidate, final=final) for candidate in candidates]


def _is_missing(errors: FitErrors, candidate: Candidate, *, final: bool) -> bool:
    compressor = errors.compressor
    if final:
        return not compressor.has_fit(candidate)
    return errors.store.get(layer_error_key(compressor.model, candidate, **fitted_to(compressor))) is None


def _group_key(compressor: Compressor, candidate: Candidate, *, final: bool) -> str:
    """What tells the tasks of a stage apart, and those of other runs on the same workers."""
    return content_key(
        "fit",
        model=compressor.model.key,
        layer=candidate.layer.name,
        shape=None if candidate.tt_shape is None else to_json(candidate.tt_shape),
        seen=_seen(compressor),
        final=final,
    )


def _seen(compressor: Compressor) -> list[Any]:
    data = compressor.calibration
    return [compressor.seed, None if data is None else [data.sha256, data.part, data.samples]]


@dataclass(frozen=True, eq=False)
class Ground:
    """What accuracies depend on besides choices: sent to a worker once."""

    model: Model
    seed: int
    calibration: Dataset | None
    parts: Mapping[str, Dataset]

    @cached_property
    def accuracies(self) -> Accuracies:
        """Accuracies that keep no records."""
        compressor = Compressor(self.model, seed=self.seed, calibration=self.calibration)
        return Accuracies(Evaluation(Weights(compressor, Path()), self.parts), NoRecords())

    def __reduce__(self) -> tuple[Any, ...]:  # without the accuracies, which grow
        return Ground, (self.model, self.seed, self.calibration, self.parts)


def judge_ahead(
    farm: Farm,
    errors: FitErrors,
    accuracies: Accuracies,
    plans: Iterable[Sequence[Candidate]],
    part: str,
    *,
    stage: str,
    progress: Progress,
) -> None:
    """Let workers judge the models with these choices on a part of the data, as far as the records do not know."""
    if not farm.ships or not accuracies.known:
        return
    missing = accuracies.missing(plans, part)
    if not missing:
        return
    compressor, data = accuracies.compressor, accuracies.parts[part]
    chosen = [choice for choices in missing.values() for choice in choices]
    # Fits first, each once; the models that are judged share them.
    fit_ahead(farm, errors, chosen, stage=stage, progress=progress, final=True)
    ground = Ground(compressor.model, compressor.seed, compressor.calibration, {part: data})
    key = content_key("ground", model=compressor.model.key, seen=_seen(compressor), data=[data.sha256, part])
    shared = Shared(key, ground)

    def prepare(choices: Sequence[Candidate]) -> tuple[Any, ...]:
        known = [found for one in choices if not one.is_dense and (found := compressor.known(one)) is not None]
        return shared, known, choices, part, compressor.model.fc_layers

    def keep(key: str, accuracy: Accuracy) -> None:
        accuracies.keep(key, missing[key], accuracy)

    tasks = [Work(key, judged_there, partial(prepare, choices)) for key, choices in missing.items()]
    stream(farm, tasks, keep=keep, finished=lambda done: progress(stage, done, len(tasks)))


def judged_there(
    ground: Ground, known: Sequence[Fitted], choices: Sequence[Candidate], part: str, layers: Sequence[FcLayer]
) -> Accuracy:
    """The accuracy of the model with `choices` on a part of the data."""
    for fitted in known:
        ground.accuracies.compressor.adopt(fitted)
    # All layers of the model count, not the one that is fitted: the limit is then the same everywhere, and so is
    # rounding.
    with few_blas_threads(layers):
        return ground.accuracies.accuracy(choices, part)

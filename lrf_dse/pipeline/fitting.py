"""Fits and accuracies by the workers of a cluster: what they are sent, and what becomes of the results.

On one machine nothing is done here: what is asked for is made where it is asked for. With a cluster a stage says ahead
what it will ask for. Workers make it, the client puts it into the compressor's memory and the records under the same
keys, and the stage then finds it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.keys import accuracy_key, layer_error_key
from lrf_dse.pipeline.quality import Judge
from lrf_dse.pipeline.recorded import NoRecords
from lrf_dse.schema import Candidate, FcLayer

Progress = Callable[[int, int], None]


def fit_ahead(
    farm: Farm, judge: Judge, candidates: Iterable[Candidate], *, progress: Progress, final: bool = False
) -> None:
    """Let workers make the fits of `candidates` that the records do not know; `final` those that ship.

    A task has the candidates of one layer and shape: storages start from the fit in fp32.
    """
    if not farm.ships:
        return
    groups: dict[str, list[Candidate]] = {}
    for candidate in dict.fromkeys(one.without_generated for one in candidates if not one.is_dense):
        if _is_missing(judge, candidate, final=final):
            groups.setdefault(_group_key(judge, candidate, final=final), []).append(candidate)
    if not groups:
        return
    compressor, layers = judge.compressor, judge.compressor.model.fc_layers

    uses = Counter(group[0].layer.name for group in groups.values())

    def prepare(group: Sequence[Candidate]) -> tuple[Any, ...]:
        part = shared_part(compressor, name := group[0].layer.name, uses=uses[name])
        known = [found for one in group if (found := compressor.known(one)) is not None]
        return part, known, group, final, layers

    def keep(_key: str, made: Sequence[Fitted]) -> None:
        for fitted in made:
            compressor.adopt(fitted)
            judge.output_error(fitted.candidate)  # recorded while it is in memory

    tasks = [Work(key, fitted_there, partial(prepare, group)) for key, group in groups.items()]
    progress(0, len(tasks))
    stream(farm, tasks, keep=keep, finished=lambda done: progress(done, len(tasks)))


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


def _is_missing(judge: Judge, candidate: Candidate, *, final: bool) -> bool:
    if final:
        return not judge.compressor.has_fit(candidate)
    return judge.store.get(layer_error_key(judge.compressor.model, candidate, **judge.fitted_to)) is None


def _group_key(judge: Judge, candidate: Candidate, *, final: bool) -> str:
    """What tells the tasks of a stage apart, and those of other runs on the same workers."""
    return content_key(
        "fit",
        model=judge.compressor.model.key,
        layer=candidate.layer.name,
        shape=None if candidate.tt_shape is None else to_json(candidate.tt_shape),
        seen=_seen(judge.compressor),
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
    def judge(self) -> Judge:
        """A judge that keeps no records."""
        compressor = Compressor(self.model, seed=self.seed, calibration=self.calibration)
        return Judge(compressor, NoRecords(), self.parts, Path())

    def __reduce__(self) -> tuple[Any, ...]:  # without the judge, which grows
        return Ground, (self.model, self.seed, self.calibration, self.parts)


def judge_ahead(
    farm: Farm, judge: Judge, plans: Iterable[Sequence[Candidate]], part: str, *, progress: Progress
) -> None:
    """Let workers judge the models with these choices on a part of the data, as far as the records do not know."""
    if not farm.ships or not judge.knows_accuracy:
        return
    model, data = judge.compressor.model, judge.parts[part]
    missing: dict[str, Sequence[Candidate]] = {}
    for choices in plans:
        key = accuracy_key(model, data, choices, **judge.fitted_to)
        if judge.store.get(key) is None:
            missing.setdefault(key, choices)
    if not missing:
        return
    chosen = [choice for choices in missing.values() for choice in choices]
    fit_ahead(farm, judge, chosen, progress=progress, final=True)
    ground = Ground(model, judge.compressor.seed, judge.compressor.calibration, {part: data})
    shared = Shared(
        content_key("ground", model=model.key, seen=_seen(judge.compressor), data=[data.sha256, part]), ground
    )

    def prepare(choices: Sequence[Candidate]) -> tuple[Any, ...]:
        known = [found for one in choices if not one.is_dense and (found := judge.compressor.known(one)) is not None]
        return shared, known, choices, part, model.fc_layers

    def keep(key: str, accuracy: Accuracy) -> None:
        judge.keep_accuracy(key, missing[key], accuracy)

    tasks = [Work(key, judged_there, partial(prepare, choices)) for key, choices in missing.items()]
    stream(farm, tasks, keep=keep, finished=lambda done: progress(done, len(tasks)))


def judged_there(
    ground: Ground, known: Sequence[Fitted], choices: Sequence[Candidate], part: str, layers: Sequence[FcLayer]
) -> Accuracy:
    """The accuracy of the model with `choices` on a part of the data."""
    for fitted in known:
        ground.judge.compressor.adopt(fitted)
    with few_blas_threads(layers):
        return ground.judge.accuracy(choices, part)

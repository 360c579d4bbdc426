"""The layer stages: narrow every layer's space, then measure and judge what survives and the dense layers."""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.builders.program import BUILDERS
from lrf_dse.cost.prune import PruneResult, prune
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.kernels import default_schedules, kernel_sources
from lrf_dse.pipeline.keys import space_key, timing_key
from lrf_dse.pipeline.methods import Judged, judge_layers
from lrf_dse.pipeline.timing import Outcome, Task, layer_program
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Failure, FcLayer, Kernel, Measurement, dense_candidate
from lrf_dse.tt.spectra import layer_spectra


def narrow_spaces(x: Exploration) -> dict[FcLayer, PruneResult]:
    """The survivors of every layer's space, with the funnel that led to them."""
    spaces: dict[FcLayer, PruneResult] = {}
    for done, layer in enumerate(x.model.fc_layers):
        x.progress("narrow the spaces", done, len(x.model.fc_layers))
        spaces[layer] = _narrow(x, layer)
    x.progress("narrow the spaces", len(spaces), len(spaces))
    return spaces


def _narrow(x: Exploration, layer: FcLayer) -> PruneResult:
    """From the records if they have it: the spectra of a large layer take minutes."""
    settings, sees_data = x.settings, x.judge.compressor.calibration is not None
    key = space_key(x.model, layer, x.target, top=settings.top, seed=settings.seed, by_kind=sees_data)
    known = x.store.get(key)
    if known is not None:
        return from_json(PruneResult, known)  # type: ignore[no-any-return]
    weight, _ = x.model.weights(layer.name)
    found = prune(layer, layer_spectra(weight, seed=settings.seed), x.target, top=settings.top, by_kind=sees_data)
    x.store.put(key, "space", to_json(found), context={"layer": layer.name})
    return found


def measure_layers(x: Exploration, spaces: dict[FcLayer, PruneResult]) -> tuple[CandidateResult, ...]:
    """Every survivor and every dense layer: measured, with what replacing it alone costs."""
    candidates = [
        candidate
        for layer, space in spaces.items()
        for candidate in (*(dense_candidate(layer, kernel) for kernel in dense_kernels(x)), *_with_kernels(x, space))
    ]
    tasks = {candidate: _layer_task(x, candidate) for candidate in dict.fromkeys(candidates)}
    outcomes = x.measure("measure layers", list(tasks.values()))
    usable = [candidate for candidate, task in tasks.items() if isinstance(outcomes[task.key], Measurement)]
    judged = judge_layers(
        tuple(dict.fromkeys(candidate.without_generated for candidate in usable)),
        x.judge,
        evaluations=x.settings.layer_evaluations,
        progress=lambda done, total: x.progress("judge layers", done, total),
    )
    return tuple(
        _result(x, candidate, outcomes[task.key], judged.get(candidate.without_generated))
        for candidate, task in tasks.items()
    )


def _result(x: Exploration, candidate: Candidate, outcome: Outcome, judged: Judged | None) -> CandidateResult:
    if judged is None or isinstance(outcome, Failure):
        assert isinstance(outcome, Failure)
        return CandidateResult(candidate, estimate(candidate, x.target), failure=outcome)
    winner = replace(judged.candidate, kernel=candidate.kernel)
    error = x.judge.output_error(winner)
    return CandidateResult(
        winner,
        estimate(winner, x.target),
        measurement=outcome,
        weight_error=x.judge.relative_error(winner),
        output_error=None if error is None else error.value,
        output_error_interval=None if error is None else error.interval,
        drop_points=judged.drop,
        drop_measured=judged.measured,
    )


def _with_kernels(x: Exploration, space: PruneResult) -> list[Candidate]:
    """The survivors of a space with every kernel that is explored."""
    return [replace(ranked.candidate, kernel=kernel) for ranked in space.survivors for kernel in x.settings.kernels]


def dense_kernels(x: Exploration) -> tuple[Kernel, ...]:
    """The kernels of dense layers: those that are explored, and the compiler's, which every layer has."""
    return ("iree", *(kernel for kernel in x.settings.kernels if kernel != "iree"))


def _layer_task(x: Exploration, candidate: Candidate) -> Task:
    schedules = default_schedules([candidate], x.target)
    key = timing_key(candidate, x.target, x.tools, kernel_sources([candidate], schedules, x.target))
    schedule = schedules.get(candidate.layer.name)
    return Task(
        key,
        "timing",
        to_json(candidate),
        lambda: layer_program(candidate, schedule, seed=x.settings.seed),
        # Around a single generated kernel there is nothing that data tiling could change.
        builders=("iree",) if schedule else tuple(BUILDERS),
    )

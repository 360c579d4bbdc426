"""The layer stages: time dense layers, narrow every layer's space, then measure and judge what survives.

Every dense layer is timed first, by each kernel: what cannot be faster is not explored. Of the survivors our kernels
are measured; IREE's version is compiled where ours fails, and of finalists (`lrf_dse.pipeline.rivals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import PredictedErrors, PruneResult, prune
from lrf_dse.farm import Work, stream
from lrf_dse.jsonform import to_json
from lrf_dse.models.compress import LayerPart
from lrf_dse.pipeline.alone import around_kernels, can_stand_alone, kernel_task
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate, latency_on
from lrf_dse.pipeline.fitting import fit_ahead, shared_part
from lrf_dse.pipeline.keys import space_key, timing_key
from lrf_dse.pipeline.methods import Judged, competitors, judge_layers
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.storages import few_bits, stored_dense, stored_survivors
from lrf_dse.pipeline.timing import Task, layer_program
from lrf_dse.process.spending import spent_on
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Failure, FcLayer, Kernel, Measurement, Outcome, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.output_spectra import can_predict, predicted_output_errors
from lrf_dse.tt.spectra import layer_spectra


def time_dense(x: Exploration) -> dict[FcLayer, float | None]:
    """Modelled cycles of every layer as it is, by its fastest kernel; None where none is right or has cycles."""
    tasks = {layer: _dense_tasks(x, layer) for layer in x.model.fc_layers}
    outcomes = x.measure("time dense layers", [task for mine in tasks.values() for task in mine])
    cycles = {layer: [_cycles(outcomes[task.key]) for task in mine] for layer, mine in tasks.items()}
    return {layer: min((c for c in mine if c is not None), default=None) for layer, mine in cycles.items()}


def _dense_tasks(x: Exploration, layer: FcLayer) -> list[Task]:
    return [layer_task(x, dense_candidate(layer, kernel)) for kernel in dense_kernels(x.settings)]


def _cycles(outcome: Outcome) -> float | None:
    return outcome.cycles if isinstance(outcome, Measurement) else None


def narrow_spaces(x: Exploration, dense: Mapping[FcLayer, float | None]) -> dict[FcLayer, PruneResult]:
    """The survivors of every layer's space, with the funnel that led to them; `dense` are the layers' cycles.

    From the records if they have it: the spectra of a large layer take minutes.
    """
    layers = x.model.fc_layers
    # A shape that is slower than dense may be what is wanted where size matters.
    tasks = {layer: _narrowing(x, layer, None if x.settings.wants_small else dense[layer]) for layer in layers}
    known = {layer: recorded(x.store, task.key, PruneResult) for layer, task in tasks.items()}
    spaces = {layer: space for layer, space in known.items() if space is not None}
    missing = {task.key: layer for layer, task in tasks.items() if layer not in spaces}
    begun = len(spaces)
    x.progress("narrow the spaces", begun, len(layers))

    def keep(key: str, space: PruneResult) -> None:
        spaces[missing[key]] = space
        x.store.put(key, "space", to_json(space), context={"layer": missing[key].name})

    def show(done: int) -> None:
        x.progress("narrow the spaces", begun + done, len(layers))

    if x.farm.ships:
        stream(x.farm, [tasks[layer] for layer in missing.values()], keep=keep, finished=show)
    else:  # one after the other: each may take threads and memory for a large layer
        for done, (key, layer) in enumerate(missing.items(), 1):
            keep(key, tasks[layer]())
            show(done)
    return {layer: spaces[layer] for layer in layers}


def _narrowing(x: Exploration, layer: FcLayer, dense_cycles: float | None) -> Work[PruneResult]:
    settings, compressor, narrowing = x.settings, x.errors.compressor, narrowing_of(x)
    key = space_key(
        x.model,
        layer,
        x.target,
        top=settings.top,
        cores=tuple(narrowing.depths),
        seed=settings.seed,
        calibration=compressor.calibration,
        dense_cycles=dense_cycles,
        smallest=narrowing.smallest,
    )

    def prepare() -> tuple[Any, ...]:
        return shared_part(compressor, layer.name, uses=1), layer, x.target, narrowing, dense_cycles

    return Work(key, narrowed, prepare)


def narrowing_of(x: Exploration) -> Narrowing:
    """How the spaces of an exploration are narrowed."""
    by_kind, depths = x.errors.compressor.calibration is not None, tuple(sorted(set(x.settings.cores)))
    # Storages are in the order of their bits.
    smallest = ("fp32", *few_bits(x.settings))[-1]
    return Narrowing(x.settings.top, by_kind=by_kind, depths=depths, seed=x.settings.seed, smallest=smallest)


@spent_on("search")
def narrowed(
    part: LayerPart, layer: FcLayer, target: Target, narrowing: Narrowing, dense_cycles: float | None
) -> PruneResult:
    """The survivors of a layer's space, by its weights and by what is known of its inputs."""
    spectra = layer_spectra(part.weight, seed=part.seed)
    latency = latency_on(layer, target, dense_cycles)
    return prune(layer, spectra, target, narrowing, latency=latency, predicted=_predicted(part, layer))


def _predicted(part: LayerPart, layer: FcLayer) -> PredictedErrors | None:
    """What is expected of fits to the calibration data; None without data, or of too many inputs."""
    if part.moment is None:
        return None
    # A bias absorbs the mean of the inputs, so that only what varies around it counts.
    seen = part.moment.centred() if layer.has_bias else part.moment
    if not can_predict(seen):
        return None
    return lambda shapes: predicted_output_errors(part.weight, seen, shapes, seed=part.seed)


def measure_layers(x: Exploration, spaces: dict[FcLayer, PruneResult]) -> tuple[CandidateResult, ...]:
    """Every survivor and every dense layer: measured, with what replacing it alone costs."""
    shapes = [ranked.candidate for space in spaces.values() for ranked in space.survivors]
    with_data = x.errors.compressor.calibration is not None
    # The last competitor is the fit to data, which all storages of a shape start from.
    ahead = [competitors(shape, with_data=with_data)[-1] for shape in shapes]
    fit_ahead(x.farm, x.errors, ahead, stage="fit layers", progress=x.progress)
    candidates = _candidates(x, spaces)
    return results_of(x, candidates, stage="measure layers", evaluations=x.settings.layer_evaluations)


@spent_on("search")
def _candidates(x: Exploration, spaces: dict[FcLayer, PruneResult]) -> list[Candidate]:
    """What is measured of every layer."""
    # One kernel for each survivor; the other one is measured for finalists alone (`lrf_dse.pipeline.rivals`).
    first: Kernel = "rvv" if "rvv" in x.settings.kernels else "iree"
    return [
        candidate
        for layer, space in spaces.items()
        for candidate in (
            *(dense_candidate(layer, kernel) for kernel in dense_kernels(x.settings)),
            *(replace(ranked.candidate, kernel=first) for ranked in space.survivors),
            *stored_dense(x.settings, layer),
            *stored_survivors(x, space),
        )
    ]


def results_of(
    x: Exploration, candidates: Sequence[Candidate], *, stage: str, evaluations: int
) -> tuple[CandidateResult, ...]:
    """What became of `candidates`: measured under `stage`, and judged by at most about so many evaluations."""
    outcomes = measure_candidates(x, stage, candidates)
    # IREE stands in only for kernels in fp32: it computes no weights in few bits.
    ours = [c for c in outcomes if c.kernel == "rvv" and c.storage == "fp32" and not c.is_dense]
    failing = [candidate for candidate in ours if isinstance(outcomes[candidate], Failure)]
    if "iree" in x.settings.kernels:
        again = [candidate.without_generated for candidate in failing]
        outcomes |= measure_candidates(x, f"{stage} with IREE's kernels", again)
    usable = [candidate for candidate, outcome in outcomes.items() if isinstance(outcome, Measurement)]
    judged = judge_layers(
        # A drop knows no kernel: a shape is judged once.
        tuple(dict.fromkeys(candidate.without_generated for candidate in usable)),
        x.errors,
        x.accuracies,
        farm=x.farm,
        evaluations=evaluations,
        stage=stage.replace("measure", "judge"),
        progress=x.progress,
    )
    return tuple(
        _result(x, candidate, outcome, judged.get(candidate.without_generated))
        for candidate, outcome in outcomes.items()
    )


def measure_candidates(x: Exploration, stage: str, candidates: Iterable[Candidate]) -> dict[Candidate, Outcome]:
    """What came of each candidate by itself; nothing is shown of a stage without any."""
    asked = tuple(candidates)
    # Two programs of the smallest layer, measured once for all candidates.
    around = around_kernels(x) if any(can_stand_alone(x.settings, candidate) for candidate in asked) else None
    with spent_on("search"):
        tasks = {c: kernel_task(x, c, around) if can_stand_alone(x.settings, c) else layer_task(x, c) for c in asked}
    outcomes = x.measure(stage, list(tasks.values())) if tasks else {}
    return {candidate: outcomes[task.key] for candidate, task in tasks.items()}


@spent_on("search")
def _result(x: Exploration, candidate: Candidate, outcome: Outcome, judged: Judged | None) -> CandidateResult:
    if judged is None or isinstance(outcome, Failure):
        assert isinstance(outcome, Failure)
        return CandidateResult(candidate, estimate(candidate, x.target), failure=outcome)
    # The judge saw no kernel; the figures are of this candidate's.
    winner = replace(judged.candidate, kernel=candidate.kernel)
    error = x.errors.output_error(winner)
    return CandidateResult(
        winner,
        estimate(winner, x.target),
        measurement=outcome,
        weight_error=x.errors.relative_error(winner),
        output_error=None if error is None else error.value,
        output_error_interval=None if error is None else error.interval,
        drop_points=judged.drop,
        drop_measured=judged.measured,
    )


def dense_kernels(settings: ExploreSettings) -> tuple[Kernel, ...]:
    """The kernels of dense layers: those that are explored, and the compiler's, which every layer has."""
    return ("iree", *(kernel for kernel in settings.kernels if kernel != "iree"))


def layer_task(x: Exploration, candidate: Candidate) -> Task:
    """The program of one candidate by itself, as a module."""
    if candidate.kernel == "rvv":
        return kernel_task(x, candidate, None)
    key = timing_key(candidate, x.target, x.tools)
    return Task(key, "timing", to_json(candidate), partial(layer_program, candidate, seed=x.settings.seed))

"""The selection of whole models: options of layers from their results, the search among them, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from lrf_dse.cost.latency import combine
from lrf_dse.errors import RunError
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.plans import measured_dense
from lrf_dse.pipeline.quiet import library_lines_hidden
from lrf_dse.pipeline.refining import refined
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.plan.choice import OBJECTIVES, Objective
from lrf_dse.plan.confirm import confirmable_drop
from lrf_dse.plan.options import NO_LIMITS, Combination, LayerOption, Limits, shifted_to
from lrf_dse.plan.refine import Between
from lrf_dse.plan.search import LossOf, Search, finalists, search
from lrf_dse.plan.terrain import WORST
from lrf_dse.process.spending import spent_on
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Measurement
from lrf_dse.target import Target

GENTLER = 1e-3
"""What the relative error of a layer's outputs counts beside its drop, in the drop's unit: no more than a tie."""


ALL_WEIGHTS = 1.0
"""The loss of a model whose weights are all gone, where weight errors stand for accuracy."""

TRAINABLE = 50.0
"""Points lost before training that still count: training wins back tens of them, and no plan is left out for fewer."""


@spent_on("search")
def select_finalists(x: Exploration, results: Sequence[CandidateResult]) -> tuple[Search, tuple[CandidateResult, ...]]:
    """Whole models worth building, by predicted latency and sizes, and losses measured and predicted in turn.

    Beside them the results, with those of ranks that the search asked for between others.
    """
    options: dict[str, dict[Candidate, LayerOption]] = {layer.name: {} for layer in x.model.fc_layers}
    for result in results:
        if result.measurement is not None:
            _keep_faster(options[result.candidate.layer.name], layer_option(x, result, result.measurement))
    _require_dense(options, results)
    # Before and after the shift: options that come later need the same shift.
    own = [list(found.values()) for found in options.values()]
    layers, within, objective = _as_measured(x, own), _limits(x.settings), _single_objective(x.settings)
    if not x.accuracies.known:
        # Without data no loss is measured: plans are picked by weight error, in one pass.
        with library_lines_hidden():
            found = finalists(layers, x.settings.finalists, worst=ALL_WEIGHTS, within=within, objective=objective)
        return found, tuple(results)
    more: list[CandidateResult] = []

    def refine(wanted: Sequence[Between]) -> list[LayerOption]:
        new = refined(x, wanted)
        more.extend(new)
        made = [layer_option(x, result, result.measurement) for result in new if result.measurement is not None]
        return [_shifted_like(option, own, layers) for option in made]

    # Training wins back what no prediction tells: plans that lose too much before it are finalists as well.
    max_loss = None if x.lessons else x.settings.budgets.max_drop
    find = partial(
        search,
        layers,
        x.settings.finalists,
        measure=_measure(x),
        evaluations=x.settings.plan_evaluations,
        max_loss=max_loss,
        worst=TRAINABLE if x.lessons else WORST if x.data is None else x.data.metric.worst_drop,
        refine=refine,
    )
    with library_lines_hidden():
        found = find(within=within, objective=objective)
        if not keeps_limits(found, within, max_loss):
            # What comes nearest is sought and measured, so that the user is told what to relax, and how far.
            nearest = find(within=NO_LIMITS, objective=objective_of_limit(within))
            found = replace(nearest, finalists=joined_finalists(nearest, found), answer=found.answer)
    return found, (*results, *more)


def keeps_limits(found: Search, within: Limits, max_loss: float | None) -> bool:
    """Whether the dense model, which is the first finalist, or a model that was judged keeps all limits.

    Times and sizes are predicted; only the loss was measured.
    """
    judged = [p.combination for p in found.predictions if max_loss is None or p.measured <= max_loss]
    return any(within.admits(member) for member in (found.finalists[0], *judged))


def objective_of_limit(within: Limits) -> Objective:
    """What to have least of, to come as near to the limits as can be; bytes of flash before RAM before latency."""
    if within.flash_bytes is not None:
        return "bytes"
    return "ram" if within.ram_bytes is not None else "latency"


def joined_finalists(first: Search, second: Search) -> tuple[Combination, ...]:
    """The finalists of both, the dense one once."""
    known = {member.key for member in first.finalists}
    return (*first.finalists, *(m for m in second.finalists if m.key not in known and not m.is_dense))


def _measure(x: Exploration) -> LossOf:
    """What a whole model loses, with progress shown."""
    done = 0

    def measure(combination: Combination) -> float:
        nonlocal done
        done += 1
        x.progress("judge whole models", done, x.settings.plan_evaluations)
        if x.settings.budgets.max_drop is not None:
            return confirmable_drop(x.accuracies.best(combination.choices), x.accuracies.parts["confirmation"].samples)
        # A gain counts as no loss: it is within the noise of the part.
        return max(0.0, x.accuracies.best(combination.choices).drop)

    return measure


def _shifted_like(
    option: LayerOption, own: Sequence[Sequence[LayerOption]], shifted: Sequence[Sequence[LayerOption]]
) -> LayerOption:
    """An option with the shift that `_as_measured` gave to the others of its layer."""
    before, after = next(
        (b[0], a[0]) for b, a in zip(own, shifted, strict=True) if b[0].candidate.layer == option.candidate.layer
    )
    return replace(
        option,
        latency=option.latency + after.latency - before.latency,
        flash_bytes=option.flash_bytes + after.flash_bytes - before.flash_bytes,
        ram_bytes=option.ram_bytes + after.ram_bytes - before.ram_bytes,
    )


def _single_objective(settings: ExploreSettings) -> Objective | None:
    """What the one chosen plan is to have least of; None for the knee, which is sought on the front."""
    names = {name: objective for objective, name in OBJECTIVES.items()}
    return names.get(settings.pick)


def _as_measured(x: Exploration, layers: Sequence[Sequence[LayerOption]]) -> list[list[LayerOption]]:
    """The options such that dense ones add up to the dense model, where there are limits that it matters for."""
    # Only limits compare sums over layers with a number of the user's; without them a constant changes no order.
    if _limits(x.settings) == NO_LIMITS:
        return [list(options) for options in layers]
    dense = [m for _, _, m in measured_dense(x) if isinstance(m, Measurement)]
    if not dense:
        return [list(options) for options in layers]
    best = min(dense, key=lambda measured: measured.time)
    return shifted_to(layers, latency=best.time, flash_bytes=best.flash_bytes, ram_bytes=best.ram_bytes)


def _limits(settings: ExploreSettings) -> Limits:
    """What whole models are predicted to keep, on the most threads."""
    budgets = settings.budgets
    latency = budgets.max_seconds if budgets.max_cycles is None else budgets.max_cycles
    # Options were measured on one thread; on t threads a plan takes at least the t-th part.
    threads = max(settings.threads)
    return Limits(None if latency is None else latency * threads, budgets.max_flash_bytes, budgets.max_ram_bytes)


def _require_dense(options: Mapping[str, Mapping[Candidate, LayerOption]], results: Sequence[CandidateResult]) -> None:
    """Raise RunError for a layer that no kernel computes right as it is: there would be nothing to compare with."""
    for name, found in options.items():
        if any(candidate.is_dense for candidate in found):
            continue
        mine = (r.failure for r in results if r.candidate.is_dense and r.candidate.layer.name == name)
        failure = next(failure for failure in mine if failure is not None)
        raise RunError(f"the dense layer {name} fails at stage {failure.stage}: {failure.reason}")


def _keep_faster(options: dict[Candidate, LayerOption], option: LayerOption) -> None:
    """Add an option of a layer; of those that differ in the kernel only, the faster one stays."""
    same = option.candidate.without_generated
    if same not in options or option.latency < options[same].latency:
        options[same] = option


def layer_option(x: Exploration, result: CandidateResult, measured: Measurement) -> LayerOption:
    """What selection knows of a measured candidate."""
    # Every use of the layer takes that time; its weights are stored once.
    latency = _latency(measured, result.estimate.lower_bound, x.target) * result.candidate.layer.uses
    if x.accuracies.known:
        # A gain on one part of the data is noise. Of options without a drop the gentler ones are not lost among the
        # faster: they are what a drop budget can be confirmed of.
        loss = max(0.0, result.drop_points or 0.0) + GENTLER * (result.output_error or 0.0)
    else:
        loss = x.errors.weight_error([result.candidate]) ** 2  # squared errors of layers add up
    return LayerOption(result.candidate, latency, measured.flash_bytes, measured.ram_bytes, loss)


def _latency(measured: Measurement, bound_cycles: float | None, target: Target) -> float:
    """The best that is known: board seconds, modelled cycles, a lower bound, instructions; one kind within a run."""
    if measured.seconds is not None:
        return measured.seconds
    if measured.cycles is not None:
        return measured.cycles
    bound = combine(bound_cycles, measured.instructions, target)
    return float(measured.instructions or 0) if bound is None else bound

"""The plan stages: pick finalists, measure and judge them as whole models, choose one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from lrf_dse.builders.program import BUILDERS
from lrf_dse.codegen import lower_bound
from lrf_dse.cost.latency import combine
from lrf_dse.errors import BudgetError, RunError
from lrf_dse.farm import Shared
from lrf_dse.models.compress import replaced
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.pipeline.accuracies import Accuracies, accuracy_fields
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.golden import golden_cases
from lrf_dse.pipeline.kernels import (
    Schedules,
    kernel_sources,
    kernel_spec,
    schedules_of,
    schedules_to_json,
    tuned_schedules,
    with_kernels,
    without_generated,
)
from lrf_dse.pipeline.keys import plan_timing_key
from lrf_dse.pipeline.layers import dense_kernels
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.storages import stored_dense
from lrf_dse.pipeline.timing import Program, Task
from lrf_dse.pipeline.widening import widened_variants
from lrf_dse.plan.budgets import confirmation_sentence, why_dense
from lrf_dse.plan.choice import choose, latency_of, latency_unit
from lrf_dse.plan.options import Combination
from lrf_dse.report.facts import FailedPlan
from lrf_dse.runners.job import Array
from lrf_dse.schema import REFERENCE, Candidate, Failure, Measurement, Outcome, Plan, dense_candidate
from lrf_dse.target import Target


def measure_dense(x: Exploration) -> Measurement:
    """The dense model on one thread, judged, built, run and verified, before anything else is measured.

    What is wrong with the model itself (an operation that no program can hold, outputs that are not finite, a metric
    that they do not fit) is told in seconds, not after every layer. `measure_plans` finds the records again. Raises
    DataError, ModelError, or RunError where no kernel computes it right.
    """
    x.progress("dense model", 0, 1)
    x.accuracies.check_dense()
    # The first kernel that is right is enough here: this is a check of the model, the fastest kernel is sought later.
    failures: list[Failure] = []
    for variant in _dense_variants(x):  # a generated kernel may do where the compiler's is wrong
        ((_, _, outcome),) = _measured(x, "dense model", [variant])
        if isinstance(outcome, Measurement):
            return outcome
        failures.append(outcome)
    raise _dense_fails(failures[0])


def _dense_variants(x: Exploration) -> list[tuple[Candidate, ...]]:
    """The dense model by each kernel alone."""
    return [
        tuple(dense_candidate(layer, kernel) for layer in x.model.fc_layers) for kernel in dense_kernels(x.settings)
    ]


def _stored_variants(x: Exploration) -> list[tuple[Candidate, ...]]:
    """The model in every storage besides fp32, not factorised: what a user has who only quantises."""
    layers = [stored_dense(x.settings, layer) for layer in x.model.fc_layers]
    return [tuple(choices) for choices in zip(*layers, strict=True)]


def _dense_fails(failure: Failure) -> RunError:
    return RunError(f"the dense model fails at stage {failure.stage}: {failure.reason}")


def measure_plans(
    x: Exploration, combinations: Sequence[Combination]
) -> tuple[tuple[Plan, ...], tuple[FailedPlan, ...]]:
    """The finalists as whole models: measured under the runner and judged on both parts of the data.

    The dense model is built by each kernel alone as well as by the faster one of every layer: the fastest of them is
    the reference, named "dense". Beside it stands the model that is only quantised, in every storage explored.
    """
    variants = [choices for combination in combinations for choices in _on_threads(x, combination)]
    variants = list(dict.fromkeys([*_dense_variants(x), *variants, *_stored_variants(x)]))
    # The dense models go first: the program that is faster of them tells by which builder plans are made.
    dense = len(_dense_variants(x))
    measured = _measured(x, "measure plans", variants[:dense])
    measured += _measured(x, "measure plans", variants[dense:], rest_by=_builder_of_the_rest(measured))
    # A plan whose generated kernels fail is kept as a Failure; with IREE's kernels it is still worth having.
    failing = [choices for choices, _, outcome in measured if isinstance(outcome, Failure)]
    # A twin that is among the variants anyway is not measured twice.
    again = [choices for choices in without_generated(failing) if choices not in variants]
    measured += _measured(x, "measure plans with IREE's kernels", again)
    if x.settings.widen:
        twins = widened_variants(measured, x.target, max_ram_bytes=x.settings.budgets.max_ram_bytes)
        rest_by = _builder_of_the_rest(measured[:dense])
        measured += _measured_with(x, "measure plans with widened weights", list(twins), rest_by=rest_by)
    plans: list[Plan] = []
    failed: list[FailedPlan] = []
    for done, (choices, schedules, outcome) in enumerate(measured):
        x.progress("judge plans", done, len(measured))
        if isinstance(outcome, Measurement):
            plans.append(replace(_plan(x, choices, outcome), schedules=schedules_to_json(schedules)))
            x.weights.keep(plans[-1])
        else:
            failed.append(FailedPlan(f"failed-{len(failed) + 1}", choices, outcome))
    x.progress("judge plans", len(measured), len(measured))
    return _named(plans, failed), tuple(failed)


def measured_dense(x: Exploration) -> list[tuple[tuple[Candidate, ...], Schedules, Outcome]]:
    """What came of the dense model by each kernel alone."""
    return _measured(x, "dense model", _dense_variants(x))


def _named(plans: Sequence[Plan], failed: Sequence[FailedPlan]) -> tuple[Plan, ...]:
    """The plans with their ids: the reference first, the others fastest first. Raises RunError without a reference."""
    unit = latency_unit(plans)
    by_time = sorted(plans, key=lambda plan: (latency_of(plan, unit) or 0.0, plan.flash_bytes))
    # By time: the first dense plan on one thread is the fastest of them.
    reference = next((plan for plan in by_time if plan.is_dense and plan.threads == 1), None)
    if reference is None:
        raise _dense_fails(next(plan.failure for plan in failed if all(choice.is_dense for choice in plan.choices)))
    others = [plan for plan in by_time if plan is not reference]
    named = (replace(plan, id=f"p{number}") for number, plan in enumerate(others, start=1))
    return replace(reference, id=REFERENCE), *named


def _builder_of_the_rest(dense: Sequence[tuple[tuple[Candidate, ...], Schedules, Outcome]]) -> str | None:
    """The builder that makes the faster program of what is no FC layer, as far as the dense models tell.

    With kernels of ours in all layers the compiler gets the same rest in every plan: one of them tells.
    """
    ours = [outcome for choices, _, outcome in dense if _all_ours(choices)]
    return next((outcome.builder for outcome in ours if isinstance(outcome, Measurement)), None)


def _all_ours(choices: Sequence[Candidate]) -> bool:
    return all(choice.kernel == "rvv" for choice in choices)


def golden_inputs(x: Exploration) -> Sequence[Array]:
    """What programs are checked on."""
    (inputs,) = golden_cases(x.model, x.data, seed=x.settings.seed, count=1)
    return inputs


def _measured(
    x: Exploration, stage: str, variants: Sequence[tuple[Candidate, ...]], *, rest_by: str | None = None
) -> list[tuple[tuple[Candidate, ...], Schedules, Outcome]]:
    """What came of each whole model, its generated kernels tuned; `rest_by` is the builder where all are generated."""
    # All variants at once: plans share layers, and a kernel is tuned once.
    tuned = tuned_schedules(x, variants) if variants else {}
    scheduled = [(choices, schedules_of(choices, tuned)) for choices in variants]
    return _measured_with(x, stage, scheduled, rest_by=rest_by)


def _measured_with(
    x: Exploration, stage: str, variants: Sequence[tuple[tuple[Candidate, ...], Schedules]], *, rest_by: str | None
) -> list[tuple[tuple[Candidate, ...], Schedules, Outcome]]:
    """What came of each whole model with these schedules of its generated kernels."""
    if not variants:
        return []
    inputs = golden_inputs(x)
    tasks = [
        plan_task(x, choices, schedules, inputs, builders=(rest_by,) if rest_by and _all_ours(choices) else None)
        for choices, schedules in variants
    ]
    outcomes = x.measure(stage, tasks)
    return [(*variant, outcomes[task.key]) for variant, task in zip(variants, tasks, strict=True)]


def _on_threads(x: Exploration, combination: Combination) -> list[tuple[Candidate, ...]]:
    """The choices on every number of threads that may gain: where barriers eat the predicted gain, it is left out."""
    chosen: list[tuple[Candidate, ...]] = []
    best = inf
    for threads in sorted(set(x.settings.threads)):
        # Threads share the work at best; each stage ends with a barrier.
        predicted = combination.latency / threads + (_barrier_cycles(x.target, combination) if threads > 1 else 0.0)
        if predicted < best:
            best = predicted
            chosen.append(tuple(replace(choice, threads=threads) for choice in combination.choices))
    return chosen


def _barrier_cycles(target: Target, combination: Combination) -> float:
    """What joining costs: one barrier a stage. 0 where latency is not in cycles, so that nothing is left out."""
    if target.timing is None:
        return 0.0
    stages = sum(1 if choice.tt_shape is None else choice.tt_shape.d for choice in combination.choices)
    return target.timing.barrier_cycles.value * stages


def plan_task(
    x: Exploration,
    choices: Sequence[Candidate],
    schedules: Schedules,
    inputs: Sequence[Array],
    *,
    builders: tuple[str, ...] | None,
) -> Task:
    """The program of a whole model, the fastest of those of `builders`, by default of all."""
    sources = kernel_sources(choices, schedules, x.target)
    key = plan_timing_key(x.model, choices, x.target, x.tools, sources)
    context = {choice.layer.name: choice.label_with_kernel for choice in choices}
    # All layers of a plan run on the same number of threads (`_on_threads`).
    threads = choices[0].threads

    def arguments() -> tuple[Any, ...]:
        made = with_kernels(x.weights.replacements(choices), choices, schedules)
        # The model goes to a worker once, the replacements with their task only.
        return Shared(x.model.key, x.model, uses=x.settings.finalists), Shared(key, made, lasting=False), inputs

    return Task(
        key, "plan_timing", context, plan_program, arguments, threads=threads, builders=builders or tuple(BUILDERS)
    )


def plan_program(model: Model, made: Mapping[str, Replacement], inputs: Sequence[Array]) -> Program:
    """A whole model with what takes the place of its layers, and the inputs of one inference."""
    return replaced(model, made), inputs


def _plan(x: Exploration, choices: Sequence[Candidate], measured: Measurement) -> Plan:
    corrections = x.accuracies.corrections(choices)
    plan = Plan(
        # `_named` gives ids once all plans are known: they follow the order of time.
        id="",
        choices=tuple(choices),
        cycles=_plan_cycles(choices, measured, x.target),
        latency_source=_latency_source(measured, x.target),
        instructions=measured.instructions,
        flash_bytes=measured.flash_bytes,
        ram_bytes=measured.ram_bytes,
        weight_error=x.errors.weight_error(choices),
        seconds=measured.seconds,
        sweep=measured.sweep,
        builder=measured.builder,
        weights=x.weights.key(choices, corrections),
        sequential=corrections.sequential,
        reordered=corrections.reordered,
    )
    return _judged(x.accuracies, plan) if x.accuracies.known else plan


def _judged(accuracies: Accuracies, plan: Plan) -> Plan:
    validation, test = (accuracies.of_plan(plan, part) for part in ("validation", "test"))
    return replace(plan, **accuracy_fields(validation, test))


def _plan_cycles(choices: Sequence[Candidate], measured: Measurement, target: Target) -> float | None:
    """Modelled cycles; a lower bound over the FC layers where the target has no model of its pipeline."""
    if measured.cycles is not None or measured.seconds is not None or not target.has_timing:
        return measured.cycles
    # Without a model of the pipeline the bound is the only time that is known; the source of the figure says so.
    layers = [lower_bound(kernel_spec(choice), target) for choice in choices]
    return combine(sum(cycles for cycles in layers if cycles is not None), measured.instructions, target)


def _latency_source(measured: Measurement, target: Target) -> str:
    if measured.seconds is not None or measured.cycles is not None:
        return measured.source
    return f"lower bound, {target.name}" if target.has_timing else "executed instructions"


def choose_plan(settings: ExploreSettings, plans: Sequence[Plan]) -> tuple[str | None, str]:
    """The chosen plan's id and the reason; None when no plan keeps the budgets."""
    budgets, pick = settings.budgets, settings.pick
    try:
        plan = choose(plans, pick, budgets)
    # A finished run without a plan within the budgets is a result: the report says what was nearest.
    except BudgetError as error:
        return None, str(error)
    if pick == "knee":
        return plan.id, "the knee of the front: no budget was given"
    reason = f"{_PICKED[pick]}{' within the budgets' if budgets.limited else ''}"
    if plan.is_dense:
        return plan.id, f"{reason}: {why_dense(plans, budgets)}"
    reason += ", the smallest of those within 1 %" if pick == "fastest" else ""
    known = plan.confirmation
    return plan.id, reason if known is None else f"{reason}; confirmed: {confirmation_sentence(known)}"


_PICKED = {
    "fastest": "the fastest plan",
    "smallest": "the smallest plan",
    "least-ram": "the plan of the least RAM",
    "most-accurate": "the most accurate plan",
}

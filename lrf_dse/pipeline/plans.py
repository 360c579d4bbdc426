"""The plan stages: pick finalists, measure and judge them as whole models, choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lrf_dse.cost.latency import combine, roofline
from lrf_dse.errors import BudgetError, RunError
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.keys import plan_timing_key
from lrf_dse.pipeline.timing import Task
from lrf_dse.plan.choice import choose
from lrf_dse.plan.select import Combination, LayerOption, finalists
from lrf_dse.report.info import CandidateResult, FailedPlan
from lrf_dse.runners.job import Array
from lrf_dse.schema import Candidate, Measurement, Plan
from lrf_dse.target import Target


def select_finalists(x: Exploration, results: Sequence[CandidateResult]) -> tuple[Combination, ...]:
    """Whole models worth building, by predicted latency, sizes and loss."""
    options: dict[str, list[LayerOption]] = {layer.name: [] for layer in x.model.fc_layers}
    for result in results:
        if result.measurement is not None:
            options[result.candidate.layer.name].append(_option(x, result, result.measurement))
        elif result.candidate.is_dense and result.failure is not None:
            name, failure = result.candidate.layer.name, result.failure
            raise RunError(f"the dense layer {name} fails at stage {failure.stage}: {failure.reason}")
    max_drop = x.settings.budgets.max_drop
    # A sum of drops measured one by one overstates some plans' drop: leave room before discarding them unmeasured.
    return finalists(
        list(options.values()), x.settings.finalists, max_loss=None if max_drop is None else 1.5 * max_drop
    )


def _option(x: Exploration, result: CandidateResult, measured: Measurement) -> LayerOption:
    cycles = combine(result.estimate.cycles, measured.instructions, x.target)
    latency = cycles if x.target.has_timing else measured.instructions
    if x.judge.knows_accuracy:
        loss = max(0.0, result.drop_points or 0.0)  # a gain on one half of the data is noise
    else:
        loss = x.judge.weight_error([result.candidate]) ** 2  # squared errors of layers add up
    return LayerOption(result.candidate, float(latency or 0), measured.flash_bytes, measured.ram_bytes, loss)


def measure_plans(
    x: Exploration, combinations: Sequence[Combination]
) -> tuple[tuple[Plan, ...], tuple[FailedPlan, ...]]:
    """The finalists as whole models: measured under the runner and judged on both parts of the data."""
    inputs = example_inputs(x.model, x.data, seed=x.settings.seed)
    tasks = [_plan_task(x, combination.choices, inputs) for combination in combinations]
    outcomes = x.measure("measure plans", tasks)
    plans: list[Plan] = []
    failed: list[FailedPlan] = []
    for done, (combination, task) in enumerate(zip(combinations, tasks, strict=True)):
        x.progress("judge plans", done, len(tasks))
        outcome = outcomes[task.key]
        if isinstance(outcome, Measurement):
            plans.append(_plan(x, combination.choices, outcome))
        elif combination.is_dense:
            raise RunError(f"the dense model fails at stage {outcome.stage}: {outcome.reason}")
        else:
            failed.append(FailedPlan(f"failed-{len(failed) + 1}", combination.choices, outcome))
    x.progress("judge plans", len(tasks), len(tasks))
    plans.sort(key=lambda plan: (not plan.is_dense, plan.cycles or plan.instructions or 0, plan.flash_bytes))
    named = [replace(plan, id="dense" if plan.is_dense else f"p{n}") for n, plan in enumerate(plans)]
    return tuple(named), tuple(failed)


def _plan_task(x: Exploration, choices: Sequence[Candidate], inputs: Sequence[Array]) -> Task:
    key = plan_timing_key(x.model, choices, x.target, x.tools)
    context = {choice.layer.name: choice.label for choice in choices}
    return Task(key, "plan_timing", context, lambda: (x.judge.compressor.apply(choices), inputs))


def _plan(x: Exploration, choices: Sequence[Candidate], measured: Measurement) -> Plan:
    layers = [roofline(choice, x.target).cycles for choice in choices]
    bound = sum(cycles for cycles in layers if cycles is not None) if x.target.has_timing else None
    drop = x.judge.drop_points(choices)
    known = x.judge.knows_accuracy
    return Plan(
        id="",
        choices=tuple(choices),
        cycles=combine(bound, measured.instructions, x.target),
        latency_source=_latency_source(x.target),
        instructions=measured.instructions,
        flash_bytes=measured.flash_bytes,
        ram_bytes=measured.ram_bytes,
        weight_error=x.judge.weight_error(choices),
        accuracy=x.judge.accuracy(choices, "validation").value if known else None,
        drop_points=drop,
        test_accuracy=x.judge.accuracy(choices, "test").value if known else None,
    )


def _latency_source(target: Target) -> str:
    if not target.has_timing:
        return "executed instructions"
    return f"roofline estimate, {target.name}"


def choose_plan(x: Exploration, plans: Sequence[Plan]) -> tuple[str | None, str]:
    """The chosen plan's id and the reason; None when no plan keeps the budgets."""
    budgets = x.settings.budgets
    limited = any(v is not None for v in (budgets.max_drop, budgets.max_flash_bytes, budgets.max_ram_bytes))
    pick = "fastest" if limited else "knee"
    try:
        plan = choose(plans, pick, budgets)
    except BudgetError as error:
        return None, str(error)
    return plan.id, "the fastest plan within the budgets" if limited else "the knee of the front: no budget was given"


def example_inputs(model: Model, data: Dataset | None, *, seed: int) -> tuple[Array, ...]:
    """Whole input tensors of one inference: the first samples of the data, or random ones of the right shape."""
    random = np.random.default_rng(seed)
    tensors: list[Array] = []
    for spec in model.inputs:
        if data is not None:
            samples = data.x[spec.name]
            tensors.append(samples[0] if model.batch is None else np.resize(samples, spec.shape))
        elif np.issubdtype(np.dtype(spec.dtype), np.floating):
            tensors.append(random.standard_normal(spec.shape).astype(spec.dtype))
        else:
            tensors.append(np.zeros(spec.shape, spec.dtype))  # an index or a mask: 0 is always in range
    return tuple(tensors)

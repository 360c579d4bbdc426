"""A generated kernel that is wrong: a Failure of its candidate or plan, and IREE's kernel in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import explored
import pytest

from lrf_dse.builders import importing
from lrf_dse.codegen import KernelCode, emit
from lrf_dse.errors import RunError
from lrf_dse.models.compress import Compressor
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.plans import measure_plans
from lrf_dse.pipeline.selecting import select_finalists
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Bench, Task, build_and_run, layer_program
from lrf_dse.pipeline.weights import Weights
from lrf_dse.plan.options import Combination, LayerOption
from lrf_dse.progress import silent
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Failure, Measurement, Outcome, TTShape, dense_candidate
from lrf_dse.store import Store
from lrf_dse.target import load_target
from lrf_dse.tune import FileRecords

TARGET = load_target("spacemit-k1")
SHAPE = TTShape((32, 1), (1, 64), (1, 6, 1))
WRONG = Failure("verify", "wrong on purpose")


def computing_nothing(*arguments: Any, **options: Any) -> KernelCode:
    """A kernel that returns at once."""
    code = emit(*arguments, **options)
    start = code.source.index("{", code.source.rindex(f"void {code.phases[0].function}(")) + 1
    return replace(code, source=f"{code.source[:start]}\n    if (y) return;{code.source[start:]}")


def test_a_wrong_kernel_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = read_model(explored.tiny_model(tmp_path)).fc_layers[0]
    candidate = Candidate(layer, SHAPE, kernel="rvv")
    model, inputs = layer_program(candidate, seed=0)
    monkeypatch.setattr(importing, "emit", computing_nothing)
    outcome = build_and_run(model, inputs, Bench(TARGET), tmp_path, builders=("iree",))
    assert isinstance(outcome, Failure)
    assert outcome.stage == "verify"


def only_iree(_stage: str, tasks: Sequence[Task]) -> dict[str, Outcome]:
    """Measures nothing: programs with a generated kernel are wrong, others take their turn's number of cycles."""
    return {task.key: WRONG if ", rvv" in str(task.context) else measured(n) for n, task in enumerate(tasks, 1)}


def measured(cycles: float) -> Measurement:
    return Measurement("by hand", 1, {}, 1, 1, {}, max_abs_error=0.0, max_rel_error=0.0, cycles=cycles)


@pytest.fixture
def x(tmp_path: Path) -> Exploration:
    """An exploration of the tiny model without data."""
    model = read_model(explored.tiny_model(tmp_path))
    run = tmp_path / "run"
    settings = ExploreSettings(model.path, TARGET.name, run, tune=1)
    store = Store(run)
    compressor = Compressor(model, seed=0)
    accuracies = Accuracies(Evaluation(Weights(compressor, run), {}), store)
    errors = FitErrors(compressor, store)
    return Exploration(settings, model, Bench(TARGET), store, errors, accuracies, None, {}, only_iree, silent)


@pytest.mark.parametrize("rvv", [measured(50), measured(200), WRONG])
def test_the_faster_kernel_that_is_right_stays(x: Exploration, rvv: Outcome) -> None:
    first, second = x.model.fc_layers
    candidate = Candidate(first, SHAPE)
    outcomes = {candidate: measured(100), replace(candidate, kernel="rvv"): rvv}
    outcomes |= {dense_candidate(layer): measured(1000) for layer in (first, second)}
    results = [_result(choice, outcome) for choice, outcome in outcomes.items()]
    kernels = {
        choice.kernel
        for found in select_finalists(x, results)[0].finalists
        for choice in found.choices
        if choice.tt_shape
    }
    assert kernels == {"rvv" if rvv == measured(50) else "iree"}


@pytest.mark.parametrize("rvv", [measured(50), measured(200), WRONG])
def test_a_layer_stays_dense_by_its_faster_kernel(x: Exploration, rvv: Outcome) -> None:
    first, second = x.model.fc_layers
    results = [
        _result(dense_candidate(first), measured(100)),
        _result(dense_candidate(first, "rvv"), rvv),
        _result(dense_candidate(second, "rvv"), measured(100)),
        _result(dense_candidate(second), WRONG),
        _result(Candidate(first, SHAPE), measured(60)),
    ]
    found = select_finalists(x, results)[0].finalists
    faster = "rvv" if rvv == measured(50) else "iree"
    assert [choice.kernel for choice in found[0].choices] == [faster, "rvv"]
    assert all(choice.kernel == "rvv" for combination in found for choice in combination.choices[1:])


def test_a_layer_that_no_kernel_computes_as_it_is_ends_the_exploration(x: Exploration) -> None:
    first, second = x.model.fc_layers
    results = [_result(dense_candidate(first), measured(1)), _result(dense_candidate(second), WRONG)]
    results += [_result(dense_candidate(second, "rvv"), WRONG)]
    with pytest.raises(RunError, match="the dense layer fc1 fails at stage verify: wrong on purpose"):
        select_finalists(x, results)


def _combination(*choices: Candidate) -> Combination:
    return Combination(tuple(LayerOption(choice, 1.0, 1, 1, 0.0) for choice in choices))


def by_kernels(_stage: str, tasks: Sequence[Task]) -> dict[str, Outcome]:
    """Measures nothing: a program takes a cycle for each of IREE's kernels in it, and two for each of ours."""

    def cycles(task: Task) -> int:
        return sum(2 if ", rvv" in label else 1 for label in task.context.values())  # type: ignore[attr-defined]

    return {task.key: measured(cycles(task)) for task in tasks}


def test_the_reference_is_the_fastest_dense_model_even_where_layers_promised_another(x: Exploration) -> None:
    """Single layers said that our kernels are the faster ones; as a whole model IREE's are."""
    timed = replace(x, measure=by_kernels)
    ours = [dense_candidate(layer, "rvv") for layer in x.model.fc_layers]
    plans, failed = measure_plans(timed, [_combination(*ours)])
    assert not failed
    assert [(plan.id, plan.cycles, [choice.kernel for choice in plan.choices]) for plan in plans] == [
        ("dense", 2.0, ["iree", "iree"]),
        ("p1", 4.0, ["rvv", "rvv"]),
    ]
    assert [plan.is_reference for plan in plans] == [True, False]


def _result(candidate: Candidate, outcome: Outcome) -> CandidateResult:
    estimated = estimate(candidate, TARGET)
    if isinstance(outcome, Failure):
        return CandidateResult(candidate, estimated, failure=outcome)
    return CandidateResult(candidate, estimated, measurement=outcome)


def test_a_plan_whose_kernel_fails_is_recorded_and_measured_with_irees(
    x: Exploration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_dse.tune.measuring.RunnerMeasure.__call__", lambda *_: WRONG)
    monkeypatch.setattr("lrf_dse.pipeline.kernels.user_records", lambda: FileRecords(x.settings.out / "kernels"))
    first, second = x.model.fc_layers
    dense = dense_candidate(first), dense_candidate(second)
    generated = Candidate(first, SHAPE, kernel="rvv"), dense[1]
    plans, failed = measure_plans(x, [_combination(*dense), _combination(*generated)])
    ours = tuple(dense_candidate(layer, "rvv") for layer in (first, second))
    assert [(plan.choices, plan.failure) for plan in failed] == [(ours, WRONG), (generated, WRONG)]
    assert [plan.choices for plan in plans] == [dense, (replace(generated[0], kernel="iree"), dense[1])]
    assert all(plan.schedules == {} for plan in plans)

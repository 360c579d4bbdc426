"""The search finds the fastest right schedule that it is given time for, and is never worse than no search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import KernelSchedule, KernelSpec, default_schedule, schedules
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.runners.job import Job
from lrf_dse.schema import Failure, Measurement, Outcome, TTShape
from lrf_dse.target import load_target
from lrf_dse.tune import FileRecords, RecordedMeasure, RunnerMeasure, Tuned, kernel_key, tune
from lrf_dse.tune.neighbours import neighbours

K1 = load_target("spacemit-k1")
SHAPE = TTShape((20, 15), (28, 28), (1, 8, 1))
SPEC = KernelSpec(SHAPE, SHAPE.out_features, SHAPE.in_features, has_bias=True)


def measured(cycles: float) -> Measurement:
    return Measurement("replayed", 1, {}, 1, 1, {}, 0.0, 0.0, cycles=cycles)


def pseudo_random(schedule: KernelSchedule, seed: int) -> int:
    """A number that depends on the schedule and nothing else."""
    return int(content_key("x", schedule=to_json(schedule), seed=seed)[-6:], 16)


class Replay:
    """A Measure that knows all times: by a hash of the schedule; some schedules fail."""

    def __init__(self, seed: int, *, failing: int = 5) -> None:
        self.seed, self.failing = seed, failing
        self.asked: list[KernelSchedule] = []

    def __call__(self, spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        self.asked.append(schedule)
        number = pseudo_random(schedule, self.seed)
        return Failure("verify", "wrong") if number % self.failing == 0 else measured(1000.0 + number % 9973)


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), budget=st.integers(1, 20))
def test_the_fastest_right_trial_wins(seed: int, budget: int) -> None:
    replay = Replay(seed)
    found = tune(SPEC, K1, Path(), measure=replay, budget=budget)
    assert len(replay.asked) == len(set(replay.asked)) <= budget
    assert replay.asked[0] == default_schedule(SPEC, K1)
    outcomes = [replay(SPEC, schedule, Path()) for schedule in tuple(replay.asked)]
    right = [outcome.time for outcome in outcomes if isinstance(outcome, Measurement)]
    if isinstance(found, Failure):
        assert not right and found == outcomes[0]
        return
    assert found.measurement.time == min(right)
    assert replay(SPEC, found.schedule, Path()) == found.measurement
    assert [trial.outcome for trial in found.trials] == outcomes


def test_a_larger_budget_tries_all_that_a_smaller_one_does() -> None:
    for seed in range(4):
        longest = Replay(seed)
        tune(SPEC, K1, Path(), measure=longest, budget=27)
        assert len(longest.asked) == 27
        for budget in (1, 3, 9, 20):
            replay = Replay(seed)
            tune(SPEC, K1, Path(), measure=replay, budget=budget)
            assert replay.asked == longest.asked[:budget]


def test_the_search_climbs_where_the_closed_form_does_not_lead() -> None:
    """Time falls with the block of the first stage: neighbours of the best lead to a smaller one than any ranked."""
    ranked = schedules(SPEC, K1, 8)

    def by_block(spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        return measured(float(schedule.stages[0].block))

    found = tune(SPEC, K1, Path(), measure=by_block, budget=90)
    assert isinstance(found, Tuned)
    assert found.schedule.stages[0].block == 1 < min(schedule.stages[0].block for schedule in ranked)


def test_nothing_right_is_the_default_schedules_failure() -> None:
    def broken(spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        return Failure("verify", work_dir.name)

    assert tune(SPEC, K1, Path("w"), measure=broken, budget=4) == Failure("verify", "trial-0")
    with pytest.raises(ValueError, match="budget of 0"):
        tune(SPEC, K1, Path(), measure=broken, budget=0)


def test_neighbours_differ_in_one_choice() -> None:
    for name in ("spacemit-k1", "starfive-jh7110"):
        schedule = default_schedule(SPEC, load_target(name))
        others = list(neighbours(schedule))
        assert others and schedule not in others
        for other in others:
            assert other.order == schedule.order and other.lanes == schedule.lanes


class FakeRunner:
    """Answers without running; counts how often it was asked."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome, self.jobs = outcome, list[Job]()

    def run(self, job: Job) -> Outcome:
        self.jobs.append(job)
        return self.outcome


def recorded(folder: Path, runner: FakeRunner) -> RecordedMeasure:
    return RecordedMeasure(RunnerMeasure(K1, runner=runner, tools={"fake": "1"}), FileRecords(folder))


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    first, second = FakeRunner(measured(7.0)), FakeRunner(measured(8.0))
    schedule = default_schedule(SPEC, K1)
    records = tmp_path / "records"
    assert recorded(records, first)(SPEC, schedule, tmp_path / "a") == measured(7.0)
    assert recorded(records, second)(SPEC, schedule, tmp_path / "b") == measured(7.0)
    assert len(first.jobs) == 1 and not second.jobs
    assert not (tmp_path / "a").exists()
    (job,) = first.jobs
    assert job.threads == 1 and job.expected[0].shape == (1, 300)


def test_wrong_results_are_recorded_and_other_failures_are_not(tmp_path: Path) -> None:
    schedule = default_schedule(SPEC, K1)
    for stage, times in (("verify", 1), ("run", 2)):
        runner = FakeRunner(Failure(stage, "because"))
        for attempt in range(2):
            outcome = recorded(tmp_path / stage, runner)(SPEC, schedule, tmp_path / f"{stage}{attempt}")
            assert outcome == Failure(stage, "because")
        assert len(runner.jobs) == times


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    records = FileRecords(tmp_path)
    records.put("key", measured(3.0))
    assert records.get("key") == measured(3.0)
    assert records.get("other") is None
    for text in ("", "{", json.dumps({"stage": 1}), "[]"):
        (tmp_path / "key.json").write_text(text, encoding="utf-8")
        assert records.get("key") is None
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_the_key_is_what_decides_the_time() -> None:
    schedule = default_schedule(SPEC, K1)
    key = kernel_key(SPEC, schedule, K1, {"q": "1"})
    assert key == kernel_key(SPEC, schedule, K1.model_copy(update={"title": "another title"}), {"q": "1"})
    stages = (replace(schedule.stages[0], block=schedule.stages[0].block - 1), *schedule.stages[1:])
    others = [
        kernel_key(SPEC, schedule, K1, {"q": "2"}),
        kernel_key(replace(SPEC, batch=2), schedule, K1, {"q": "1"}),
        kernel_key(SPEC, replace(schedule, stages=stages), K1, {"q": "1"}),
        kernel_key(SPEC, schedule, K1.model_copy(update={"cc": K1.cc.model_copy(update={"tune": None})}), {"q": "1"}),
    ]
    assert len({key, *others}) == 5


def test_a_real_kernel_is_tuned_and_then_known(tmp_path: Path) -> None:
    shape = TTShape((8, 4), (6, 8), (1, 4, 1))
    spec = KernelSpec(shape, 32, 48, has_bias=True)
    measure = RecordedMeasure(RunnerMeasure(K1), FileRecords(tmp_path / "records"))
    found = tune(spec, K1, tmp_path / "work", measure=measure, budget=3)
    assert isinstance(found, Tuned), found
    default = found.trials[0].outcome
    assert isinstance(default, Measurement) and default.cycles and found.measurement.cycles
    assert found.measurement.cycles <= default.cycles
    assert found.measurement.max_rel_error < 1e-6
    assert len(list((tmp_path / "records").iterdir())) == len(found.trials) == 3
    again = RecordedMeasure(RunnerMeasure(K1, runner=FakeRunner(Failure("run", "no"))), measure.records)
    assert tune(spec, K1, tmp_path / "work", measure=again, budget=3) == found

"""Replay answers from records, and never with a new number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrf_dse.errors import UsageError
from lrf_dse.jsonform import to_json
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.replay import RecordingRunner, ReplayRunner, job_key, replayed
from lrf_dse.runners.runner import Means, get_runner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.store import Store

JobOf = Callable[..., Job]


class Fixed:
    """A runner that says always the same."""

    def __init__(self, outcome: Measurement | Failure) -> None:
        self.outcome = outcome

    def run(self, job: Job) -> Measurement | Failure:
        return self.outcome


@pytest.mark.parametrize("case", ["scalar", "wrong_result"])
def test_what_was_recorded_is_answered(case: str, job_of: JobOf, tmp_path: Path) -> None:
    job = job_of(case)
    with Store(tmp_path / "run") as store:
        measured = RecordingRunner(QemuRunner(), store).run(job)
    with Store(tmp_path / "run", read_only=True) as store:
        assert get_runner("replay", Means(store=store)).run(job) == measured
        elsewhere = dataclasses.replace(job, work=tmp_path / "elsewhere")
        assert ReplayRunner(store).run(elsewhere) == measured
        assert not elsewhere.work.exists(), "nothing is run or written"


def test_what_was_not_recorded_is_a_failure_that_says_so(job_of: JobOf, tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        result = ReplayRunner(store).run(job_of("scalar"))
        assert result == Failure(
            "replay", f"no record of this measurement in {store.path}: measure it once with a runner"
        )
        assert store.record_count == 0


def test_a_failure_of_the_board_is_not_recorded(job_of: JobOf, tmp_path: Path) -> None:
    away, crash = Failure("board", "cannot be reached"), Failure("run", "killed by SIGSEGV")
    with Store(tmp_path) as store:
        assert RecordingRunner(Fixed(away), store).run(job_of("scalar")) == away
        assert store.record_count == 0
        RecordingRunner(Fixed(crash), store).run(job_of("scalar"))
        assert ReplayRunner(store).run(job_of("scalar")) == crash


def test_any_record_of_an_outcome_can_be_replayed(tmp_path: Path) -> None:
    failure = Failure("build", "why", ("a",))
    with Store(tmp_path) as store:
        store.put("timing-1", "timing", to_json(failure))
        assert replayed(store, "timing-1") == failure


def test_the_key_is_of_what_counts(job_of: JobOf, tmp_path: Path) -> None:
    job = job_of("scalar")
    name, x = job.inputs
    other_program = tmp_path / "other"
    other_program.write_bytes(job.program.read_bytes() + b"\0")
    same_program = tmp_path / "same"
    same_program.write_bytes(job.program.read_bytes())
    same = [
        dataclasses.replace(job, work=tmp_path / "w"),
        dataclasses.replace(job, program=same_program),
        dataclasses.replace(job, inputs=(name, x.astype(">f4"))),
    ]
    others = [
        dataclasses.replace(job, program=other_program),
        dataclasses.replace(job, inputs=(name, x + 1)),
        dataclasses.replace(job, inputs=(name, x.reshape(2, 2))),
        dataclasses.replace(job, inputs=(name, x.view(np.int32))),
        dataclasses.replace(job, tolerance=0.5),
        dataclasses.replace(job, threads=2),
        job_of("scalar", target="qemu-rv64gcv"),
    ]
    assert {job_key(one) for one in same} == {job_key(job)}
    assert len({job_key(one) for one in [job, *others]}) == 1 + len(others)


def test_replay_needs_records() -> None:
    with pytest.raises(UsageError, match="needs records to answer from"):
        get_runner("replay")

"""Answer from records, and keep records to answer from: a run that was measured once can be walked again anywhere.

Never gives a new number. What was not recorded is a Failure that says so.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from lrf_dse.jsonform import content_key, from_json, to_json
from lrf_dse.runners.board import BOARD_STAGE
from lrf_dse.runners.job import Array, Job
from lrf_dse.schema import Failure, Measurement
from lrf_dse.store import Store

REPLAY_STAGE = "replay"
JOB_KIND = "job"


class _Measures(Protocol):
    def run(self, job: Job) -> Measurement | Failure: ...


class ReplayRunner:
    """Answers from `store` what a RecordingRunner put there, whichever runner measured it then."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, job: Job) -> Measurement | Failure:
        """The recorded outcome of `job`, or a Failure of stage "replay"."""
        return replayed(self.store, job_key(job))


class RecordingRunner:
    """Runs with `runner` and records every outcome at once, except what says nothing of the program."""

    def __init__(self, runner: _Measures, store: Store) -> None:
        self.runner = runner
        self.store = store

    def run(self, job: Job) -> Measurement | Failure:
        """What `runner` says of `job`."""
        outcome = self.runner.run(job)
        if not (isinstance(outcome, Failure) and outcome.stage == BOARD_STAGE):
            context = {"program": job.program.name, "target": job.target.name}
            self.store.put(job_key(job), JOB_KIND, to_json(outcome), context=context)
        return outcome


def replayed(store: Store, key: str) -> Measurement | Failure:
    """The outcome recorded under `key`; a Failure of stage "replay" if there is none. Raises StoreError."""
    value = store.get(key)
    if value is None:
        return Failure(REPLAY_STAGE, f"no record of this measurement in {store.path}: measure it once with a runner")
    outcome: Measurement | Failure = from_json(Measurement | Failure, value)
    return outcome


def job_key(job: Job) -> str:
    """Content key of a job: the program's bytes, its inputs, target, tolerance and threads; not where files lie."""
    return content_key(
        JOB_KIND,
        program=hashlib.sha256(job.program.read_bytes()).hexdigest(),
        inputs=[_digest(array) for array in job.inputs],
        target=job.target.name,
        tolerance=job.tolerance,
        threads=job.threads,
    )


def _digest(array: Array) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return hashlib.sha256(f"{array.dtype.name}{array.shape}".encode() + little.tobytes()).hexdigest()

"""How programs are built and measured: what every job carries."""

from __future__ import annotations

from pathlib import Path

from lrf_dse.pipeline.timing import Bench, Outcome, build_and_run, layer_program
from lrf_dse.runners.job import Job
from lrf_dse.runners.rvsim import RvsimRunner
from lrf_dse.schema import FcLayer, Measurement, dense_candidate
from lrf_dse.target import load_target


class Simulated(Bench):
    """Measures with the one runner that needs more than the program."""

    def run(self, job: Job) -> Outcome:
        return RvsimRunner().run(job)


def test_a_job_holds_what_every_runner_needs(tmp_path: Path) -> None:
    model, inputs = layer_program(dense_candidate(FcLayer("fc", 16, 8, 1, has_bias=True)), seed=0)
    outcome = build_and_run(model, inputs, Simulated(load_target("spacemit-k1")), tmp_path)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.source.startswith("rvsim")

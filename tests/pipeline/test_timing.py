"""How programs are built and measured: what every job carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.simulators.rvsim import RvsimRunner
from lrf_dse.pipeline.kernels import default_schedules
from lrf_dse.pipeline.timing import Bench, build_and_run, layer_program
from lrf_dse.runners.job import Job
from lrf_dse.schema import FcLayer, Measurement, Outcome, dense_candidate
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


@pytest.mark.parametrize("name", ["spacemit-k1", "starfive-jh7110"])
def test_a_dense_layer_by_our_kernel_is_right_with_vectors_and_without(tmp_path: Path, name: str) -> None:
    """A batch, and sizes that no vector and no block divides; the program is verified before it is timed."""
    target = load_target(name)
    candidate = dense_candidate(FcLayer("fc", 37, 21, 3, has_bias=True), "rvv")
    model, inputs = layer_program(candidate, default_schedules([candidate], target)["fc"], seed=0)
    outcome = build_and_run(model, inputs, Bench(target), tmp_path, builders=("iree",))
    assert isinstance(outcome, Measurement), outcome
    assert outcome.cycles is not None and outcome.max_rel_error < 1e-4

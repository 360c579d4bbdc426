"""IREE's kernels of finalists: the faster kernel ships, and what was measured is among the candidates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.keys import timing_key
from lrf_dse.pipeline.rivals import with_rivals
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Task
from lrf_dse.plan.options import Combination, LayerOption
from lrf_dse.plan.search import Search
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Failure, FcLayer, Kernel, Measurement, Outcome, TTShape, dense_candidate
from lrf_dse.target import load_target

TARGET = load_target("spacemit-k1")
LAYER = FcLayer("fc", 64, 32, 1, True)
OURS = Candidate(LAYER, TTShape((32, 1), (1, 64), (1, 8, 1)), decomposer="als", kernel="rvv")
OTHER = Candidate(LAYER, TTShape((32, 1), (1, 64), (1, 16, 1)), kernel="rvv")


def measured(cycles: float, flash_bytes: int = 100) -> Measurement:
    return Measurement("test", 1, {}, flash_bytes, 1, {}, 0.0, 0.0, cycles=cycles)


def result(candidate: Candidate, cycles: float) -> CandidateResult:
    return CandidateResult(candidate, estimate(candidate, TARGET), measured(cycles), weight_error=0.5, drop_points=0.25)


@dataclass
class Explored:
    """What `with_rivals` needs of an exploration: every task's outcome is `outcome`."""

    outcome: Outcome
    kernels: tuple[Kernel, ...] = ("iree", "rvv")
    asked: list[str] = field(default_factory=list)
    accuracies: Any = field(default_factory=lambda: SimpleNamespace(known=True))
    target: Any = field(default_factory=lambda: TARGET)
    tools: dict[str, str] = field(default_factory=lambda: {"iree": "1"})

    @property
    def settings(self) -> ExploreSettings:
        return ExploreSettings(Path("m.onnx"), TARGET.name, Path("out"), kernels=self.kernels)

    def measure(self, _stage: str, tasks: list[Task]) -> dict[str, Outcome]:
        self.asked += [task.key for task in tasks]
        return {task.key: self.outcome for task in tasks}


def searched() -> tuple[Search, list[CandidateResult]]:
    """Two finalists, one of them dense; a third candidate is in none."""
    results = [result(dense_candidate(LAYER, "rvv"), 1000), result(OURS, 200), result(OTHER, 300)]
    options = [LayerOption(each.candidate, each.measurement.cycles, 100, 1, 0.25) for each in results]  # type: ignore[union-attr, arg-type]
    finalists = tuple(Combination((option,)) for option in options[:2])
    return Search(finalists, (), 0, True), results


def rivals(x: Explored) -> tuple[list[tuple[Candidate, ...]], dict[Candidate, CandidateResult]]:
    explored: Any = x
    found, results = with_rivals(explored, *searched())
    return [finalist.choices for finalist in found.finalists], {each.candidate: each for each in results}


@pytest.mark.parametrize(("cycles", "kernel"), [(150, "iree"), (200, "rvv"), (900, "rvv")])
def test_the_faster_kernel_ships_and_both_are_among_the_candidates(cycles: float, kernel: Kernel) -> None:
    x = Explored(measured(cycles))
    finalists, results = rivals(x)
    assert finalists == [(dense_candidate(LAYER, "rvv"),), (replace(OURS, kernel=kernel),)]
    assert x.asked == [timing_key(OURS.without_generated, TARGET, x.tools)]  # of finalists' shapes alone
    rival = results[OURS.without_generated]
    assert len(results) == 4
    assert rival.measurement is not None and rival.measurement.cycles == cycles
    assert (rival.weight_error, rival.drop_points) == (0.5, 0.25)  # the same weights
    assert rival.estimate.cycles is None and rival.estimate.lower_bound == results[OURS].estimate.lower_bound


def test_a_rival_that_fails_is_recorded_and_ours_stays() -> None:
    finalists, results = rivals(Explored(Failure("build", "iree-compile: no")))
    assert finalists[1] == (OURS,)
    assert results[OURS.without_generated].failure == Failure("build", "iree-compile: no")


def test_nothing_is_compiled_where_only_ours_are_explored() -> None:
    x = Explored(measured(1), kernels=("rvv",))
    finalists, results = rivals(x)
    assert finalists[1] == (OURS,) and x.asked == [] and len(results) == 3

"""The search for a kernel's fastest schedule: the closed form proposes, measurements decide.

The module knows no compiler and no runner: measuring is an argument, so the search is tested without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lrf_dse.codegen import KernelSchedule, KernelSpec, predicted_cycles, schedules
from lrf_dse.schema import Failure, Measurement, Outcome
from lrf_dse.target import Target
from lrf_dse.tune.measuring import Measure
from lrf_dse.tune.neighbours import neighbours

DEFAULT_BUDGET = 12


@dataclass(frozen=True)
class Attempt:
    """One schedule and what came of it."""

    schedule: KernelSchedule
    outcome: Outcome


@dataclass(frozen=True)
class Tuned:
    """The fastest schedule that is right, its measurement, and all that was tried; the default schedule comes first."""

    schedule: KernelSchedule
    measurement: Measurement
    trials: tuple[Attempt, ...]


def tune(
    spec: KernelSpec, target: Target, work_dir: Path, *, measure: Measure, budget: int = DEFAULT_BUDGET
) -> Tuned | Failure:
    """The best of at most `budget` schedules. The closed form ranks them; every third one is a neighbour of the best.

    Which schedule comes next depends on what was measured, never on the budget: a larger budget tries all schedules
    that a smaller one tries. The result is never slower than the default schedule, which is measured first; if no
    schedule is right, it is the Failure of that one. `measure` gets a folder below `work_dir` for each.
    """
    if budget < 1:
        raise ValueError(f"a tuner must measure at least one schedule, got a budget of {budget}")
    search = _Search(spec, work_dir, measure, budget)
    ranked = iter(schedules(spec, target, budget))
    found_new = True
    while found_new and search.has_budget:
        # Two of the ranking, then one neighbour of the best: the closed form is wrong by some per cent, and neighbours
        # correct it where it counts.
        found_new = search.try_first_new(ranked)
        found_new |= search.try_first_new(ranked)
        if (best := search.best()) is not None:
            found_new |= search.try_first_new(_ranked(spec, best.schedule, target))
    best = search.best()
    if best is None:
        first = search.trials[0].outcome
        assert isinstance(first, Failure)  # not one of them is a measurement
        return first
    assert isinstance(best.outcome, Measurement)
    return Tuned(best.schedule, best.outcome, tuple(search.trials))


class _Search:
    """The trials so far, and the budget for more."""

    def __init__(self, spec: KernelSpec, work_dir: Path, measure: Measure, budget: int) -> None:
        self.spec, self.work_dir, self.measure, self.budget = spec, work_dir, measure, budget
        self.trials: list[Attempt] = []

    @property
    def has_budget(self) -> bool:
        return len(self.trials) < self.budget

    def try_first_new(self, proposed: Iterable[KernelSchedule]) -> bool:
        """Measure the first of `proposed` that was not tried, within the budget; whether there was one."""
        tried = {trial.schedule for trial in self.trials}
        schedule = next((one for one in proposed if one not in tried), None) if self.has_budget else None
        if schedule is None:
            return False
        folder = self.work_dir / f"trial-{len(self.trials)}"
        self.trials.append(Attempt(schedule, self.measure(self.spec, schedule, folder)))
        return True

    def best(self) -> Attempt | None:
        """The fastest trial that is right, the earliest of equals."""
        right = [(trial.outcome.time, trial) for trial in self.trials if isinstance(trial.outcome, Measurement)]
        return min(right, key=lambda timed: timed[0])[1] if right else None


def _ranked(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> Iterator[KernelSchedule]:
    """The neighbours that fit the kernel, the most promising first."""
    fitting = []
    for other in dict.fromkeys(neighbours(schedule)):
        try:
            # No prediction (a chip without a timing model) leaves the order of `neighbours`, since sorting is stable.
            fitting.append((predicted_cycles(spec, other, target) or 0.0, other))
        except ValueError:  # slices that do not divide, a block that does not fit
            continue
    for _, other in sorted(fitting, key=lambda pair: pair[0]):
        yield other

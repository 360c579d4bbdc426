"""What came of a column on a row: its trials, and the figures by which they are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from lrf_dse.schema import Failure, Measurement, Outcome


@dataclass(frozen=True)
class Trial:
    """One variant of a column and what came of it; `name` is "GROUP: VARIANT".

    `sweep` holds cycles by the names of the model's switches.
    """

    name: str
    outcome: Outcome
    sweep: Mapping[str, float] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """The variant's name without that of its group."""
        return self.name.partition(": ")[2]

    @property
    def cycles(self) -> float | None:
        """Modelled cycles, or instructions where the target has no timing model; None where it failed."""
        return figure_of(self.outcome)


@dataclass(frozen=True)
class ColumnResult:
    """All trials of one column on one row, in the order they were made."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The fastest right one."""
        return min((t for t in self.trials if t.cycles is not None), key=lambda t: t.cycles or 0, default=None)

    @property
    def failure(self) -> Failure | None:
        """Why there is no best one: the first reason."""
        failures = [trial.outcome for trial in self.trials if isinstance(trial.outcome, Failure)]
        return failures[0] if self.best is None and failures else None

    def cycles(self, model: str | None = None) -> float | None:
        """The best cycles under a switch of the timing model, by default the model as it is."""
        if model is None:
            return None if self.best is None else self.best.cycles
        return min((trial.sweep[model] for trial in self.trials if model in trial.sweep), default=None)


def ranked_variants(results: Iterable[ColumnResult]) -> tuple[str, ...]:
    """The variants of a column such that the best of the first n is near the best of all, on the mean over `results`.

    Each next one is that which adds most: variants that win alike do not crowd out one that wins elsewhere. One that
    failed counts as slow as the slowest.
    """
    behind = _behind_best([result for result in results if result.best])
    ranked: list[str] = []
    reached = [math.inf] * max(map(len, behind.values()), default=0)
    while remaining := behind.keys() - set(ranked):
        best = min(remaining, key=lambda v: (fmean(map(min, behind[v], reached)), fmean(behind[v]), v))
        reached = list(map(min, behind[best], reached))
        ranked.append(best)
    return tuple(ranked)


def _behind_best(results: Sequence[ColumnResult]) -> dict[str, list[float]]:
    """For every variant the logarithms of its best trial over the best of all, one a result."""
    names = {trial.variant for result in results for trial in result.trials}
    behind: dict[str, list[float]] = {name: [] for name in sorted(names)}
    for result in results:
        figures: dict[str, float] = {}
        for trial in result.trials:
            if trial.cycles is not None:
                figures[trial.variant] = min(trial.cycles, figures.get(trial.variant, math.inf))
        fastest, slowest = min(figures.values()), max(figures.values())
        for name, logs in behind.items():
            logs.append(math.log(figures.get(name, slowest) / fastest))
    return behind


def figure_of(outcome: Outcome) -> float | None:
    """What variants are compared by: cycles, or instructions where the target has no timing model."""
    return outcome.time if isinstance(outcome, Measurement) else None

"""Several runs side by side: what was chosen in each, against its own dense model, and what differs between them.

Owns the numbers and sentences of a comparison. Cycles of two chips are no common measure, so the plots have ratios to
each run's own dense model; the table has both. Reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lrf_dse.errors import UsageError
from lrf_dse.front.pareto import non_dominated
from lrf_dse.report.info import PlanRow, ReportInfo

MOST_RUNS = 8
"""More lines than this cannot be told apart in a plot."""


@dataclass(frozen=True)
class Series:
    """One run in a plot: (times better than its dense model, loss, plan) of the plans that none of it beats."""

    run: str
    points: tuple[tuple[float, float, str], ...]
    chosen: tuple[float, float] | None


@dataclass(frozen=True)
class ComparisonPlot:
    """One plot: `x` is a ratio to dense, of which more is better, `y` a loss, of which less is."""

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Comparison:
    """Finished runs by the names that they are shown under. Raises UsageError for fewer than two, or too many."""

    runs: Mapping[str, ReportInfo]

    def __post_init__(self) -> None:
        if not 2 <= len(self.runs) <= MOST_RUNS:
            raise UsageError(f"--compare needs 2 to {MOST_RUNS} run folders, got {len(self.runs)}")

    @cached_property
    def differences(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(what, its value in every run) of everything that decides a result and is not the same in all runs."""
        facts = {name: _facts(info) for name, info in self.runs.items()}
        names = dict.fromkeys(name for one in facts.values() for name in one)
        found = [(name, tuple(one.get(name, "-") for one in facts.values())) for name in names]
        return tuple((name, values) for name, values in found if len(set(values)) > 1)

    @property
    def same_quality(self) -> bool:
        """Whether losses of all runs are of one kind and unit, so that one axis can hold them."""
        return len({_loss_unit(info) for info in self.runs.values()}) == 1

    @property
    def plots(self) -> tuple[ComparisonPlot, ...]:
        """Latency and flash against loss; none where losses are of different kinds."""
        if not self.same_quality:
            return ()
        loss = _loss_unit(next(iter(self.runs.values())))
        latency = tuple(_series(name, info, "speedup") for name, info in self.runs.items())
        flash = tuple(_series(name, info, "flash_ratio") for name, info in self.runs.items())
        return (
            ComparisonPlot("compare-latency", "Latency", "times faster than the run's own dense model", loss, latency),
            ComparisonPlot("compare-flash", "Flash", "times smaller than the run's own dense model", loss, flash),
        )


def names_of(folders: Sequence[str]) -> list[str]:
    """A short name for every folder: its last parts, as many as tell it from the others.

    >>> names_of(["reports/a", "reports/b"]), names_of(["x/run", "y/run"])
    (['a', 'b'], ['x/run', 'y/run'])
    """
    parts = [folder.rstrip("/").split("/") for folder in folders]
    # One more part of the path each time, until no two names are equal.
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError("--compare was given the same run folder twice")


def _facts(info: ReportInfo) -> dict[str, str]:
    data = info.data
    return {
        "model": f"{info.model.name} ({info.model.sha256[:12]})",
        "chip": info.target.title,
        # The source of the reference, such as "modelled cycles, spacemit-k1": it tells boards from models.
        "latency": info.dense.latency_source,
        "data": "none" if data is None else f"{data.name} ({data.sha256[:12]}), {data.metric}",
        "limits": str(info.budgets) or "none",
        "objective": info.objective or "none",
        "seed": str(info.seed),
        **{f"version of {tool}": version for tool, version in info.tool_versions.items()},
    }


def _loss_unit(info: ReportInfo) -> str:
    if not info.accuracy_known or info.data is None:
        return "relative weight error"
    # Metric and unit are part of the text: points of accuracy and per cent of an error share no axis.
    return f"drop of {info.data.metric} on validation, {info.data.drop_unit}"


def _series(name: str, info: ReportInfo, ratio: str) -> Series:
    known = [(row, float(getattr(row, ratio) or 0.0)) for row in info.rows]
    usable = [(row, value) for row, value in known if value > 0 and row.loss is not None]
    # Fronts minimise everything, and of a ratio more is better.
    front = non_dominated([(-value, row.loss) for row, value in usable])
    points = sorted((usable[i][1], _loss(usable[i][0]), usable[i][0].plan.id) for i in front)
    chosen = next(((value, _loss(row)) for row, value in usable if row.is_chosen), None)
    return Series(name, tuple(points), chosen)


def _loss(row: PlanRow) -> float:
    assert row.loss is not None
    return row.loss

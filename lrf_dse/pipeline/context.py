"""What every stage of an exploration needs, as one value; and how progress is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lrf_dse.farm import Farm, Local
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.pipeline.quality import Judge
from lrf_dse.pipeline.recorded import Records
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Bench, Outcome, Task, measure_all
from lrf_dse.target import Target

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, eq=False)
class Exploration:
    """What every stage needs. Stages are functions of it and of what the stage before found.

    `lessons` is what plans are trained on, None where they are not.
    """

    settings: ExploreSettings
    model: Model
    bench: Bench
    store: Records
    judge: Judge
    data: Dataset | None
    tools: dict[str, str]
    progress: Progress
    lessons: Dataset | None = None
    warnings: list[str] = field(default_factory=list)
    farm: Farm = field(default_factory=lambda: Local(1))

    def warn_once(self, warning: str) -> None:
        """Add a warning of the report, unless it is there."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    @property
    def target(self) -> Target:
        """The chip that is explored for."""
        return self.bench.target

    def measure(self, stage: str, tasks: Sequence[Task]) -> dict[str, Outcome]:
        """The outcome of every task by key, with progress shown under `stage`."""
        return measure_all(
            tasks,
            self.store,
            bench=self.bench,
            folder=self.settings.out,
            farm=self.farm,
            progress=lambda done, total: self.progress(stage, done, total),
        )

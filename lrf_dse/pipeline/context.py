"""What every stage of an exploration needs, as one value; and how progress is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.pipeline.quality import Judge
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Bench, Outcome, Task, measure_all
from lrf_dse.store import Store
from lrf_dse.target import Target

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, eq=False)
class Exploration:
    """What every stage needs. Stages are functions of it and of what the stage before found."""

    settings: ExploreSettings
    model: Model
    bench: Bench
    store: Store
    judge: Judge
    data: Dataset | None
    tools: dict[str, str]
    progress: Progress
    warnings: list[str] = field(default_factory=list)

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
            jobs=self.settings.jobs,
            progress=lambda done, total: self.progress(stage, done, total),
        )

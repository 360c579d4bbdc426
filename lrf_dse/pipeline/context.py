"""What every stage of an exploration needs, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lrf_dse.farm import Farm, Local
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.recorded import Records
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Bench, Task
from lrf_dse.pipeline.weights import Weights
from lrf_dse.progress import Progress
from lrf_dse.schema import Outcome
from lrf_dse.target import Target


@dataclass(frozen=True, eq=False)
class Exploration:
    """What every stage needs. Stages are functions of it and of what the stage before found.

    `measure` gives the outcome of every task by key, with progress shown under a stage's name. `lessons` is what plans
    are trained on, None where they are not.
    """

    settings: ExploreSettings
    model: Model
    bench: Bench
    store: Records
    errors: FitErrors
    accuracies: Accuracies
    data: Dataset | None
    tools: dict[str, str]
    measure: Callable[[str, Sequence[Task]], dict[str, Outcome]]
    progress: Progress
    lessons: Dataset | None = None
    farm: Farm = field(default_factory=lambda: Local(1))

    @property
    def target(self) -> Target:
        """The chip that is explored for."""
        return self.bench.target

    @property
    def weights(self) -> Weights:
        """The weights of whole models."""
        return self.accuracies.weights

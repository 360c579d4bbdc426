"""A run folder, read back: its records as tables, its result as a ReportInfo. Works without any tool or hardware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.errors import StoreError
from lrf_dse.jsonform import from_json
from lrf_dse.plan.choice import Budgets, choose
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_report
from lrf_dse.schema import Plan
from lrf_dse.store import Store

if TYPE_CHECKING:
    import pandas as pd

RUN_KEY = "run"
RESULT_KEY = "result"
MODEL_FILE = "model.onnx"
"""A copy of the model that was explored, batch fixed: export needs its weights."""

WEIGHTS_FOLDER = "weights"
"""What every measured plan puts in the place of the model's weights, one file each."""

_RECORD_KINDS = ("timing", "plan_timing", "accuracy", "layer_error", "board")


def weights_path(folder: Path, key: str) -> Path:
    """Where the weights of a plan are kept in the run folder; `key` is `Plan.weights`."""
    return folder / WEIGHTS_FOLDER / f"{key}.npz"


class Run:
    """One exploration, as it lies in `folder`. Raises StoreError if it is no run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with Store(folder, read_only=True) as store:
            self._result = store.get(RESULT_KEY)
            self._frames = {kind: store.frame(kind) for kind in _RECORD_KINDS}

    @property
    def info(self) -> ReportInfo:
        """The result. Raises StoreError if the exploration has not finished."""
        if self._result is None:
            raise StoreError(f"{self.folder}: the exploration has not finished; run `lrf-dse explore` again to go on")
        return from_json(ReportInfo, self._result)  # type: ignore[no-any-return]

    @property
    def model_path(self) -> Path:
        """The model as it was explored."""
        return self.folder / MODEL_FILE

    @property
    def records(self) -> pd.DataFrame:
        """Every record, one row each, with its `kind`; columns that a kind does not have are empty."""
        import pandas as pd

        frames = [frame.assign(kind=kind) for kind, frame in self._frames.items() if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["key", "kind"])

    def plan(self, pick: str) -> Plan:
        """The plan that `pick` names ("fastest", "smallest", "knee" or an id) within the run's budgets."""
        info = self.info
        budgets = info.budgets if pick in ("fastest", "smallest", "knee") else Budgets()
        return choose(info.plans, pick, budgets)

    def write_report(self) -> tuple[Path, ...]:
        """Render the report again from the records; the paths of its files."""
        return write_report(self.info, self.folder)

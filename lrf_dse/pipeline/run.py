"""A run folder, read back: its records as tables, its result as a ReportInfo. Works without any tool or hardware."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from lrf_dse.errors import LrfDseError, ModelError, StoreError
from lrf_dse.jsonform import from_json
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.stored import PlanWeights, find_weights
from lrf_dse.pipeline.golden import GOLDEN_FILE, Case, golden_key, kept_golden
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.choice import PICKS, choose, default_pick
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_report
from lrf_dse.schema import Plan
from lrf_dse.sealed import digest_of, write_atomic
from lrf_dse.store import AGAIN, Store

if TYPE_CHECKING:
    import pandas as pd

RUN_KEY = "run"
RESULT_KEY = "result"
MODEL_FILE = "model.onnx"
"""A copy of the model that was explored, batch fixed: export needs its weights."""

WEIGHTS_FOLDER = "weights"
"""What every measured plan puts in the place of the model's weights, one file each."""

_RECORD_KINDS = ("timing", "plan_timing", "accuracy", "layer_error", "board")


Value = TypeVar("Value")


def model_bytes(model: Model) -> bytes:
    """What the run's copy of the model holds."""
    content: bytes = to_onnx(model).SerializeToString()
    return content


def is_file_of(path: Path, sha256: str) -> bool:
    """Whether `path` holds the content with this digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def weights_path(folder: Path, key: str) -> Path:
    """Where the weights of a plan are kept in the run folder; `key` is `Plan.weights`."""
    return folder / WEIGHTS_FOLDER / f"{key}.npz"


@dataclass(frozen=True)
class RunFacts:
    """The part of a run's record that is read back: the command, and the model with the digest of the run's copy."""

    command: str
    batch: int | None
    model_path: str
    model_sha256: str
    copy_sha256: str


class Run:
    """One exploration, as it lies in `folder`. Raises StoreError if it is no run folder.

    `notes` say what was damaged, and healed on the way to what was asked for.
    """

    def __init__(self, folder: Path, notes: Sequence[str] = ()) -> None:
        self.folder = folder
        self.notes = list(notes)
        # Opening it is the check: a folder without records raises StoreError here, not in the middle of a command.
        Store(folder, read_only=True).close()

    def _value(self, kind: type[Value], key: str) -> Value | None:
        with Store(self.folder, read_only=True) as store:
            found = store.get(key)
        try:
            return None if found is None else cast(Value, from_json(kind, found))
        except ValueError as error:
            raise StoreError(f"{self.folder}: the record {key!r} is of another release of lrf-dse; {AGAIN}") from error

    @cached_property
    def facts(self) -> RunFacts:
        """What was explored. Raises StoreError where its record is lost."""
        found = self._value(RunFacts, RUN_KEY)
        if found is None:
            raise StoreError(f"{self.folder}: the record of the exploration is lost; {AGAIN}")
        return found

    @cached_property
    def info(self) -> ReportInfo:
        """The result. Raises StoreError if the exploration has not finished."""
        found = self._value(ReportInfo, RESULT_KEY)
        if found is None:
            raise StoreError(
                f"{self.folder}: the exploration has not finished; run `lrf-dse explore` again to go on "
                f"(`{self.facts.command}`)"
            )
        return found

    @property
    def model_path(self) -> Path:
        """The run's copy of the model."""
        return self.folder / MODEL_FILE

    def model(self) -> Model:
        """The model that was explored: from the run's copy, which is made anew from the original where it is damaged.

        Raises StoreError where neither is the model of the records.
        """
        if is_file_of(self.model_path, self.facts.copy_sha256):
            copy = read_model(self.model_path)
            if copy.sha256 == self.facts.copy_sha256:
                return copy
        return self._copied_again(self.facts)

    def _copied_again(self, facts: RunFacts) -> Model:
        original = Path(facts.model_path)
        try:
            model = read_model(original, batch=facts.batch)
            content = model_bytes(model)
            # A file of the same name that has changed is another model: its weights fit no record.
            if model.sha256 != facts.model_sha256 or digest_of(content) != facts.copy_sha256:
                raise ModelError(f"{original}: has changed since")
            with suppress(StoreError):  # in a folder that cannot be written, the original will do
                write_atomic(self.model_path, content)
        except LrfDseError as error:
            raise StoreError(
                f"{self.model_path}: not the model that was explored, and the original cannot take its place "
                f"({error}); put it back (SHA-256 {facts.model_sha256}) and run this again"
            ) from error
        self.notes.append(f"{self.model_path}: was not the model that was explored; taken again from {original}")
        return model

    def golden(self) -> tuple[Case, ...]:
        """The golden inputs: samples of the run's data, or random ones. Raises StoreError where they are not whole."""
        info = self.info
        key = golden_key(info.model.sha256, None if info.data is None else info.data.sha256, seed=info.seed)
        found = kept_golden(self.folder, key, inputs=len(info.model.inputs))
        if found is None:
            raise StoreError(
                f"{self.folder / GOLDEN_FILE}: the golden inputs are missing or damaged; they are made again by "
                f"`{info.command}`"
            )
        return found

    def weights(self, plan: Plan) -> PlanWeights:
        """What `plan` puts in the place of the model's weights. Raises StoreError where the file is not whole."""
        path = weights_path(self.folder, plan.weights)
        found = find_weights(path, plan.weights)
        if found is None:
            raise StoreError(
                f"{path}: the weights of plan {plan.id} are missing or damaged; they are made again by "
                f"`{self.info.command}`"
            )
        return found

    @property
    def records(self) -> pd.DataFrame:
        """Every record, one row each, with its `kind`; columns that a kind does not have are empty."""
        import pandas as pd

        with Store(self.folder, read_only=True) as store:
            frames = [store.frame(kind).assign(kind=kind) for kind in _RECORD_KINDS]
        frames = [frame for frame in frames if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["key", "kind"])

    def plan(self, pick: str | None = None) -> Plan:
        """The plan that `pick` names: one of PICKS, within the run's budgets, or a plan's id.

        By default it is what the run's objective asks for, as in `default_pick`.
        """
        info = self.info
        pick = pick or default_pick(info.objective, info.budgets)
        # An id names a plan that the user wants whatever the budgets say.
        return choose(info.plans, pick, info.budgets if pick in PICKS else Budgets())

    def write_report(self) -> tuple[Path, ...]:
        """Render the report again from the records; the paths of its files."""
        return write_report(self.info, self.folder)

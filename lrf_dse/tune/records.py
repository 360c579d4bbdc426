"""What was measured of kernels, kept in the user's cache: one small file for each content key.

Not a run's store: every run, bench and board shares these. A file is renamed into place when it is complete, so that
processes may write at once, and a killed one loses what it was measuring and nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrf_dse.builders.zig import cache_dir
from lrf_dse.errors import StoreError
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.schema import Failure, Measurement

Outcome = Measurement | Failure


class Records(Protocol):
    """Outcomes by content key."""

    def get(self, key: str) -> Outcome | None:
        """What is recorded, or None."""
        ...

    def put(self, key: str, outcome: Outcome) -> None:
        """Record `outcome`."""
        ...


@dataclass(frozen=True)
class FileRecords:
    """Records as files of a folder, which is created."""

    folder: Path

    def get(self, key: str) -> Outcome | None:
        """What is recorded; a file that cannot be read as an outcome is no record."""
        try:
            outcome: Outcome = from_json(Outcome, json.loads(self._path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        return outcome

    def put(self, key: str, outcome: Outcome) -> None:
        """Record `outcome`. Raises StoreError."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{key}-")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(to_json(outcome), file)
            Path(fresh).replace(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot write the record: {error.strerror}; set LRF_DSE_CACHE") from error

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def user_records() -> FileRecords:
    """The records in the user's cache folder."""
    return FileRecords(cache_dir() / "kernels")

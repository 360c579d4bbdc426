"""Measurements of kernels are kept in the user's cache, one small file for each content key.

This is not the store of a run: all runs and benchmarks share these files. A file holds its key and is renamed into
place when it is complete: processes may write at once, and a killed one loses what it was measuring and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from lrf_dse.builders.cache import cache_dir
from lrf_dse.errors import StoreError
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.schema import Outcome
from lrf_dse.sealed import read_sealed, write_sealed


class KernelRecords(Protocol):
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
        """What is recorded; a file that is damaged, or of another key, is no record."""
        content = read_sealed(self._path(key), key)
        try:
            return None if content is None else cast(Outcome, from_json(Outcome, json.loads(content)))
        except ValueError:  # whole, but of a release whose outcomes were others
            return None

    def put(self, key: str, outcome: Outcome) -> None:
        """Record `outcome`. Raises StoreError."""
        try:
            write_sealed(self._path(key), json.dumps(to_json(outcome)).encode(), key)
        # The cache lies in the home folder, which may be full or read-only where the run's folder is not.
        except StoreError as error:
            raise StoreError(f"{error}; set LRF_DSE_CACHE") from error

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def user_records() -> FileRecords:
    """The records in the user's cache folder."""
    return FileRecords(cache_dir() / "kernels")

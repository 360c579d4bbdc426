"""Which folder is a run's: one that was made as such, or holds our records. Nothing else is ever written into."""

from __future__ import annotations

from pathlib import Path

from lrf_dse.errors import StoreError
from lrf_dse.sealed import PART_PATTERN, write_atomic
from lrf_dse.store.rows import FILE_NAME, OURS

MARKER = ".lrf-dse-run"
_MARKER_TEXT = b"""A run folder of lrf-dse. `lrf-dse explore` made it and may write any file here.
Keep this file: it tells the run from a folder of yours when the records are damaged.
"""
# The text of CREATE TABLE stands in the first page, at its end: SQLite fills pages from behind.
_PAGE_BYTES = 4096


def is_run_folder(folder: Path) -> bool:
    """Whether `folder` is marked as a run's, or holds records of ours, whole or damaged. Raises StoreError."""
    try:
        marker, records = folder / MARKER, folder / FILE_NAME
        # The marker is asked first, also because opening the records here and closing them again would drop the lock of
        # a store that this process holds (see `records`).
        if marker.is_file() and marker.read_bytes() == _MARKER_TEXT:
            return True
        if not records.is_file():
            return False
        with records.open("rb") as file:
            return OURS in file.read(_PAGE_BYTES)
    except OSError as error:
        raise StoreError(f"{folder}: cannot read the run folder: {error.strerror}") from error


def claim(folder: Path) -> None:
    """Make `folder` a run's. Raises StoreError where it holds files and is none, or cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot create the run folder: {error.strerror}; choose another") from error
    if not is_run_folder(folder) and (foreign := _foreign(folder)):
        if foreign == FILE_NAME:
            raise StoreError(f"{folder / FILE_NAME}: not an lrf-dse records file; choose another run folder")
        raise StoreError(f"{folder}: holds {foreign} and is no run folder; choose another, or an empty one")
    marker = folder / MARKER
    # Records without a marker, as in a folder that was copied without its hidden files, get one again.
    if not marker.is_file() or marker.read_bytes() != _MARKER_TEXT:
        write_atomic(marker, _MARKER_TEXT)


def _foreign(folder: Path) -> str | None:
    """The name of a file in `folder` that no kill of ours left; a kill right after creation leaves an empty file."""
    ours = {folder / FILE_NAME, folder / MARKER}
    for path in sorted(folder.iterdir()):
        left = path.match(PART_PATTERN) or (path in ours and path.is_file() and path.stat().st_size == 0)
        if not left:
            return path.name
    return None

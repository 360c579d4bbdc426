"""The user's cache holds what can be made again, in files that tell whether they are whole.

A file that was truncated, altered, or swapped with another one is made again as if it were missing: it would break
every later run, or change what they measure.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lrf_dse.errors import StoreError, ToolError
from lrf_dse.sealed import read_sealed, write_sealed


def cache_dir() -> Path:
    """The folder for what can be made again: $LRF_DSE_CACHE, else ~/.cache/lrf-dse. Created on first use."""
    configured = os.environ.get("LRF_DSE_CACHE")
    folder = Path(configured) if configured else Path.home() / ".cache" / "lrf-dse"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot create the cache folder {folder}: {error.strerror}; set LRF_DSE_CACHE to a writable one"
        ) from error
    return folder


def cached(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, whole: made by `make`, which gets the path to write to, where it is missing or damaged.

    Folder and name are the key, and must hold a hash of whatever decides the content. A finished file is renamed into
    place: two processes may make it at once. Raises ToolError where the cache cannot be written, and what `make` does.
    """
    # Two parts of the path, so that a whole file in the place of another one is found, too.
    key = f"{path.parent.name}/{path.name}"
    if read_sealed(path, key) is not None:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
            fresh = Path(scratch) / path.name
            make(fresh)
            write_sealed(path, fresh.read_bytes(), key)
    except (OSError, StoreError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ToolError(f"cannot write {path}: {reason}; or set LRF_DSE_CACHE to another folder") from error
    return path

"""The C libraries that zig built into its cache: still what was built, or dropped and built again.

Zig does not look into a finished archive a second time: a truncated one breaks every later link, and an altered one
goes into every program that is linked. (Its other files are keys and intermediates: where one is damaged it builds.)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from lrf_dse.errors import StoreError
from lrf_dse.sealed import read_sealed, write_sealed

_KEY = "zig libraries"
_SUMS = "zig-libraries.json"
_LINKED = ("*.a", "crt*.o", "*.so.*")
"""What the linker reads, in folders of o/."""

_lock = threading.Lock()
_checked: set[Path] = set()


def require_sound(folder: Path, *, again: bool = False) -> bool:
    """Remove zig's cache `folder` where a library in it is not the one that was built; whether it was removed.

    Looked at once in a process (30 ms), or `again` after a link has failed.
    """
    with _lock:
        if folder in _checked and not again:
            return False
        _checked.add(folder)
        _, sums = _known(folder)
        if all(_digest(folder / name) == digest for name, digest in sums.items()):
            return False
        place = folder.resolve()
        aside = place.with_name(f".{place.name}-damaged-{os.getpid()}")
        with suppress(OSError):  # another process may have removed it
            place.rename(aside)
            place.mkdir()
        shutil.rmtree(aside, ignore_errors=True)
        (folder.parent / _SUMS).unlink(missing_ok=True)
        return True


def remember(folder: Path) -> None:
    """Write down what zig has built since the last time. Where the cache cannot be written, nothing is built either."""
    with _lock, suppress(OSError, StoreError):
        built = (folder / "o").stat().st_mtime_ns  # of the folder: it changes with every new name in it
        before, sums = _known(folder)
        if before == built:
            return
        found = {name: sums.get(name) or _digest(folder / name) for name in _libraries(folder)}
        write_sealed(folder.parent / _SUMS, json.dumps([built, found]).encode(), _KEY)


def _known(folder: Path) -> tuple[int, dict[str, str]]:
    """When the digests were taken, and the digests; none where they are not known."""
    content = read_sealed(folder.parent / _SUMS, _KEY)
    if content is None:
        return 0, {}
    built, sums = json.loads(content)
    return int(built), dict(sums)


def _libraries(folder: Path) -> Iterator[str]:
    """The files that zig links, below `folder`. A folder that another zig takes away meanwhile holds none."""
    for inside in (folder / "o").iterdir():
        with suppress(OSError):
            for path in inside.iterdir():
                if any(fnmatch(path.name, pattern) for pattern in _LINKED):
                    yield f"o/{inside.name}/{path.name}"


def _digest(path: Path) -> str | None:
    """Of the file; None where it is gone: zig takes it for there all the same."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None

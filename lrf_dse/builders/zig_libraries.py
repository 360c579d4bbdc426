"""The C libraries in zig's cache: a library that is not what was built is dropped, and zig builds it again.

Zig does not look into a finished archive a second time: a truncated one breaks every later link, and an altered one
goes into every program that is linked. (Its other files are keys and intermediates: where one is damaged it builds.)

Zig writes a library in place. So whoever builds holds the cache's lock together with others, and the digests are taken,
and the cache is removed, only by one who holds it alone: else half a library would be remembered as a whole one, and
the next process would remove the cache under everyone who links.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from lrf_dse.errors import StoreError, ToolError
from lrf_dse.sealed import read_sealed, write_sealed

_KEY = "zig libraries"
_SUMS = "zig-libraries.json"
_LINKED = ("*.a", "crt*.o", "*.so.*")
"""What the linker reads, in folders of o/."""

_lock = threading.Lock()
"""Of what this process knows. The lock between processes is a file's."""
_checked: set[Path] = set()


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """In the block, zig may be run on its cache `folder`: no other process removes it meanwhile.

    Raises ToolError where its place cannot be written.
    """
    try:
        with _locked(folder, fcntl.LOCK_SH):
            yield
    except OSError as error:
        raise ToolError(
            f"cannot write {folder.parent}: {error.strerror}; set LRF_DSE_CACHE to a writable folder"
        ) from error


def require_sound(folder: Path, *, again: bool = False) -> bool:
    """Remove zig's cache `folder` where a library in it is not the one that was built; whether it was removed.

    Looked at once in a process (30 ms), or `again` after a link has failed.
    """
    with _lock:
        if folder in _checked and not again:
            return False
        _checked.add(folder)
        if _is_sound(folder):
            return False
        with _locked(folder, fcntl.LOCK_EX):
            if not _is_sound(folder):  # another process may have removed it meanwhile
                _remove(folder)
        return True


def _is_sound(folder: Path) -> bool:
    _, sums = _known(folder)
    return all(_digest(folder / name) == digest for name, digest in sums.items())


def _remove(folder: Path) -> None:
    place = folder.resolve()
    # A rename is one step: nobody finds a cache that is half removed.
    aside = place.with_name(f".{place.name}-damaged-{os.getpid()}")
    place.rename(aside)
    place.mkdir()
    shutil.rmtree(aside, ignore_errors=True)
    (folder.parent / _SUMS).unlink(missing_ok=True)


def remember(folder: Path) -> None:
    """Write down what zig has built since the last time, unless another zig is at work: then that one's caller does.

    Where the cache cannot be written, nothing is built either.
    """
    with _lock, suppress(OSError, StoreError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        built = (folder / "o").stat().st_mtime_ns  # of the folder: it changes with every new name in it
        before, sums = _known(folder)
        if before == built:
            return
        # A digest that is known stays: taken again, it would make a damaged file a sound one.
        found = {name: sums.get(name) or _digest(folder / name) for name in _libraries(folder)}
        write_sealed(folder.parent / _SUMS, json.dumps([built, found]).encode(), _KEY)


@contextmanager
def _locked(folder: Path, operation: int) -> Iterator[None]:
    """The lock of zig's cache `folder`; it ends with the process. Its file is beside the folder, which is replaced."""
    place = folder.resolve()
    # flock belongs to the open file, so each use opens it anew; closing it ends the lock.
    descriptor = os.open(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


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
    """The digest of the file; None where it is gone, although zig still believes that it is there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None

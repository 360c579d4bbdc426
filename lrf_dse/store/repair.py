"""A damaged records file becomes a sound one with the rows that are whole; the damaged one is kept beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from lrf_dse.sealed import flush_folder
from lrf_dse.store.rows import connect, create, is_whole

_PAGE_BYTES = 4096
"""What SQLite has written by default since 3.12."""
_CHANGE_COUNTER = slice(24, 28)
"""In a file's header (sqlite.org/fileformat2.html, 1.3). Where it differs from the one at 92, SQLite takes the number
of pages from the file's size."""


def repair(path: Path) -> tuple[int, Path]:
    """Put a sound file in the place of `path`: how many records it holds, and where the damaged one is now.

    Nobody else may have the file open. Raises OSError and sqlite3.Error where the folder cannot be written.
    """
    with _only_one(path.parent):
        rows = _whole_rows(path)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as scratch:
            fresh = Path(scratch) / path.name
            with closing(connect(fresh, "rwc")) as db:
                db.execute("BEGIN EXCLUSIVE")
                create(db)
                sql = "INSERT INTO record (key, kind, value, context, digest) VALUES (?, ?, ?, ?, ?)"
                db.executemany(sql, rows)
                db.execute("COMMIT")
            # Copied, not renamed: at no moment of a kill is there neither the damaged file nor the sound one under its
            # name.
            aside = _free_name(path)
            shutil.copyfile(path, aside)
            # A journal of the damaged file must not be rolled back into the sound one.
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
            fresh.replace(path)
            flush_folder(path.parent)
    return len(rows), aside


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Wait for another process that repairs here. The lock ends with the process that holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free_name(path: Path) -> Path:
    number = 1
    while (found := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return found


def _whole_rows(path: Path) -> list[tuple[str, ...]]:
    """The rows that are whole, in order, read from a copy whose first page is that of a new file.

    That page holds the header and the tables' definitions, which are the same in every file of ours: damage there
    loses nothing. Rows are read from both ends, since a damaged page in the middle stops a reader.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as scratch:
        copy = Path(scratch) / path.name
        with closing(connect(copy, "rwc")) as db:
            db.execute("BEGIN EXCLUSIVE")
            create(db)
            db.execute("COMMIT")
        header = bytearray(copy.read_bytes()[:_PAGE_BYTES])
        # The header is that of a new file: SQLite must not believe the number of pages in it.
        header[_CHANGE_COUNTER] = b"\xff" * 4
        copy.write_bytes(bytes(header) + path.read_bytes()[_PAGE_BYTES:])
        with closing(connect(copy, "ro")) as db:
            found = {row[0]: row[1:] for order in ("ASC", "DESC") for row in _readable(db, order)}
    rows: dict[str, tuple[str, ...]] = {}
    for _, row in sorted(found.items()):
        if is_whole(row):
            rows.pop(row[0], None)  # the newest of a key, in the place of the newest
            rows[row[0]] = row
    return list(rows.values())


def _readable(db: sqlite3.Connection, order: str) -> Iterator[tuple[Any, ...]]:
    # The index of keys may be what is damaged; the table itself is a tree by `seq`.
    sql = f"SELECT seq, key, kind, value, context, digest FROM record NOT INDEXED ORDER BY seq {order}"
    with suppress(sqlite3.Error, OverflowError):
        yield from db.execute(sql)

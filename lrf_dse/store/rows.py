"""The records file as SQLite sees it: its tables, its versions, and what makes a row whole.

A row carries a digest of its key, kind, value and context. One that was altered, or got the value of another, is
damaged: it counts as no record.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

FILE_NAME = "records.sqlite"
# It stands in the header as `user_version`; to be raised whenever the table changes.
SCHEMA_VERSION = 2
APPLICATION_ID = 0x6C726664
"""In the file's header, "lrfd": tells our file from any other SQLite file."""

TABLE = (
    "CREATE TABLE record (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " value TEXT NOT NULL, context TEXT NOT NULL, digest TEXT NOT NULL)"
)
"""A key has one row: a row that is lost is no record, and never lets an older one of its key come back."""

OURS = b"CREATE TABLE record (seq INTEGER PRIMARY KEY"
"""What the first page of our files holds, in every version."""

_COLUMNS = 5  # key, kind, value, context, digest


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in `mode` (ro, rw or rwc), where transactions are begun and ended by name and nowhere else.

    Text that is no UTF-8 is read as it is: that its digest differs is found later. Raises sqlite3.Error.
    """
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    # timeout 0: a file in use is an error at once. isolation_level None: Python's module begins no transactions of its
    # own. Threads may share the connection because `Store` has a lock around it.
    db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return db


def create(db: sqlite3.Connection) -> None:
    """Make the tables of an empty file, in the caller's transaction."""
    db.execute(TABLE)
    stamp(db)


def stamp(db: sqlite3.Connection) -> None:
    """Write what the file's header says of it."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def pragma(db: sqlite3.Connection, name: str) -> Any:
    """The first value that a pragma answers."""
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def table_text(db: sqlite3.Connection) -> str | None:
    """The statement that made the file's table of records; None if there is no such table."""
    found = db.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'record'").fetchone()
    return None if found is None else found[0]


def sealed_row(key: str, kind: str, value: Any, context: Any) -> tuple[str, ...]:
    """The texts of a row, its digest last. Raises ValueError for what is not JSON."""
    texts = (key, kind, *(json.dumps(part, allow_nan=False, sort_keys=True) for part in (value, context)))
    return (*texts, _digest(texts))


def is_whole(row: tuple[Any, ...]) -> bool:
    """Whether (key, kind, value, context, digest) is as it was written."""
    return len(row) == _COLUMNS and all(isinstance(part, str) for part in row) and row[-1] == _digest(row[:-1])


def _digest(texts: tuple[str, ...]) -> str:
    text = json.dumps(texts, separators=(",", ":"))  # escapes what is no UTF-8
    return hashlib.sha256(text.encode()).hexdigest()

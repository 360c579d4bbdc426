"""The records of a run: one SQLite file that survives kill -9, and the only code that knows it is SQLite.

A record is a key, a kind, a JSON value and a JSON context (what the value was measured with). Each `put` is one
transaction; when it returns, the record is on the disk. Rows are only ever appended: the newest row of a key is the
record. The store knows nothing of candidates or plans; callers turn values to JSON and choose content keys
(`lrf_dse.schema`).

Why a rollback journal and not WAL: WAL needs shared memory beside the file, so it fails on network file systems and
cannot even be read from a read-only folder. A record takes seconds to measure, so the extra fsync costs nothing.

Why SQLite's own exclusive lock: the kernel drops it when the process dies, so there is no stale lock file to clean,
and a second process gets an error at once instead of waiting or corrupting. POSIX locks have one trap: closing any
other descriptor of the file in this process drops them, so nothing here may open the file except SQLite.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lrf_dse.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "records.sqlite"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x6C726664  # "lrfd": tells our file from any other SQLite file

_SCHEMA = (
    "CREATE TABLE record (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL,"
    " value TEXT NOT NULL, context TEXT NOT NULL)",
    "CREATE INDEX record_by_key ON record (key, seq)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
_NEWEST = "SELECT max(seq) FROM record GROUP BY key"


@dataclass(frozen=True)
class Record:
    """One record as it is stored: `value` and `context` are plain JSON values."""

    key: str
    kind: str
    value: Any
    context: Any


class Store:
    """The records in `folder`/records.sqlite; creates both unless `read_only`.

    One process at a time may hold a store open for writing, and nobody reads meanwhile. `read_only` works in a folder
    that cannot be written. Close it, or use it as a context manager. May be used from several threads.
    Every method raises StoreError, with the path and what to do, when the file cannot be used.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / FILE_NAME
        self._thread_lock = threading.Lock()
        if read_only:
            if not self.path.is_file():
                raise StoreError(f"{folder}: not a run folder, it has no {FILE_NAME}")
        else:
            _make_folder(folder)
        uri = f"{self.path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        try:
            # isolation_level None: transactions are begun and ended here, by name, and nowhere else.
            self._db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._store_error(error) from error
        try:
            self._open(read_only)
        except BaseException:
            self._db.close()
            raise

    def _open(self, read_only: bool) -> None:
        try:
            if read_only:
                self._check_schema()
                return
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            if self._is_empty():
                for statement in _SCHEMA:
                    self._db.execute(statement)
            else:
                self._check_schema()
            # SQLite silently opens an unwritable file as read-only; a write tells now instead of hours later.
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._store_error(error) from error

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _is_empty(self) -> bool:
        # An empty file is what a kill between creating the file and the first commit leaves behind.
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return bool(tables == 0 and self._pragma("application_id") == 0)

    def _check_schema(self) -> None:
        if self._pragma("application_id") != APPLICATION_ID:
            raise StoreError(f"{self.path}: not an lrf-dse records file; choose another run folder")
        version = self._pragma("user_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written with records version {version}, this lrf-dse reads version {SCHEMA_VERSION}; "
                "use the matching release or a new run folder"
            )

    def put(self, key: str, kind: str, value: Any, *, context: Any = None) -> None:
        """Append a record in one transaction; it is on the disk when this returns.

        `value` and `context` are JSON values (tuples become lists). A None value, or a NaN or infinity anywhere, is a
        ValueError: None means "no record" in `get`, and NaN is not JSON.
        """
        if value is None:
            raise ValueError(f"record {key}: the value must not be None")
        texts = [json.dumps(part, allow_nan=False, sort_keys=True) for part in (value, context)]
        with self._thread_lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(
                    "INSERT INTO record (key, kind, value, context) VALUES (?, ?, ?, ?)", (key, kind, *texts)
                )
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise self._store_error(error) from error
            except BaseException:  # Ctrl-C between BEGIN and COMMIT must not leave the transaction open
                self._roll_back()
                raise

    def get(self, key: str) -> Any | None:
        """The newest value stored under `key`, or None."""
        rows = self._read("SELECT value FROM record WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,))
        return json.loads(rows[0][0]) if rows else None

    def records(self, kind: str) -> Iterator[Record]:
        """The newest record of every key of this kind, oldest first; records put meanwhile are not seen."""
        sql = f"SELECT key, kind, value, context FROM record WHERE kind = ? AND seq IN ({_NEWEST}) ORDER BY seq"
        for key, kind_found, value, context in self._read(sql, (kind,)):
            yield Record(key, kind_found, json.loads(value), json.loads(context))

    @property
    def record_count(self) -> int:
        """Number of records, i.e. of distinct keys."""
        return int(self._read("SELECT count(DISTINCT key) FROM record", ())[0][0])

    def frame(self, kind: str) -> pd.DataFrame:
        """The records of a kind as a table: `key`, the value's fields, then the context's as `context.*`.

        Nested objects become dotted columns; a value or context that is not an object is one column of that name.
        """
        import pandas as pd

        rows = []
        for record in self.records(kind):
            value = record.value if isinstance(record.value, dict) else {"value": record.value}
            context = {} if record.context is None else {"context": record.context}
            rows.append({"key": record.key, **value, **context})
        return pd.json_normalize(rows) if rows else pd.DataFrame(columns=["key"])

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        with self._thread_lock:
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, sql: str, arguments: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._thread_lock:
            try:
                with closing(self._db.execute(sql, arguments)) as cursor:
                    return cursor.fetchall()
            except sqlite3.Error as error:
                raise self._store_error(error) from error

    def _roll_back(self) -> None:
        # SQLite rolls back by itself on a full disk; what is left then is no transaction, and nothing to undo.
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:  # the first error is the one to report; the journal undoes the rest on the next open
                return

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        # Extended codes keep the primary code in the low byte; errors of the Python module itself have none.
        code = getattr(error, "sqlite_errorcode", -1) & 0xFF
        return StoreError(f"{self.path}: {_REASONS.get(code, 'the records cannot be used')} ({error})")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot create the run folder: {error.strerror}; choose another") from error


_WRITE = "cannot write the record: is the disk full, or a file size limit reached? Records already written are safe"
_ACCESS = "cannot open the records for this use: make the folder and the file accessible, or choose another run folder"
_DAMAGED = "not an lrf-dse records file, or a damaged one; choose another run folder"
_REASONS = {
    sqlite3.SQLITE_BUSY: "in use by another lrf-dse process; wait for it to end, or choose another run folder",
    sqlite3.SQLITE_LOCKED: "in use by another lrf-dse process; wait for it to end, or choose another run folder",
    sqlite3.SQLITE_FULL: _WRITE,
    sqlite3.SQLITE_IOERR: _WRITE,
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
}

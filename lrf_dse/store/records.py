"""The records of a run: one SQLite file that survives kill -9, and the only class that knows it is SQLite.

A record is a key, a kind, a JSON value and a JSON context (what the value was measured with). Each `put` is one
transaction; when it returns, the record is on the disk, and no older one of its key is left. The store knows nothing
of candidates or plans; callers turn values to JSON and choose content keys (`lrf_dse.schema`).

Opened for writing, a store drops the rows that are damaged: they are no records then, and are made again. A file that
SQLite calls malformed is repaired (`store.repair`). `notes` says so. Opened for reading, it raises where it meets one.

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
from lrf_dse.store import rows
from lrf_dse.store.folder import claim, is_run_folder
from lrf_dse.store.repair import repair
from lrf_dse.store.rows import APPLICATION_ID, FILE_NAME, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

_ROW = "SELECT key, kind, value, context, digest FROM record"


@dataclass(frozen=True)
class Record:
    """One record as it is stored: `value` and `context` are plain JSON values."""

    key: str
    kind: str
    value: Any
    context: Any


class _Damaged(Exception):
    """The file cannot be used as it is, and is ours."""


class Store:
    """The records in `folder`/records.sqlite; creates both unless `read_only`.

    One process at a time may hold a store open for writing, and nobody reads meanwhile. `read_only` works in a folder
    that cannot be written. Close it, or use it as a context manager. May be used from several threads.
    Every method raises StoreError, with the path and what to do, when the file cannot be used.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / FILE_NAME
        self.notes: list[str] = []
        self._thread_lock = threading.Lock()
        if read_only:
            if not self.path.is_file():
                gone = f"its {FILE_NAME} is gone; {AGAIN}" if is_run_folder(folder) else "it has no records"
                raise StoreError(f"{folder}: not a run folder, {gone}")
        else:
            claim(folder)
        try:
            self._db = self._opened(read_only)
        except _Damaged as damage:
            if read_only:
                raise StoreError(f"{self.path}: damaged ({damage}); {AGAIN}") from damage
            self._db = self._repaired(damage)

    def _opened(self, read_only: bool) -> sqlite3.Connection:
        """A connection that may be used. Raises _Damaged, StoreError."""
        try:
            db = rows.connect(self.path, "ro" if read_only else "rwc")
        except sqlite3.Error as error:
            raise self._store_error(error) from error
        try:
            if read_only:
                self._check_version(db)
            else:
                self._begin(db)
        except sqlite3.Error as error:
            db.close()
            if _is_damage(error) and is_run_folder(self.path.parent):
                raise _Damaged(str(error)) from error
            raise self._store_error(error) from error
        except BaseException:
            db.close()
            raise
        return db

    def _begin(self, db: sqlite3.Connection) -> None:
        """Lock the file, make its tables or check them, and drop the rows that are damaged."""
        # SQLite takes the lock with the transaction below and, in this mode, keeps it after COMMIT until the file is
        # closed.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # FULL: the journal is on the disk before the file is touched, and the file before COMMIT returns.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")  # what was deleted must not come back where a page is damaged
        db.execute("BEGIN EXCLUSIVE")
        if _is_empty(db):
            rows.create(db)
        else:
            self._check_version(db)
            if (found := rows.pragma(db, "integrity_check")) != "ok":
                raise _Damaged(" ".join(found.split()))
            self._drop_damaged(db)
        # SQLite silently opens an unwritable file as read-only; a write tells now instead of hours later.
        rows.stamp(db)
        db.execute("COMMIT")

    def _drop_damaged(self, db: sqlite3.Connection) -> None:
        found = db.execute("SELECT seq, key, kind, value, context, digest FROM record").fetchall()
        damaged = [(row[0],) for row in found if not rows.is_whole(row[1:])]
        db.executemany("DELETE FROM record WHERE seq = ?", damaged)
        if damaged:
            self.notes.append(f"{self.path}: {len(damaged)} damaged records are dropped and made again")

    def _repaired(self, damage: _Damaged) -> sqlite3.Connection:
        try:
            kept, aside = repair(self.path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.path}: damaged ({damage}), and cannot be repaired: {error}") from error
        self.notes.append(
            f"{self.path}: damaged ({damage}); {kept} records are whole, the file is kept as {aside.name}"
        )
        try:
            return self._opened(read_only=False)
        except _Damaged as again:
            raise StoreError(f"{self.path}: damaged again after a repair ({again}); choose another folder") from again

    def _check_version(self, db: sqlite3.Connection) -> None:
        """Raise StoreError for a file that is another's, or of another version, and _Damaged for one of ours."""
        found = rows.table_text(db)
        if found == rows.TABLE:  # whatever its header says
            return
        version = rows.pragma(db, "user_version")
        if rows.pragma(db, "application_id") != APPLICATION_ID and not is_run_folder(self.path.parent):
            raise StoreError(f"{self.path}: not an lrf-dse records file; choose another run folder")
        if version == SCHEMA_VERSION or found is None:
            raise _Damaged("its table of records is not the one that was made")
        raise StoreError(
            f"{self.path}: written with records version {version}, this lrf-dse reads version {SCHEMA_VERSION}; "
            "use the matching release or a new run folder"
        )

    def put(self, key: str, kind: str, value: Any, *, context: Any = None) -> None:
        """Put a record in the place of its key's, in one transaction; it is on the disk when this returns.

        `value` and `context` are JSON values (tuples become lists). A None value, or a NaN or infinity anywhere, is a
        ValueError: None means "no record" in `get`, and NaN is not JSON.
        """
        if value is None:
            raise ValueError(f"record {key}: the value must not be None")
        row = rows.sealed_row(key, kind, value, context)
        with self._thread_lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                # REPLACE gives the new row the next `seq`: records come in the order of their last put.
                self._db.execute(
                    "INSERT OR REPLACE INTO record (key, kind, value, context, digest) VALUES (?, ?, ?, ?, ?)", row
                )
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise self._store_error(error) from error
            except BaseException:  # Ctrl-C between BEGIN and COMMIT must not leave the transaction open
                self._roll_back()
                raise

    def get(self, key: str) -> Any | None:
        """The value stored under `key`, or None."""
        record = self.record(key)
        return None if record is None else record.value

    def record(self, key: str) -> Record | None:
        """The record of `key`, or None."""
        found = self._read(f"{_ROW} WHERE key = ?", (key,))
        # The index leads to the row; a damaged one may lead to that of another key, which is whole in itself.
        if found and found[0][0] != key:
            raise self._damaged_row(found[0])
        return self._whole(found[0]) if found else None

    def records(self, kind: str) -> Iterator[Record]:
        """The records of this kind, oldest first; records put meanwhile are not seen."""
        # All rows are looked at: one whose kind was altered must not be missed in silence.
        for row in self._read(f"{_ROW} ORDER BY seq", ()):
            record = self._whole(row)
            if record.kind == kind:
                yield record

    def _whole(self, row: tuple[Any, ...]) -> Record:
        if not rows.is_whole(row):
            raise self._damaged_row(row)
        key, kind, value, context, _ = row
        return Record(key, kind, json.loads(value), json.loads(context))

    def _damaged_row(self, row: tuple[Any, ...]) -> StoreError:
        return StoreError(f"{self.path}: the record {row[0]!r} is damaged; {AGAIN}")

    @property
    def record_count(self) -> int:
        """Number of records."""
        return int(self._read("SELECT count(*) FROM record", ())[0][0])

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
        reason = _REASONS.get(_code(error), "the records cannot be used")
        if _is_damage(error) and is_run_folder(self.path.parent):
            reason = f"damaged; {AGAIN}"
        return StoreError(f"{self.path}: {reason} ({error})")


def _is_empty(db: sqlite3.Connection) -> bool:
    # An empty file is what a kill between creating the file and the first commit leaves behind.
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return bool(tables == 0 and rows.pragma(db, "application_id") == 0 and rows.pragma(db, "page_count") <= 1)


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def _code(error: sqlite3.Error) -> int:
    # Extended codes keep the primary code in the low byte; errors of the Python module itself have none.
    return getattr(error, "sqlite_errorcode", -1) & 0xFF


AGAIN = "run the same `lrf-dse explore` again, which repairs the records and makes again what is lost"
"""What mends damaged records."""
_WRITE = "cannot write the record: is the disk full, or a file size limit reached? Records already written are safe"
_ACCESS = "cannot open the records for this use: make the folder and the file accessible, or choose another run folder"
_FOREIGN = "not an lrf-dse records file; choose another run folder"
_REASONS = {
    sqlite3.SQLITE_BUSY: "in use by another lrf-dse process; wait for it to end, or choose another run folder",
    sqlite3.SQLITE_LOCKED: "in use by another lrf-dse process; wait for it to end, or choose another run folder",
    sqlite3.SQLITE_FULL: _WRITE,
    sqlite3.SQLITE_IOERR: _WRITE,
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_NOTADB: _FOREIGN,
    sqlite3.SQLITE_CORRUPT: _FOREIGN,
}

"""Damage to records.sqlite: whatever is read from it afterwards is what was written, or is missing and made again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from damage.damages import AGAIN, HARMLESS, HEALED, REFUSED, SILENT, Tally, damage, seeded
from explored import command, copy_of, explore_arguments, open_run, result

from lrf_dse.errors import StoreError
from lrf_dse.pipeline.run import Run
from lrf_dse.report.info import ReportInfo
from lrf_dse.store import FILE_NAME, MARKER, Record, Store

COLUMNS = ("key", "kind", "value", "context", "digest")


def damage_rows(path: Path, source: random.Random) -> str:
    """Change the file through SQLite, so that it stays a sound database; the name of the damage."""
    with closing(sqlite3.connect(path)) as db:
        keys = [row[0] for row in db.execute("SELECT key FROM record ORDER BY seq")]
        first, second = source.sample(keys, 2)
        column = source.choice(COLUMNS)
        kind = source.choice(["altered row", "altered row", "swapped rows", "deleted row", "row of another key"])
        if kind == "altered row":
            changed = bytearray(value_of(db, column, first).encode())
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(7)
            db.execute(f"UPDATE record SET {column} = ? WHERE key = ?", (changed.decode(), first))
        elif kind == "swapped rows":
            column = source.choice(("value", "context", "digest"))
            swapped = {first: value_of(db, column, second), second: value_of(db, column, first)}
            for key, value in swapped.items():
                db.execute(f"UPDATE record SET {column} = ? WHERE key = ?", (value, key))
        elif kind == "deleted row":
            db.execute("DELETE FROM record WHERE key = ?", (first,))
        else:
            db.execute("DELETE FROM record WHERE key = ?", (second,))
            db.execute("UPDATE record SET key = ? WHERE key = ?", (second, first))
        db.commit()
    return kind


def value_of(db: sqlite3.Connection, column: str, key: str) -> str:
    return str(db.execute(f"SELECT {column} FROM record WHERE key = ?", (key,)).fetchone()[0])


def all_records(store: Store) -> dict[str, Record]:
    kinds = ("run", "result", "space", "timing", "plan_timing", "accuracy", "layer_error", "fit_error")
    return {record.key: record for kind in kinds for record in store.records(kind)}


def reported(folder: Path, info: ReportInfo) -> str:
    """What `report` does: the result as it was, or a refusal."""
    try:
        return HARMLESS if Run(folder).info == info else SILENT
    except StoreError as error:
        return REFUSED if "\n" not in str(error) and str(folder) in str(error) else SILENT


def explored_again(folder: Path, records: dict[str, Record], info: ReportInfo) -> str:
    """What `explore` does with its records: nothing but them is found, and what is missing is put anew."""
    with Store(folder) as store:
        found = all_records(store)
        if not found.items() <= records.items():
            return SILENT
        for key in records.keys() - found.keys():
            store.put(key, records[key].kind, records[key].value, context=records[key].context)
        noted = bool(store.notes)
    if Run(folder).info != info:
        return SILENT
    return AGAIN if len(found) < len(records) else HEALED if noted else HARMLESS


def test_damaged_records(finished: Path, tmp_path: Path, count: int, tally: Tally) -> None:
    whole, info = (finished / "run" / FILE_NAME).read_bytes(), open_run(finished / "run").info
    with Store(finished / "run", read_only=True) as store:
        records = all_records(store)
    assert len(records) > 30
    for number, source in enumerate(seeded(count, seed=1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(finished / "run" / MARKER, folder)
        shutil.copy(finished / "run" / "model.onnx", folder)
        path = folder / FILE_NAME
        path.write_bytes(whole)
        if source.random() < 0.4:
            kind = damage_rows(path, source)
        else:
            kind, left = damage(whole, {}, source)
            path.unlink()
            if left is not None:
                path.write_bytes(left)

        def judge(folder: Path = folder) -> str:
            said = reported(folder, info)
            became = explored_again(folder, records, info)
            if SILENT in (said, became):
                return SILENT
            return became if said == HARMLESS or became != HARMLESS else SILENT

        tally.add(kind, judge)
        shutil.rmtree(folder)
    ends = tally.by_outcome()
    assert ends[REFUSED] == 0, "a run folder is known by its marker: all of it can be made again"
    assert ends[HEALED] + ends[AGAIN] > count / 2


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 20))])
def test_exploring_again_comes_to_the_same_result(finished: Path, tmp_path: Path, number: int) -> None:
    """The command itself, on damaged records, weights and model at once."""
    mine, source = copy_of(finished, tmp_path), random.Random(f"again:{number}")
    run = mine / "run"
    _, left = damage((run / FILE_NAME).read_bytes(), {}, source)
    (run / FILE_NAME).write_bytes(left or b"")
    for path in [run / "model.onnx", *source.sample(sorted((run / "weights").iterdir()), 2)]:
        _, left = damage(path.read_bytes(), {}, source)
        path.write_bytes(left or b"")
    done = command(*explore_arguments(mine))
    assert done.code == 0, done.err
    assert all(line.startswith("warning: ") for line in done.err.splitlines())
    assert result(run) == result(finished / "run")
    done = command("export", run, "--pick", "p1", "-o", mine / "bundle")
    assert (done.code, done.err) == (0, "")

"""The store keeps what it acknowledged: through kill -9, a full disk, a second process and foreign files."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.errors import StoreError
from lrf_dse.store import FILE_NAME, MARKER, Record, Store

JSON = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

WRITER = """
import sys
from pathlib import Path
from lrf_dse.store import Store
with Store(Path(sys.argv[1])) as store:
    n = store.record_count
    while True:
        store.put(f"k{n}", "timing", {"n": n, "pad": "x" * 3000}, context={"loop": True})
        print(n, flush=True)
        n += 1
"""


def start_child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run_child(code: str, *arguments: object) -> tuple[str, str, int]:
    child = start_child(code, *arguments)
    out, err = child.communicate(timeout=60)
    return out, err, child.returncode


@given(value=JSON, context=JSON)
def test_a_value_comes_back_as_it_was_put(value: object, context: object) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        store.put("k", "timing", value, context=context)
        assert store.get("k") == value
        assert list(store.records("timing")) == [Record("k", "timing", value, context)]


def test_a_record_takes_the_place_of_its_keys(tmp_path: Path) -> None:
    """No older value is left in the file: it could come back where the newer one is damaged."""
    with Store(tmp_path / "new" / "run") as store:
        for key, value in (("a", 1), ("b", 2), ("a", 3)):
            store.put(key, "error", value)
        store.put("c", "timing", 9)
        assert store.get("a") == 3
        assert store.get("absent") is None
        assert [(r.key, r.value) for r in store.records("error")] == [("b", 2), ("a", 3)]
        assert store.record_count == 3
    rows = sqlite3.connect(tmp_path / "new" / "run" / FILE_NAME)
    assert rows.execute("SELECT seq, key, value FROM record ORDER BY seq").fetchall() == [
        (2, "b", "2"), (3, "a", "3"), (4, "c", "9"),
    ]  # fmt: skip
    rows.close()


def test_records_may_be_put_while_others_are_read(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("a", "timing", 1)
        for record in store.records("timing"):
            store.put(record.key + "x", "timing", 2)
        assert store.record_count == 2


@pytest.mark.parametrize("value", [None, float("nan"), {"deep": [float("inf")]}])
def test_what_is_not_json_is_a_bug(tmp_path: Path, value: object) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(ValueError, match=r"None|JSON"):
            store.put("k", "timing", value)
        assert store.record_count == 0


def test_frame_flattens_values_and_context(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert list(store.frame("timing").columns) == ["key"]
        store.put("a", "timing", {"cycles": 10.5, "counts": {"scalar": 3}}, context={"target": "k1"})
        store.put("b", "timing", {"cycles": 11.5, "counts": {"scalar": 4}}, context={"target": "k1"})
        store.put("c", "note", "text")
        frame = store.frame("timing")
        assert store.frame("note")["value"].tolist() == ["text"]
    assert frame.set_index("key").to_dict("list") == {
        "cycles": [10.5, 11.5],
        "counts.scalar": [3, 4],
        "context.target": ["k1", "k1"],
    }


def test_threads_share_a_store(tmp_path: Path) -> None:
    with Store(tmp_path) as store:

        def write(name: str) -> None:
            for i in range(20):
                store.put(f"{name}{i}", "timing", i)

        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.record_count == 60


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.11])
def test_kill_9_loses_at_most_the_record_in_flight(tmp_path: Path, delay_s: float) -> None:
    """Two kills in a row: the second child first rolls the first one's journal back, then goes on."""
    acknowledged = -1
    for _ in range(2):
        child = start_child(WRITER, tmp_path)
        assert child.stdout is not None
        assert child.stderr is not None
        first = child.stdout.readline()
        assert first, child.stderr.read()
        time.sleep(delay_s)
        os.kill(child.pid, signal.SIGKILL)
        lines = [first, *child.stdout.read().splitlines()]
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        child.stderr.close()
        assert int(lines[0]) in (acknowledged + 1, acknowledged + 2)
        acknowledged = int(lines[-1])
    with Store(tmp_path) as store:
        found = [record.value["n"] for record in store.records("timing")]
        assert found == list(range(len(found)))
        assert acknowledged + 1 <= len(found) <= acknowledged + 2
        store.put("after", "timing", 1)
        assert store.get("after") == 1


def test_a_second_process_gets_one_line(tmp_path: Path) -> None:
    opening = "import sys; from pathlib import Path; from lrf_dse.store import Store; {}"
    with Store(tmp_path) as store:
        store.put("a", "timing", 1)
        for call in ("Store(Path(sys.argv[1]))", "Store(Path(sys.argv[1]), read_only=True)"):
            _, err, code = run_child(opening.format(call), tmp_path)
            assert code == 1
            assert "StoreError" in err.splitlines()[-1]
            assert "in use by another lrf-dse process" in err.splitlines()[-1]
        with pytest.raises(StoreError, match="in use"):
            Store(tmp_path)
        store.put("b", "timing", 2)
    with Store(tmp_path) as store:
        assert store.record_count == 2


def test_a_full_disk_is_one_line_and_keeps_the_rest(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from lrf_dse.errors import StoreError
from lrf_dse.store import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
n = 0
try:
    while n < 1000:
        store.put(f"k{n}", "timing", {"n": n, "pad": "x" * 2000})
        n += 1
except StoreError as error:
    print(n, store.get(f"k{n - 1}")["n"], store.record_count)
    print(error)
"""
    out, err, code_found = run_child(code, tmp_path)
    assert (err, code_found) == ("", 0)
    numbers, message = out.splitlines()
    written, last, count = map(int, numbers.split())
    assert 10 < written < 60
    assert (last, count) == (written - 1, written)
    assert "disk full" in message
    assert str(tmp_path) in message
    with Store(tmp_path) as store:
        assert [r.value["n"] for r in store.records("timing")] == list(range(written))
        store.put("more", "timing", {"n": -1})


def test_a_full_device_is_one_line(tmp_path: Path) -> None:
    """ENOSPC as SQLite reports it: the page limit makes it answer SQLITE_FULL."""
    with Store(tmp_path) as store:
        store._db.execute("PRAGMA max_page_count = 8")
        written = 0
        with pytest.raises(StoreError, match="disk full"):  # noqa: PT012 - which put fails depends on SQLite's pages
            while written < 100:
                store.put(f"k{written}", "timing", "x" * 1000)
                written += 1
        assert store.record_count == written


def test_a_folder_that_cannot_be_written() -> None:
    """In a child that gives up root, since permissions do not bind root."""
    code = """
import os, sys
from pathlib import Path
from lrf_dse.errors import StoreError
from lrf_dse.store import Store
folder = Path(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
for path in (folder / "empty", folder / "deeper", folder / "run"):
    try:
        Store(path)
        print("opened")
    except StoreError as error:
        print(error)
print(Store(folder / "run", read_only=True).get("a"))
"""
    folder = Path(tempfile.mkdtemp())
    try:
        with Store(folder / "run") as store:
            store.put("a", "timing", 41)
        (folder / "run" / FILE_NAME).chmod(0o444)
        (folder / "empty").mkdir()
        for path in (folder / "run", folder / "empty", folder):
            path.chmod(0o555)
        out, err, code_found = run_child(code, folder)
    finally:
        folder.chmod(0o755)
        for path in (folder / "run", folder / "empty"):
            path.chmod(0o755)
        shutil.rmtree(folder)
    assert (err, code_found) == ("", 0)
    empty, deeper, run, value = out.splitlines()
    assert "cannot write: Permission denied" in empty
    assert "cannot create the run folder" in deeper
    assert "cannot open the records" in run
    assert value == "41"


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to have a header" * 40, b"SQLite format 3\0" + b"\7" * 4000]
)
def test_a_foreign_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StoreError, match="not an lrf-dse records file"):
            Store(tmp_path, read_only=read_only)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_a_foreign_database_is_refused_and_kept(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE_NAME)
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="not an lrf-dse records file"):
        Store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def filled(folder: Path, *, count: int = 50) -> dict[str, object]:
    """What was put into the store in `folder`: two records to a page."""
    with Store(folder) as store:
        for n in range(count):
            store.put(f"k{n}", "timing", {"n": n, "pad": "x" * 1500})
    return {f"k{n}": {"n": n, "pad": "x" * 1500} for n in range(count)}


def kept(store: Store) -> dict[str, object]:
    return {record.key: record.value for record in store.records("timing")}


def test_a_truncated_file_is_repaired(tmp_path: Path) -> None:
    put = filled(tmp_path)
    data = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="damaged.*explore` again"), Store(tmp_path, read_only=True) as store:
        kept(store)
    with Store(tmp_path) as store:
        found = kept(store)
        assert found.items() <= put.items() and len(found) > 10
        (note,) = store.notes
        assert f"{len(found)} records are whole" in note and "records.sqlite.damaged-1" in note
        store.put("k49", "timing", put["k49"])
    assert (tmp_path / f"{FILE_NAME}.damaged-1").read_bytes() == data[: len(data) // 2]
    with Store(tmp_path) as store:
        assert store.notes == [] and kept(store) == found | {"k49": put["k49"]}


@pytest.mark.parametrize(("start", "stop"), [(0, 16), (16, 24), (28, 32), (0, 100), (100, 112), (0, 4096)])
def test_a_damaged_first_page_loses_nothing(tmp_path: Path, start: int, stop: int) -> None:
    """The header, the number of pages, the tables' definitions: the same in every file of ours."""
    put = filled(tmp_path)
    data = bytearray((tmp_path / FILE_NAME).read_bytes())
    data[start:stop] = bytes(stop - start)
    (tmp_path / FILE_NAME).write_bytes(data)
    with Store(tmp_path) as store:
        assert kept(store) == put
        assert len(store.notes) <= 1  # SQLite itself takes a number of pages that is 0 from the file


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET value = '{}' WHERE key = 'k3'",
        "UPDATE record SET key = 'k99' WHERE key = 'k3'",
        "UPDATE record SET kind = 'Timing' WHERE key = 'k3'",
        "UPDATE record SET context = '1' WHERE key = 'k3'",
        "UPDATE record SET value = x'00ff' WHERE key = 'k3'",
        "UPDATE record SET value = (SELECT value FROM record WHERE key = 'k4') WHERE key = 'k3'",
    ],
)
def test_a_damaged_row_is_no_record(tmp_path: Path, statement: str) -> None:
    put = filled(tmp_path, count=6)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(statement)
    database.close()
    with Store(tmp_path, read_only=True) as store, pytest.raises(StoreError, match="'k3|'k99.*is damaged"):
        kept(store)
    with Store(tmp_path) as store:
        assert store.notes == [f"{tmp_path / FILE_NAME}: 1 damaged records are dropped and made again"]
        assert store.get("k3") is None
        assert kept(store) == {key: value for key, value in put.items() if key != "k3"}
    with Store(tmp_path, read_only=True) as store:
        assert len(kept(store)) == 5


def test_a_row_that_was_deleted_does_not_bring_back_an_older_one(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("result", "result", "old")
        store.put("result", "result", "new")
    assert b'"old"' not in (tmp_path / FILE_NAME).read_bytes()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("DELETE FROM record WHERE value = '\"new\"'")
    database.close()
    with Store(tmp_path) as store:
        assert store.get("result") is None


def test_a_journal_of_a_damaged_file_is_not_rolled_back_into_the_repaired_one(tmp_path: Path) -> None:
    put = filled(tmp_path)
    data = bytearray((tmp_path / FILE_NAME).read_bytes())
    data[:16] = bytes(16)
    (tmp_path / FILE_NAME).write_bytes(data)
    (tmp_path / f"{FILE_NAME}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 5000)
    with Store(tmp_path) as store:
        assert kept(store) == put
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, f"{FILE_NAME}.damaged-1", MARKER}


def test_files_of_the_user_are_not_written_beside(tmp_path: Path) -> None:
    """`-o .` in a project's folder: its model.onnx is not a run's."""
    (tmp_path / "model.onnx").write_bytes(b"mine")
    with pytest.raises(StoreError, match="holds model.onnx and is no run folder"):
        Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_run_folder_is_known_by_its_marker_or_by_its_records(tmp_path: Path) -> None:
    put = filled(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"the run's")
    (tmp_path / MARKER).write_bytes(b"damaged")
    with Store(tmp_path) as store:
        assert kept(store) == put
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(StoreError, match="is gone"):
        Store(tmp_path, read_only=True)
    with Store(tmp_path) as store:
        assert kept(store) == {}


def test_a_folder_of_a_run_that_was_killed_at_once_is_a_runs(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.77.part").write_bytes(b"A run")
    (tmp_path / FILE_NAME).touch()
    with Store(tmp_path) as store:
        assert kept(store) == {}


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store._db.execute("DROP TABLE record")
        store._db.execute("CREATE TABLE record (seq INTEGER PRIMARY KEY, key TEXT, more TEXT)")
        store._db.execute("PRAGMA user_version = 99")
    for read_only in (False, True):
        with pytest.raises(StoreError, match="version 99"):
            Store(tmp_path, read_only=read_only)


def test_a_damaged_version_is_not_another_version(tmp_path: Path) -> None:
    """Tables that are letter for letter ours are ours, whatever the header says."""
    put = filled(tmp_path, count=2)
    for pragma in ("user_version", "application_id"):
        with sqlite3.connect(tmp_path / FILE_NAME) as database:
            database.execute(f"PRAGMA {pragma} = 99")
        database.close()
        for read_only in (True, False):
            with Store(tmp_path, read_only=read_only) as store:
                assert kept(store) == put


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        Store(tmp_path / "absent", read_only=True)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot create the run folder"):
        Store(tmp_path / "file")
    (tmp_path / "folder" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(StoreError, match="not an lrf-dse records file"):
        Store(tmp_path / "folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / FILE_NAME).touch()  # what a kill right after creation leaves
    with Store(tmp_path / "empty") as store:
        store.put("a", "timing", 1)


def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b?mode=ro#%41é"
    with Store(folder) as store:
        store.put("a", "timing", 1)
    assert (folder / FILE_NAME).is_file()

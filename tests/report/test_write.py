"""A report is written whole or not at all; a folder or disk that refuses is one line."""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from lrf_dse.errors import StoreError
from lrf_dse.report.facts import PredictionFacts, SearchFacts
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_report
from lrf_dse.sealed import write_atomic

NAMES = {
    "report.html", "plans.csv", "candidates.csv", "summary.json",
    "latency-accuracy.svg", "latency-accuracy.png", "bytes-accuracy.svg", "bytes-accuracy.png",
}  # fmt: skip


def run_child(code: str, *arguments: object) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def test_all_files_are_there_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == NAMES
    assert all(path.stat().st_size > 500 for path in folder.iterdir())


def test_the_same_run_gives_the_same_files(info: ReportInfo, folder: Path, tmp_path: Path) -> None:
    written = write_report(info, tmp_path / "new" / "again")
    assert {path.name for path in written} == NAMES
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_judged_models_are_a_plot_and_their_numbers_fold_away(info: ReportInfo, tmp_path: Path) -> None:
    rows = tuple(PredictionFacts({"fc1": f"low rank {8 * n}"}, 1.0 / n, 0.8 / n, 0.9 / n) for n in range(1, 40))
    paths = write_report(replace(info, search=SearchFacts(rows, rounds=3)), tmp_path)
    assert {path.name for path in paths} == NAMES | {"predicted-measured.svg", "predicted-measured.png"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<details><summary>The 39 models in numbers</summary>" in page
    assert base64.b64encode((tmp_path / "predicted-measured.svg").read_bytes()).decode() in page


def test_writing_replaces_and_respects_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    other = tmp_path / "plain"
    other.write_bytes(b"")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == other.stat().st_mode


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from lrf_dse.errors import StoreError
from lrf_dse.sealed import write_atomic
path = Path(sys.argv[1]) / "a.txt"
write_atomic(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_atomic(path, b"x" * 100_000)
except StoreError as error:
    print(error)
"""
    (line,) = run_child(code, tmp_path)
    assert f"{tmp_path / 'a.txt'}: cannot write: File too large" in line
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_a_folder_that_cannot_be_written() -> None:
    """In a child that gives up root, since permissions do not bind root."""
    code = """
import os, sys
from pathlib import Path
from lrf_dse.errors import StoreError
from lrf_dse.sealed import write_atomic
if os.getuid() == 0:
    os.setuid(65534)
for path in (Path(sys.argv[1]) / "a.txt", Path(sys.argv[1]) / "new" / "a.txt"):
    try:
        write_atomic(path, b"x")
    except StoreError as error:
        print(error)
"""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o555)
        lines = run_child(code, folder)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert len(lines) == 2
    assert all("cannot write: Permission denied" in line for line in lines)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "file" / "a.txt", b"x")
    (tmp_path / "folder" / "a.txt").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "folder" / "a.txt", b"x")
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder" / "a.txt"]

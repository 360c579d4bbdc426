"""kill -9 at any moment of explore, export and report: nothing is lost, nothing differs, nobody is left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from explored import command, explore_arguments, figures, open_run, result, tiny_data, tiny_model

from lrf_dse.deploy.board import read_bundle
from lrf_dse.errors import UsageError
from lrf_dse.report.write import write_report

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("model.onnx", "model.vmfb", "model-riscv64", "golden/input0.bin", "golden/output0.bin", "README")
_SOON_S = 20.0

# Ends itself with SIGKILL at one of its renames: before it, or just after it.
KILLED_AT_A_RENAME = """
import os, signal, sys
from pathlib import Path
at, after = int(sys.argv.pop(1)), sys.argv.pop(1) == "after"
replace, done = Path.replace, 0
def killed(source, target):
    global done
    done += 1
    if done == at and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if done == at and after:
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = killed
"""
MAIN = "from lrf_dse.cli import main\nmain()\n"
MOVE = """
from lrf_dse.deploy.bundle import move_into_place
move_into_place(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def kills(code: str, *arguments: object, count: int, longest_s: float, moments: random.Random) -> Iterator[None]:
    """Start the program and kill it at a random moment, `count` times; one that ended before is no kill."""
    while count > 0:
        if killed_after(start(code, *arguments), moments.uniform(0.3, longest_s)):
            count -= 1
            yield
        else:
            longest_s = max(0.5, longest_s / 2)


def killed_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill the process, not its children, unless it has ended by itself; whether it was killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def assert_nobody_is_left(folder: Path) -> None:
    """No process runs in `folder`, or names it, some seconds after the kill."""
    deadline = time.monotonic() + _SOON_S
    while left := [line for line in _processes() if str(folder) in line]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                cwd = (entry / "cwd").readlink()
                found.append(f"{cwd} {(entry / 'cmdline').read_bytes().decode(errors='replace')}")
            except OSError:  # it has ended meanwhile
                continue
    return found


@pytest.mark.soak  # tests/pipeline/test_interrupted.py has a few
@pytest.mark.parametrize("number", range(8))
def test_explore(number: int, finished: Path, tmp_path: Path) -> None:
    """Five kills of each exploration."""
    moments, run = random.Random(f"explore:{number}"), tmp_path / "run"
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    kept: list[tuple[int, str, str, str]] = []
    for _ in kills(MAIN, *explore_arguments(tmp_path), count=5, longest_s=8.0, moments=moments):
        assert_nobody_is_left(tmp_path)
        if (run / "records.sqlite").exists():
            found = figures(run)
            assert found[: len(kept)] == kept, "lost"
            kept = found
    done = command(*explore_arguments(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert figures(run)[: len(kept)] == kept
    assert result(run) == result(finished / "run"), "different"


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 11))])
def test_export(number: int, mine: Path, exported: Path) -> None:
    """Two kills of each export over an older bundle: what is there is the old one, the new one, or none."""
    moments, out = random.Random(f"export:{number}"), mine / "bundle"
    shutil.copytree(exported / "dense", out)
    arguments = ("export", mine / "run", "--pick", "p1", "-o", out)
    for _ in kills(MAIN, *arguments, count=2, longest_s=12.0, moments=moments):
        assert_nobody_is_left(mine)
        assert_whole_or_none(out, exported)
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert_is(out, exported / "p1")
    assert not list(out.glob(".*")), "no scratch is left"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 8, *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 3, 4, 5, 6, 7))])
def test_the_renames_of_an_export(at: int, when: str, tmp_path: Path, exported: Path) -> None:
    """Where one bundle takes the place of another, the manifest goes first and comes last."""
    out, staged = shutil.copytree(exported / "dense", tmp_path / "out"), tmp_path / "out" / ".building-x" / "staged"
    shutil.copytree(exported / "p1", staged)
    assert killed_after(start(KILLED_AT_A_RENAME + MOVE, at, when, staged, out), 60)
    assert_whole_or_none(out, exported)
    if (at, when) != (8, "after"):  # the last of them is the manifest's
        with pytest.raises(UsageError, match="not an exported bundle"):
            read_bundle(out)


def assert_whole_or_none(out: Path, exported: Path) -> None:
    if (out / "manifest.json").exists():
        assert_is(out, exported / read_bundle(out).facts.plan)


def assert_is(out: Path, bundle: Path) -> None:
    for name in SHIPPED:
        assert (out / name).read_bytes() == (bundle / name).read_bytes(), name


@pytest.mark.parametrize("at", [1, *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 11))])
@pytest.mark.parametrize("when", ["before", "after"])
def test_report(at: int, when: str, mine: Path) -> None:
    """Every file is the old one or the new one."""
    run = mine / "run"
    new = {path.name: path.read_bytes() for path in write_report(open_run(run).info, mine / "new")}
    for name in new:
        (run / name).write_bytes(b"old")
    assert killed_after(start(KILLED_AT_A_RENAME + MAIN, at, when, "report", run), 60)
    found = {name: (run / name).read_bytes() for name in new}
    assert sum(content != b"old" for content in found.values()) == at - (when == "before")
    assert all(content in (b"old", new[name]) for name, content in found.items())
    done = command("report", run)
    assert (done.code, done.err) == (0, "")
    assert {name: (run / name).read_bytes() for name in new} == new


@pytest.mark.soak
def test_report_at_random_moments(mine: Path) -> None:
    run = mine / "run"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in {".html", ".csv", ".json"}}
    for _ in kills(MAIN, "report", run, count=8, longest_s=3.0, moments=random.Random("report")):
        assert_nobody_is_left(mine)
        assert {name: (run / name).read_bytes() for name in before} == before
    assert command("report", run).code == 0

"""Explorations that end in the middle: what was measured is kept, and the next run goes on to the same result."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from explored import (
    command,
    copy_of,
    explore_arguments,
    figures,
    result,
    rows,
    tiny_data,
    tiny_model,
    written_again,
)

from lrf_dse.builders.program import BUILDERS
from lrf_dse.store import Store

ROOT = Path(__file__).resolve().parents[2]
JOBS = 2
MAIN = """
import resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits it ignored
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
from lrf_dse.cli import main
main()
"""


def start(arguments: list[object], *, file_size: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    """`lrf-dse ARGUMENTS` in a session of its own, where no file may grow beyond `file_size` bytes."""
    command_line = [sys.executable, "-c", MAIN, str(file_size), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command_line, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def changed_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_records(run: Path, process: subprocess.Popen[str], *, since: int) -> None:
    """Until `process` has opened the records: they are written at once."""
    give_up = time.monotonic() + 60
    while changed_at(run / "records.sqlite") == since and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def few_arguments(folder: Path) -> list[object]:
    """The tiny exploration with fewer programs: what ends in the middle is explored again and again."""
    return [*explore_arguments(folder), "--top", 1, "--bits", "fp32"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that exploration, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("few")
    tiny_model(folder)
    tiny_data(folder)
    done = command(*few_arguments(folder))
    assert (done.code, done.err) == (0, "")
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with the model and the data, where nothing was explored yet."""
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    return tmp_path


def assert_goes_on(folder: Path, kept: list[Any], few: Path) -> None:
    """The next run keeps what was measured, and comes to what a run without a disturbance finds."""
    done = command(*few_arguments(folder))
    assert (done.code, done.err) == (0, "")
    assert figures(folder / "run")[: len(kept)] == kept
    assert result(folder / "run") == result(few / "run")


def test_kill_9_at_random_moments(begun: Path, few: Path) -> None:
    moments, run = random.Random(20), begun / "run"
    kept: list[Any] = []
    for _ in range(3):
        since = changed_at(run / "records.sqlite")
        process = start(few_arguments(begun))
        wait_for_records(run, process, since=since)
        time.sleep(moments.uniform(0.0, 0.8))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was killed, not finished"
        found = figures(run)
        assert found[: len(kept)] == kept
        kept = found
        known = {key for _, _, key, _ in kept}
        work = run / "work"
        lost = {path.name for path in work.iterdir()} - known if work.exists() else set()
        assert len(lost) <= JOBS, "no more than what was in flight"
    assert_goes_on(begun, kept, few)


def test_ctrl_c_finishes_what_is_in_flight(begun: Path, few: Path) -> None:
    """The terminal sends SIGINT to the compilers too; that says nothing of the candidates that they compile."""
    run = begun / "run"
    process = start(few_arguments(begun))
    wait_for_records(run, process, since=0)
    while not list(run.glob("work/*")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "error: interrupted; what was measured is kept, the same command goes on\n"
    # The dense model comes first, then layers.
    timings = [json.loads(value) for _, kind, _, value in figures(run) if kind in {"timing", "plan_timing"}]
    assert len(timings) >= 1
    assert all("instructions" in value for value in timings), "no failure was recorded"
    assert_goes_on(begun, figures(run), few)


def test_qemu_vanishes_half_way(begun: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, qemu = begun / "run", begun / "bin" / "qemu-riscv64"
    qemu.parent.mkdir()
    qemu.symlink_to(str(shutil.which("qemu-riscv64")))
    build, builds = BUILDERS["iree"], []

    def build_and_lose_qemu(*arguments: Any) -> Any:
        builds.append(1)
        if len(builds) == 4:
            qemu.unlink()
        return build(*arguments)

    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(qemu.parent))
        patch.setitem(BUILDERS, "iree", build_and_lose_qemu)
        done = command(*few_arguments(begun))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: qemu-riscv64 not found") and done.err.count("\n") == 1
    assert "qemu-user" in done.err
    kept = figures(run)
    measured = [json.loads(value) for _, kind, _, value in kept if kind == "timing"]
    assert len(measured) >= 1 and all("instructions" in value for value in measured)
    assert_goes_on(begun, kept, few)


def test_no_room_for_programs(begun: Path, few: Path) -> None:
    """The first build that meets the full disk ends the command: that is never a candidate's failure."""
    process = start(few_arguments(begun), file_size=45_000)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: ") and "the disk is full" in err and err.count("\n") == 1
    assert_goes_on(begun, figures(begun / "run"), few)


def test_no_room_for_the_report(finished: Path, tmp_path: Path) -> None:
    mine = copy_of(finished, tmp_path)
    before = figures(mine / "run")
    (mine / "run" / "report.html").unlink()
    process = start(explore_arguments(mine), file_size=1_000_000)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"error: {mine / 'run' / 'report.html'}: cannot write: ") and err.count("\n") == 1
    assert figures(mine / "run") == before
    assert command("report", mine / "run").code == 0
    assert result(mine / "run") == result(finished / "run")


def test_no_room_for_a_record(finished: Path, tmp_path: Path) -> None:
    mine = copy_of(finished, tmp_path)
    before = rows(mine / "run")
    process = start(explore_arguments(mine), file_size=4096)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"error: {mine / 'run' / 'records.sqlite'}: ") and err.count("\n") == 1
    assert "disk full" in err and "are safe" in err
    assert rows(mine / "run") == before


def test_no_room_for_the_copy_of_the_model(begun: Path) -> None:
    """The system does not say which file it was: the message names the run folder."""
    process = start(few_arguments(begun), file_size=4096)  # room for what tools say of their versions
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"error: {begun / 'run'}") and err.count("\n") == 1


def test_a_failure_is_tried_again_unless_the_result_was_wrong(mine: Path) -> None:
    """A record of a compiler that failed must not keep the dense layer, and so the run, from ever succeeding."""
    run = mine / "run"
    timings = [key for _, kind, key, _ in figures(run) if kind == "timing"]
    stages = {"build": timings[0], "verify": timings[-1]}
    with Store(run) as store:
        for stage, key in stages.items():
            store.put(key, "timing", {"stage": stage, "reason": "for the test", "kept_files": []})
    before = figures(run)
    command(*explore_arguments(mine))
    assert written_again(before, figures(run)) == [stages["build"]]

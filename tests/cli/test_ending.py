"""Commands that somebody ends, and tools that hang: one line, the exit code, nothing left running, records kept."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest
from explored import Done, command, explore_arguments, tiny_data, tiny_model

from lrf_dse.cli.show import progress_lines

ROOT = Path(__file__).resolve().parents[2]
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits it ignored,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # one under nohup this
from lrf_dse.cli import main
main()
"""
FAKE = """#!/bin/sh
case "$*" in --version|*states.bin) exec {real} "$@";; esac
echo $$ >>{log}
{body}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    return tmp_path


def fake_qemu(folder: Path, body: str) -> Path:
    """A PATH whose emulator writes its process id into `folder`/started, then does `body`; weights it does pack."""
    program = folder / "bin" / "qemu-riscv64"
    program.parent.mkdir()
    program.write_text(
        FAKE.format(log=folder / "started", real=shutil.which("qemu-riscv64"), body=body), encoding="utf-8"
    )
    program.chmod(0o755)
    return program.parent


@contextmanager
def begin(folder: Path, path: Path, *more: object) -> Iterator[subprocess.Popen[str]]:
    """An exploration that has begun; it ends with the block, whatever a test found."""
    words = [sys.executable, "-c", MAIN, *explore_arguments(folder), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{path}:{os.environ['PATH']}"}
    pipe = subprocess.PIPE
    line = [*map(str, words)]
    with subprocess.Popen(
        line, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def emulators(folder: Path) -> list[int]:
    """The process ids of the emulators that were started, as far as they live."""
    log = folder / "started"
    ids = [int(line) for line in log.read_text(encoding="utf-8").split()] if log.exists() else []
    return [number for number in ids if Path(f"/proc/{number}").exists()]


def until_one_runs(folder: Path, process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 120
    while not emulators(folder):
        assert time.monotonic() < give_up and process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_command_and_its_programs(number: signal.Signals, code: int, folder: Path) -> None:
    path = fake_qemu(folder, "exec sleep 1234")
    with begin(folder, path) as process:
        until_one_runs(folder, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    if number != signal.SIGKILL:
        assert err == f"error: ended by {number.name}; what was measured is kept, the same command goes on\n"
    give_up = time.monotonic() + 8
    while emulators(folder):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert (folder / "run" / "records.sqlite").is_file()


def test_ctrl_c_twice_does_not_wait_for_what_hangs(folder: Path) -> None:
    path = fake_qemu(folder, "exec sleep 1234")
    with begin(folder, path) as process:
        until_one_runs(folder, process)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted; what was measured is kept, the same command goes on"
    assert not emulators(folder)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exec sleep 1234", "the program under qemu-riscv64 hangs: it did nothing for 2 s"),
        ("kill -KILL $$", "the program under qemu-riscv64 was killed, perhaps for memory"),
    ],
)
def test_an_emulator_that_hangs_or_is_killed_is_named(body: str, words: str, folder: Path) -> None:
    path = fake_qemu(folder, body)
    with begin(folder, path, "--timeout", 2) as process:
        out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (2, "")
    assert words in err and err.count("\n") == 1
    assert not emulators(folder)


def said(*arguments: object) -> Done:
    return command(*arguments)


def test_a_limit_that_is_none_is_refused(folder: Path) -> None:
    for limit in ("0", "-1", "nan", "inf"):
        done = said(*explore_arguments(folder), "--timeout", limit)
        assert done.code == 2 and "--timeout must be a number of seconds above 0" in done.err


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`lrf-dse targets --json | head -1` says nothing of a broken pipe: click ends it."""
    words = [sys.executable, "-c", "from lrf_dse.cli import main; main()", "targets", "--json", "spacemit-k1"]
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_progress_without_a_terminal_is_a_line_for_a_stage_and_one_in_a_while() -> None:
    err = io.StringIO()
    with redirect_stderr(err), progress_lines(every_s=0.2) as progress:
        progress("measure layers", 0, 3)
        progress("measure layers", 1, 3)
        time.sleep(0.5)
        progress("judge layers", 0, 2)
    lines = err.getvalue().splitlines()
    assert all(re.fullmatch(r"\d+\.\d min: (measure|judge) layers: \d of \d", line) for line in lines)
    assert [line.partition(": ")[2] for line in (lines[0], lines[1], lines[-1])] == [
        "measure layers: 0 of 3",
        "measure layers: 1 of 3",
        "judge layers: 0 of 2",
    ]
    assert 3 <= len(lines) <= 5

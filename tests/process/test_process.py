"""External programs end: at their limit, with their group, with the process that started them; and are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lrf_dse.builders.compiling import run_compiler
from lrf_dse.errors import BuildError, ToolError, ToolHangs, ToolTimeout
from lrf_dse.process import Limit, processor_seconds, run

ROOT = Path(__file__).resolve().parents[2]
HANGS = "sleep 1234 & exec sleep 1234"
"""It does nothing, and neither does what it started."""


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


def living(folder: Path) -> list[int]:
    """The processes that work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder.resolve():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_what_a_program_says_and_its_exit_code() -> None:
    done = run(sh("cat; echo no >&2; exit 3"), name="x", limit=Limit(), stdin="given")
    assert (done.code, done.stdout, done.stderr) == (3, "given", "no\n")
    assert run(sh("kill -SEGV $$"), name="x", limit=Limit()).code == -signal.SIGSEGV
    assert run(sh(r"printf '\377'"), name="x", limit=Limit()).stdout == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "limit", "kind", "words"),
    [
        (HANGS, Limit(idle_s=0.4), ToolHangs, "tool hangs: it did nothing for 0.4 s"),
        ("while :; do :; done", Limit(cpu_s=0.2), ToolTimeout, "tool did not finish in 0.2 s of processor time"),
        ("(while :; do :; done) & sleep 99", Limit(cpu_s=0.2), ToolTimeout, "in 0.2 s of processor time"),
        (HANGS, Limit(wall_s=0.2), ToolTimeout, "tool did not finish in 0.2 s"),
        ("kill -KILL $$", Limit(), ToolError, "tool was killed, perhaps for memory: free some or use fewer --jobs"),
        ("exec no-such-program-at-all", Limit(), None, ""),
    ],
)
def test_a_program_beyond_its_limit_is_named_and_leaves_nothing(
    text: str, limit: Limit, kind: type[ToolError] | None, words: str, tmp_path: Path
) -> None:
    begin = time.monotonic()
    if kind is None:
        assert run(sh(text), name="tool", limit=limit, cwd=tmp_path).code == 127
    else:
        with pytest.raises(kind, match=words):
            run(sh(text), name="tool", limit=limit, cwd=tmp_path)
    assert time.monotonic() - begin < 20
    assert within(5, lambda: not living(tmp_path))


def test_a_program_that_works_slowly_does_not_hang(tmp_path: Path) -> None:
    """A busy machine gives few turns, but some: no limit on the clock."""
    text = "for i in 1 2 3 4 5 6; do sleep 0.2; j=0; while [ $j -lt 20000 ]; do j=$((j + 1)); done; done; echo done"
    assert run(sh(text), name="tool", limit=Limit(idle_s=1.0), cwd=tmp_path).stdout == "done\n"


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="tool cannot be started .*: No such file or directory"):
        run([str(tmp_path / "none")], name="tool", limit=Limit())
    with pytest.raises(ToolError, match="tool cannot be started"):
        run(["/bin/true"], name="tool", limit=Limit(), cwd=tmp_path / "none")


def test_what_outlives_its_parent_is_ended_with_it(tmp_path: Path) -> None:
    assert run(sh("sleep 1234 >/dev/null & echo on"), name="tool", limit=Limit(), cwd=tmp_path).stdout == "on\n"
    assert within(5, lambda: not living(tmp_path))


def test_processor_time_is_that_of_the_whole_session() -> None:
    assert processor_seconds(os.getsid(0)) > 0
    assert processor_seconds(-1) == 0


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("echo note >&2; echo 'x.c:1: error: no' >&2; exit 1", BuildError, "^cc failed: x.c:1: error: no$"),
        ("exit 4", BuildError, "^cc failed: exit code 4$"),
        ("while :; do :; done", BuildError, "^cc did not finish in 0.2 s of processor time$"),
        ("echo 'error: No space left on device' >&2; exit 1", ToolError, "the disk is full"),
        ("kill -KILL $$", ToolError, "cc was killed, perhaps for memory"),
    ],
)
def test_the_input_s_fault_and_the_machine_s(text: str, kind: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words):
        run_compiler(sh(text), name="cc", cwd=tmp_path, cpu_s=0.2)
    assert run_compiler(sh("echo said >&2"), name="cc", cwd=tmp_path, cpu_s=9) == "said\n"


STARTER = f"""
import sys
from pathlib import Path
from lrf_dse.process import Limit, run
print("ready", flush=True)
run(["sh", "-c", {HANGS!r}], name="tool", limit=Limit(), cwd=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("wait_s", [0.0, 0.005, 0.3])
def test_programs_die_with_the_process_that_started_them(number: signal.Signals, wait_s: float, tmp_path: Path) -> None:
    """Also in the moment in which they are being started."""
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(number)
        process.wait()
    time.sleep(0.3 if wait_s < 0.3 else 0.0)
    assert within(8, lambda: not living(tmp_path))


def test_many_threads_start_programs_at_once(tmp_path: Path) -> None:
    codes: list[int] = []

    def work() -> None:
        codes.extend(run(sh("exit 0"), name="x", limit=Limit(), cwd=tmp_path).code for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 80

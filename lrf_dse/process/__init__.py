"""Start external programs so that none outlives its limit, or this process.

The module owns how a child is started, waited for and ended. Each child has a process group of its own, which is killed
as a whole, because zig and clang start others. A watchdog ends them all if this process is killed. Callers know what a
program is for.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import IO

from lrf_dse.errors import ToolError, ToolHangs, ToolTimeout
from lrf_dse.process.spending import program_ended

IDLE_S = 300.0
"""A program that got no processor time for so long hangs. A busy machine is slow, but it gives everybody a turn; zig
waits for another zig that fills the cache, a minute at most."""

_LOOK_S = 2.0
"""How often a running program is looked at; 100 processes cost 2 ms."""


@dataclass(frozen=True)
class Limit:
    """The limits of a program: processor time of all that it starts, time without any, and time on the clock."""

    cpu_s: float = inf
    idle_s: float = IDLE_S
    wall_s: float = inf


@dataclass(frozen=True)
class Finished:
    """A program's exit code (below 0: the signal that ended it) and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Ended(BaseException):
    """A program was ended because this process is to end: nothing was found out about its input."""


def run(
    command: Sequence[str],
    *,
    name: str,
    limit: Limit,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
) -> Finished:
    """Run `command` to its end. Raises ToolTimeout beyond the `limit`, ToolError if it cannot be started or was killed.

    `name` is what messages call it. What it wrote is kept in files: a pipe may be held open by a grandchild.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        with started(command, name=name, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err) as child:
            code = wait(child, name=name, limit=limit)
        return Finished(code, _text(out), _text(err))


@contextmanager
def started(
    command: Sequence[str],
    *,
    name: str,
    stdout: IO[bytes],
    stderr: IO[bytes],
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of `command`; it and its group are gone after the block. Raises ToolError if it cannot be started."""
    try:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            # Every child inherits the reading end of the watchdog's pipe: that is how the watchdog knows whom to end.
            pass_fds=(_watched(),),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ToolError(f"{name} cannot be started ({command[0]}): {reason}") from error
    with _CHILDREN.lock:
        _CHILDREN.running.add(child)
    try:
        yield child
    finally:
        _kill(child)
        with _CHILDREN.lock:
            _CHILDREN.running.discard(child)
        if child.stdin is not None:
            child.stdin.close()


def wait(child: subprocess.Popen[bytes], *, name: str, limit: Limit) -> int:
    """The exit code of `child`. Raises ToolTimeout beyond the `limit`, ToolError if it was killed."""
    # A limit that is shorter than _LOOK_S is looked at four times before it ends.
    began = busy_at = time.monotonic()
    spent_s, look_s = 0.0, min(_LOOK_S, limit.idle_s / 4, limit.cpu_s / 4, limit.wall_s / 4)
    while not _has_ended(child, within_s=look_s):
        now, used_s = time.monotonic(), processor_seconds(child.pid)
        busy_at, spent_s = (now, used_s) if used_s > spent_s else (busy_at, spent_s)
        if now - began >= limit.wall_s:
            raise ToolTimeout(f"{name} did not finish in {limit.wall_s:g} s")
        if spent_s >= limit.cpu_s:
            raise ToolTimeout(f"{name} did not finish in {limit.cpu_s:g} s of processor time")
        if now - busy_at >= limit.idle_s:
            raise ToolHangs(f"{name} hangs: it did nothing for {limit.idle_s:g} s")
    code = _reaped(child, name)
    # Checked before the code is read: a program that end_children killed has not failed.
    if _CHILDREN.ending:
        raise Ended
    # Nothing here kills a program that is being waited for, so this was the kernel (out of memory) or a user.
    if code == -signal.SIGKILL:
        raise ToolError(
            f"{name} was killed, perhaps for memory: free some or use fewer --jobs, and run the same command again"
        )
    return code


def _reaped(child: subprocess.Popen[bytes], name: str) -> int:
    """The exit code of `child`, which has ended; what it took is counted."""
    if child.returncode is None:
        try:
            _, status, used = os.wait4(child.pid, 0)
        except ChildProcessError:  # whoever runs this process ignores its children: nobody knows what they took
            return child.wait()
        child.returncode = os.waitstatus_to_exitcode(status)
        program_ended(name, used)
    return child.returncode


def _has_ended(child: subprocess.Popen[bytes], *, within_s: float) -> bool:
    """Wait for the end of `child`, without looking again and again as Popen.wait does with a time-out."""
    # A pidfd becomes readable when its process ends (pidfd_open(2), Linux 5.3).
    end = os.pidfd_open(child.pid)
    try:
        ready = select.poll()
        ready.register(end, select.POLLIN)
        return bool(ready.poll(1000 * within_s))
    finally:
        os.close(end)


def end_children() -> None:
    """Kill every program that runs, with all that it started; whoever waits for one gets `Ended`."""
    with _CHILDREN.lock:
        _CHILDREN.ending = True
        running = tuple(_CHILDREN.running)
    for child in running:
        _kill_group(child.pid)


def processor_seconds(session: int) -> float:
    """Processor time of all processes of a session, and of those that they waited for."""
    ticks = 0
    # The name in the second field may hold spaces and brackets; what follows its last bracket is numbers.
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:  # proc(5): behind the name come state, ppid, pgrp, session, ...
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


class _Children:
    """The programs that run now, whether they are being ended, and the pipe that they inherit."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[subprocess.Popen[bytes]] = set()
        self.ending = False
        self.pipe: int | None = None


_CHILDREN = _Children()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the group: what the program started may outlive it."""
    _kill_group(child.pid)
    child.wait()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _watched() -> int:
    """The reading end of the pipe that tells a watchdog of the end of this process; the first call starts it."""
    with _CHILDREN.lock:
        if _CHILDREN.pipe is None:
            reading, _writing = os.pipe()  # no program inherits the writing end: it closes when this process ends
            to_null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
            # -I and -S: no variable of the user and no package of the environment can keep it from starting.
            words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watchdog.py"))]
            actions = [(os.POSIX_SPAWN_DUP2, reading, 0), *to_null]
            # Not a child in _CHILDREN, and in a session of its own: it must live when all others are killed.
            os.posix_spawn(sys.executable, words, {}, file_actions=actions, setsid=True)
            _CHILDREN.pipe = reading
        return _CHILDREN.pipe


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")

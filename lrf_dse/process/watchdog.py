"""Ends the external programs of a process that died before them: a program of its own, started by `lrf_dse.process`.

Run as a file, with Python's standard library alone: `python -I -S watchdog.py`. Standard input is the reading end of a
pipe whose writing end only the process has that is watched; every program that it starts inherits the reading end too,
and so do theirs. At the end of the pipe that process is gone: whoever still has the pipe open is an orphan.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_ROUNDS = 50
_PAUSE_S = 0.1
"""A program that was being started when the process died appears within these rounds."""


def orphans(pipe: str) -> set[int]:
    """The process groups that hold `pipe` ("pipe:[NUMBER]") open, this one's excepted."""
    groups = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) == pipe for link in (folder / "fd").iterdir()):
                groups.add(os.getpgid(int(folder.name)))
        except OSError:  # it has ended, or is another user's
            continue
    return groups - {os.getpgrp()}


def main() -> None:
    """Wait for the end of the pipe, then kill."""
    # Ctrl-C and the end of a terminal reach every process; this one goes when its pipe ends.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # It must not keep a file system busy that somebody wants to unmount.
    os.chdir("/")
    while os.read(0, 1):
        pass
    pipe, quiet = str(Path("/proc/self/fd/0").readlink()), 0
    for _ in range(_ROUNDS):
        found = orphans(pipe)
        for group in found:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                continue
        quiet = 0 if found else quiet + 1
        # Three rounds without an orphan: none is still being started.
        if quiet == 3:
            return
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()

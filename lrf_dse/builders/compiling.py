"""Run a compiler, and tell a fault of its input from a fault of the machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lrf_dse.errors import BuildError, ToolError, ToolHangs, ToolTimeout
from lrf_dse.process import Limit, run

_MOST_LETTERS = 400
_NO_ROOM = ("No space left on device", "NoSpaceLeft", "File too large", "Disk quota exceeded")


def run_compiler(
    command: Sequence[str],
    *,
    name: str,
    cwd: Path,
    cpu_s: float,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a compiler; the text that it wrote on standard error.

    It runs in the folder of the files: IREE keeps the names it is given, and a module must not depend on a folder.
    Raises BuildError with its first error line, and beyond `cpu_s` seconds of processor time: its input's fault. Raises
    ToolError where it hangs, was killed or the disk is full: that says nothing of the input, so it may not become a
    candidate's Failure.
    """
    # LLVM writes nowhere where TMPDIR names no folder; Python looks for another one.
    environment = {**(os.environ if env is None else env), "TMPDIR": tempfile.gettempdir()}
    try:
        done = run(command, name=name, limit=Limit(cpu_s=cpu_s), cwd=cwd, env=environment)
    # ToolHangs is a ToolTimeout, but says that the compiler waits for something: no fault of its input.
    except ToolHangs:
        raise
    except ToolTimeout as error:
        raise BuildError(str(error)) from error
    if done.code == 0:
        return done.stderr
    if any(words in done.stderr for words in _NO_ROOM):
        raise ToolError(f"{name} could not write: the disk is full; free space and run the same command again")
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.code}"]
    # Notes and warnings may stand before the first error; what follows it shows code.
    first = next((line for line in lines if "error" in line.lower()), lines[0])
    raise BuildError(f"{name} failed: {first.strip()[:_MOST_LETTERS]}")

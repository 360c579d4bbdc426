"""The C compiler: clang as packaged in the `ziglang` wheel, for riscv64 targets and for the host.

Owns the command line of zig and its caches; knows nothing of models.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lrf_dse.builders.cache import cache_dir
from lrf_dse.builders.zig_libraries import remember, require_sound
from lrf_dse.errors import BuildError, ToolError

_TIMEOUT_S = 600.0


def zig_version() -> str:
    """Version of the ziglang wheel. Raises ToolError if it is not installed."""
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError("the C compiler is missing: pip install ziglang (see `lrf-dse doctor`)") from error


def zig_cc(args: Sequence[str], *, cwd: Path) -> None:
    """Run `zig cc` with `args` in the folder `cwd`. Raises BuildError with the first error line.

    Zig caches objects by content but does not see files named by `.incbin`: a caller that embeds a
    file must put the content's hash into its name (measured: a changed blob gave a stale object).
    """
    zig_version()
    libraries = cache_dir() / "zig"
    require_sound(libraries)
    done = _run(args, cwd, libraries)
    if done.returncode != 0 and require_sound(libraries, again=True):
        done = _run(args, cwd, libraries)
    if done.returncode != 0:
        require_room("zig cc", done.returncode, done.stderr)
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"zig cc failed in {cwd}: {first}")
    remember(libraries)


def _run(args: Sequence[str], cwd: Path, libraries: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(libraries),
        # Objects of one build are of no use to the next; the global cache keeps musl and compiler-rt.
        "ZIG_LOCAL_CACHE_DIR": str(cwd / ".zig-cache"),
    }
    command = [sys.executable, "-m", "ziglang", "cc", *args]
    try:
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"zig cc did not finish in {_TIMEOUT_S:.0f} s in {cwd}") from error


def require_room(name: str, return_code: int, stderr: str) -> None:
    """Raise ToolError if the machine made a compiler fail: it was killed, or the disk is full.

    Neither says anything of its input, so neither may become a candidate's Failure.
    """
    if return_code == -signal.SIGKILL:
        raise ToolError(f"{name} was killed: too little memory? Use fewer --jobs, and run the same command again")
    if any(words in stderr for words in ("No space left on device", "NoSpaceLeft", "File too large")):
        raise ToolError(f"{name} could not write: the disk is full; free space and run the same command again")

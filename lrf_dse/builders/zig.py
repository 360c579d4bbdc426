"""The C compiler: clang as packaged in the `ziglang` wheel, for riscv64 targets and for the host.

The module owns the command line of zig and its caches. It knows nothing of models.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lrf_dse.builders.cache import cache_dir
from lrf_dse.builders.compiling import run_compiler
from lrf_dse.builders.zig_libraries import building, remember, require_sound
from lrf_dse.errors import BuildError, ToolError

_MOST_CPU_S = 600.0

_STARTED = 'trap "" XFSZ; exec "$@"'
"""Ignores the signal for a file that may grow no larger (ulimit -f): zig's own clang then names the error. By
the signal it would die in silence."""


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
    try:
        _run(args, cwd, libraries)
    except BuildError:
        # A link may have failed because a library was damaged after the first look: then it is built again, once.
        if not require_sound(libraries, again=True):
            raise
        _run(args, cwd, libraries)
    remember(libraries)


def _run(args: Sequence[str], cwd: Path, libraries: Path) -> None:
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(libraries),
        # Objects of one build are of no use to the next; the global cache keeps musl and compiler-rt.
        "ZIG_LOCAL_CACHE_DIR": str(cwd / ".zig-cache"),
    }
    command = ["/bin/sh", "-c", _STARTED, "sh", *_zig(), "cc", *args]
    with building(libraries):
        run_compiler(command, name="zig cc", cwd=cwd, cpu_s=_MOST_CPU_S, env=environment)


def _zig() -> list[str]:
    """The words that start zig: the wheel's program itself. Starting Python first would take a sixth of a trial."""
    spec = importlib.util.find_spec("ziglang")
    for folder in spec.submodule_search_locations or [] if spec else []:
        program = Path(folder) / "zig"
        if program.is_file():
            return [str(program)]
    return [sys.executable, "-m", "ziglang"]

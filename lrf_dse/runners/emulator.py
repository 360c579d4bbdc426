"""The process qemu-riscv64: its path and version, and one run of it.

The module knows nothing of what a program computes.
"""

from __future__ import annotations

import functools
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from lrf_dse.errors import ToolError, ToolTimeout
from lrf_dse.process import IDLE_S, Limit, run, started, wait
from lrf_dse.runners.answers import Rejected
from lrf_dse.target import Target

QEMU = "qemu-riscv64"
SAID = ("stdout.txt", "stderr.txt")
"""What the program printed, in the work folder."""

_VERSION_TIMEOUT_S = 30.0
# Reserved and not used: QEMU takes memory of the host only for the pages that the guest touches.
_ADDRESS_SPACE = "16G"


def qemu_version() -> str:
    """The version of qemu-riscv64, such as "7.2.22"; read once. Raises ToolError."""
    return _version_of(_qemu())


def _qemu() -> str:
    path = shutil.which(QEMU)
    if path is None:
        raise ToolError(f"{QEMU} not found: install the Debian package qemu-user (apt-get install qemu-user)")
    return path


@functools.cache
def _version_of(path: str) -> str:
    done = run([path, "--version"], name=path, limit=Limit(wall_s=_VERSION_TIMEOUT_S))
    found = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    if found is None:
        raise ToolError(f"{path} --version did not name a version: {(done.stdout or done.stderr).strip()[:200]!r}")
    return found.group(1)


def run_qemu(command: Sequence[str], target: Target, work: Path, *, writes: Path, timeout_s: float) -> None:
    """Run `command` (options, a program, its arguments) in `work` until it exits with 0, else raise Rejected.

    The plugin of the command creates the file `writes` when it loads: raises ToolError if QEMU never came so far.
    A program's addresses are the same in every run, and so are its modelled cycles. `timeout_s` is processor time: on a
    busy machine the same program takes longer by the clock.
    """
    limit = Limit(cpu_s=timeout_s, idle_s=min(IDLE_S, timeout_s))
    # The seed fixes the random bytes that a program gets at its start (AT_RANDOM). Without -R, QEMU gives away
    # addresses of the host, which are random, as soon as a hint of mmap is taken.
    code = _wait([_qemu(), "-cpu", target.qemu.cpu, "-seed", "1", "-R", _ADDRESS_SPACE, *command], work, limit)
    said = (work / SAID[1]).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    # QEMU's own complaints begin with its name; a program's do not.
    its_own = bool(said) and said[0].startswith(f"{QEMU}: ")
    if code < 0 and its_own and writes.exists():
        # QEMU met a mistake of its own in this program, and may run all others. 7.2 does where a block of instructions
        # that it translates (one ends at a page, a branch, a vsetvli) has vfcvt.rtz as its first of floating point: it
        # notes the instruction's bits twice, and asserts that nobody does.
        raise Rejected("run", f"{QEMU} {qemu_version()} itself failed: {said[0].removeprefix(f'{QEMU}: ')}")
    if not writes.exists() or (code != 0 and its_own):
        detail = said[-1] if said else f"exit code {code}"
        raise ToolError(f"{QEMU} -cpu {target.qemu.cpu} (target {target.name}) did not start: {detail}")
    if code < 0:
        raise Rejected("run", f"killed by {signal.Signals(-code).name}")
    if code != 0:
        raise Rejected("run", f"exit code {code}: {said[-1] if said else 'nothing on stderr'}")


def _wait(command: Sequence[str], work: Path, limit: Limit) -> int:
    with (
        (work / SAID[0]).open("wb") as stdout,
        (work / SAID[1]).open("wb") as stderr,
        # The environment lies on the guest's stack, so it must be the same everywhere. An empty one also keeps out the
        # user's QEMU_* variables, which QEMU takes for options.
        started(command, name=QEMU, cwd=work, env={}, stdout=stdout, stderr=stderr) as child,
    ):
        try:
            return wait(child, name=f"the program under {QEMU}", limit=limit)
        except ToolTimeout as error:
            raise Rejected("run", str(error)) from error

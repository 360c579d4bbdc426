"""The role of a runner. The emulator measures, or a board where the user names one."""

from __future__ import annotations

from typing import Protocol

from lrf_dse.runners.board import Board
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement


class Runner(Protocol):
    """Runs one program, verifies its outputs, then measures: a wrong result is a Failure, never a timing."""

    def run(self, job: Job) -> Measurement | Failure:
        """What was observed. Raises ToolError where the runner itself cannot work."""
        ...


def runner_for(board: Board | None, policy: RepeatPolicy | None = None) -> Runner:
    """The runner of `board`, which repeats there as `policy` says; without a board qemu-riscv64."""
    return QemuRunner() if board is None else SshRunner(board, policy=policy or RepeatPolicy())

"""The role of a runner, and the registry of those there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lrf_dse.errors import UsageError
from lrf_dse.runners.board import Board
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.replay import ReplayRunner
from lrf_dse.runners.rvsim import RvsimRunner
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.store import Store


class Runner(Protocol):
    """Runs one program, verifies its outputs, then measures: a wrong result is a Failure, never a timing."""

    def run(self, job: Job) -> Measurement | Failure:
        """What was observed. Raises ToolError where the runner itself cannot work."""
        ...


@dataclass(frozen=True, eq=False)
class Means:
    """What a runner may work with: a board and how often to repeat there, or records to answer from."""

    board: Board | None = None
    policy: RepeatPolicy = field(default_factory=RepeatPolicy)
    store: Store | None = None


def _ssh(means: Means) -> Runner:
    if means.board is None:
        raise UsageError("runner 'ssh' needs a board: give --board user@host")
    return SshRunner(means.board, policy=means.policy)


def _replay(means: Means) -> Runner:
    if means.store is None:
        raise UsageError("runner 'replay' needs records to answer from: name a run folder")
    return ReplayRunner(means.store)


RUNNERS: Mapping[str, Callable[[Means], Runner]] = {
    "qemu": lambda _: QemuRunner(),
    "replay": _replay,
    "rvsim": lambda _: RvsimRunner(),
    "ssh": _ssh,
}


def get_runner(name: str, means: Means | None = None) -> Runner:
    """The runner registered under `name`. Raises UsageError that lists the valid names, or says what it needs."""
    if name not in RUNNERS:
        raise UsageError(f"unknown runner {name!r}: use one of {', '.join(sorted(RUNNERS))}")
    return RUNNERS[name](means or Means())

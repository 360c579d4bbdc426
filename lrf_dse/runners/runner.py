"""The role of a runner, and the registry of those there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from lrf_dse.errors import UsageError
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, Measurement


class Runner(Protocol):
    """Runs one program, verifies its outputs, then measures: a wrong result is a Failure, never a timing."""

    def run(self, job: Job) -> Measurement | Failure:
        """What was observed. Raises ToolError where the runner itself cannot work."""
        ...


RUNNERS: Mapping[str, Callable[[], Runner]] = {"qemu": QemuRunner}


def get_runner(name: str) -> Runner:
    """The runner registered under `name`. Raises UsageError that lists the valid names."""
    if name not in RUNNERS:
        raise UsageError(f"unknown runner {name!r}: use one of {', '.join(sorted(RUNNERS))}")
    return RUNNERS[name]()

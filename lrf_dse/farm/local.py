"""Threads of this machine: compilers and simulators are processes of their own, so threads are enough."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor


class Local(ThreadPoolExecutor):
    """At most `jobs` tasks at a time. Tasks share the client's memory, so that nothing is sent anywhere."""

    ships = False
    """Whether tasks leave this process."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, thread_name_prefix="lrf-dse", initializer=_keep_interrupts_out)

    @property
    def notes(self) -> list[str]:
        """What the user should know of the workers."""
        return []


def _keep_interrupts_out() -> None:
    """Block Ctrl-C in this thread and in the processes that it starts.

    It reaches every process of the terminal: what is being built is finished and recorded, not recorded as a
    compiler that failed.
    """
    # A blocked signal stays blocked in a new process, over exec too (POSIX), so that compilers and simulators inherit
    # this.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

"""A Dask scheduler and workers as processes on loopback, for tests; each can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0


@dataclass
class LoopbackCluster:
    """The processes of a cluster; what they say is in `folder`."""

    folder: Path
    port: int
    scheduler: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        self.scheduler = self._dask("scheduler", "scheduler", "--port", str(self.port))
        end = time.monotonic() + _START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < end and self.scheduler.poll() is None
            time.sleep(0.05)

    def start_worker(self, name: str, *options: str, **environment: str) -> None:
        """A worker of one thread, without a nanny: what is killed stays dead."""
        arguments = ["--name", name, "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder), *options]
        self.workers[name] = self._dask(name, "worker", self.address, *arguments, **environment)

    def _dask(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"],
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"} | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_worker(self, name: str) -> None:
        kill(self.workers.pop(name))

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        kill(self.scheduler)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a process and of what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def loopback_cluster(folder: Path, workers: int = 0) -> Iterator[LoopbackCluster]:
    """A scheduler with that many workers, w0 and on; nothing is left at the end."""
    folder.mkdir(exist_ok=True)
    cluster = LoopbackCluster(folder, free_port())
    try:
        cluster.start_scheduler()
        for number in range(workers):
            cluster.start_worker(f"w{number}")
        yield cluster
    finally:
        for process in (*cluster.workers.values(), cluster.scheduler):
            if process is not None:
                kill(process)

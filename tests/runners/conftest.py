"""The probe program, compiled once, and a way to run one of its cases; the fixtures of boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runners.boards import board_job, bundle_of, own_sshd, session_sshd, sshd, tiny_model

from lrf_dse.builders.zig import zig_cc
from lrf_dse.resources import data_dir
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import load_target

__all__ = ["board_job", "bundle_of", "own_sshd", "session_sshd", "sshd", "tiny_model"]

PROGRAMS = Path(__file__).resolve().parent / "programs"
X = np.array([1.0, -2.0, 3.5, 100.0], np.float32)

JobOf = Callable[..., Job]
RunCase = Callable[..., Measurement | Failure]


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the compiled probe; VLEN 128 is enough for it."""
    folder = tmp_path_factory.mktemp("probe")
    target = load_target("qemu-rv64gcv")
    machine = ["-target", "riscv64-linux-musl", f"-mcpu={target.cc.mcpu}", "-O1", "-static", "-Wall", "-Werror"]
    zig_cc([*machine, "-I", str(data_dir("toolchain") / "host"), str(PROGRAMS / "probe.c"), "-o", "probe"], cwd=folder)
    return folder / "probe"


@pytest.fixture
def job_of(probe: Path, tmp_path: Path) -> JobOf:
    """The job of a case by name; the reference is 2 x + 1, computed here."""

    def job(case: str, *, target: str = "spacemit-k1", cpu_suffix: str = "", **changes: object) -> Job:
        chip = load_target(target)
        chip = chip.model_copy(update={"qemu": chip.qemu.model_copy(update={"cpu": chip.qemu.cpu + cpu_suffix})})
        name = np.frombuffer(case.encode(), np.uint8)
        fields = {"inputs": (name, X), "expected": (2 * X + 1,), "work": tmp_path / "work", "timeout_s": 60.0}
        return Job(program=probe, target=chip, **(fields | changes))  # type: ignore[arg-type]

    return job


@pytest.fixture
def run_case(job_of: JobOf) -> RunCase:
    """Run a case by name."""

    def run(case: str, **changes: object) -> Measurement | Failure:
        return QemuRunner().run(job_of(case, **changes))

    return run

"""The tiny exploration on a real Dask cluster: the records and the result are bit for bit those of a local run."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from explored import command, figures, result, tiny_data, tiny_model
from farm.clusters import LoopbackCluster, loopback_cluster
from runners.boards import own_sshd
from runners.loopback import Sshd

from lrf_dse.resources import data_dir
from lrf_dse.target import load_target

__all__ = ["own_sshd"]


def few_arguments(folder: Path, run: str, *options: object) -> list[object]:
    """An exploration of few programs."""
    files = [folder / "tiny.onnx", "--data", folder / "tiny.npz", "--target", "spacemit-k1"]
    few = ["--top", 1, "--tune", 1, "--bits", "fp32", "--kernels", "rvv", "--evaluations", 12]
    return ["explore", *files, *few, "-o", folder / run, "--quiet", *options]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that exploration on this machine."""
    folder = tmp_path_factory.mktemp("local")
    tiny_model(folder)
    tiny_data(folder)
    done = command(*few_arguments(folder, "run"))
    assert (done.code, done.err) == (0, "")
    return folder


def assert_same(run: Path, local: Path) -> None:
    """The same records, each once, and the same front; `account` and the like say what a run took."""
    assert recorded(run) == recorded(local / "run")
    assert result(run) == result(local / "run")


def recorded(run: Path) -> list[tuple[str, str, str]]:
    kinds = {"timing", "plan_timing", "accuracy", "layer_error", "fit_error", "space", "bounds"}
    return sorted((kind, key, value) for _, kind, key, value in figures(run) if kind in kinds)


def other_qemu(folder: Path) -> str:
    """A PATH on which qemu-riscv64 says that it has another version."""
    there = folder / "bin"
    there.mkdir()
    fake = there / "qemu-riscv64"
    fake.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "qemu-riscv64 version 9.9.9" || exec {_qemu()} "$@"\n')
    fake.chmod(0o755)
    return f"{there}:{os.environ['PATH']}"


def _qemu() -> str:
    found = shutil.which("qemu-riscv64")
    assert found is not None
    return found


def soon(act: Callable[[], None], there: Callable[[], bool]) -> threading.Thread:
    """A thread that acts when it is `there`."""

    def wait() -> None:
        end = time.monotonic() + 300
        while not there() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def begun(cluster: LoopbackCluster, name: str) -> bool:
    """Whether a worker has a task's folder open."""
    return any((cluster.folder / f"{name}-tmp").glob("lrf-dse-*"))


def start(cluster: LoopbackCluster, name: str) -> None:
    scratch = cluster.folder / f"{name}-tmp"
    scratch.mkdir(exist_ok=True)
    cluster.start_worker(name, TMPDIR=str(scratch))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with loopback_cluster(tmp_path / "cluster") as cluster:
        yield cluster


def test_a_worker_that_dies_and_one_with_another_qemu(cluster: LoopbackCluster, local: Path) -> None:
    """The first worker is killed while it builds a program; the second one does everything else."""
    start(cluster, "w0")
    cluster.start_worker("other", PATH=other_qemu(cluster.folder))

    def replace() -> None:
        cluster.kill_worker("w0")
        start(cluster, "w1")

    killing = soon(replace, lambda: begun(cluster, "w0"))
    done = command(*few_arguments(local, "killed", "--scheduler", cluster.address))
    killing.join()
    assert done.code == 0, done.err
    assert "worker other (tcp://" in done.err and "qemu-riscv64 9.9.9 there, " in done.err
    assert_same(local / "killed", local)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_so_many_workers(cluster: LoopbackCluster, local: Path, workers: int) -> None:
    for number in range(workers):
        start(cluster, f"w{number}")
    done = command(*few_arguments(local, f"run{workers}", "--scheduler", cluster.address))
    assert (done.code, done.err) == (0, "")
    assert_same(local / f"run{workers}", local)


@pytest.mark.soak
def test_the_scheduler_is_restarted(cluster: LoopbackCluster, local: Path) -> None:
    start(cluster, "w0")

    def restart() -> None:
        cluster.kill_scheduler()
        cluster.kill_worker("w0")
        cluster.start_scheduler()
        start(cluster, "w1")

    restarting = soon(restart, lambda: begun(cluster, "w0"))
    done = command(*few_arguments(local, "restarted", "--scheduler", cluster.address))
    restarting.join()
    assert (done.code, done.err) == (0, "")
    assert_same(local / "restarted", local)


def test_no_scheduler_is_one_line(local: Path) -> None:
    done = command(*few_arguments(local, "nobody", "--scheduler", "tcp://127.0.0.1:9"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: tcp://127.0.0.1:9: no scheduler answers") and done.err.count("\n") == 1
    assert not (local / "nobody").exists() or not (local / "nobody" / "records.sqlite").exists()


@pytest.mark.soak
def test_a_slow_board_and_its_owner(cluster: LoopbackCluster, own_sshd: Sshd, tmp_path: Path) -> None:
    """Programs go to the one worker that owns the board, one at a time; the other one could not reach it."""
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\nsleep 0.3\nexec "$@"\n')
    slow.chmod(0o755)
    chip = (data_dir("targets") / "spacemit-k1.toml").read_text(encoding="utf-8")
    prefix = f'["{slow}", "qemu-riscv64", "-cpu", "{load_target("spacemit-k1").qemu.cpu}"]'
    (tmp_path / "k1.toml").write_text(f"{chip}\n[board]\nrunner_prefix = {prefix}\n")
    no_ssh = tmp_path / "bin" / "ssh"
    no_ssh.parent.mkdir()
    no_ssh.write_text("#!/bin/sh\nexit 255\n")
    no_ssh.chmod(0o755)
    cluster.start_worker("other", PATH=f"{no_ssh.parent}:{os.environ['PATH']}")
    cluster.start_worker("owner", "--resources", "board:board=1")
    files = [tmp_path / "tiny.onnx", "--data", tmp_path / "tiny.npz", "--target", tmp_path / "k1.toml"]
    board = ["--board", "board", "--ssh-config", own_sshd.config(), "--ssh-option", "LogLevel=ERROR"]
    few = ["--top", 1, "--tune", 1, "--bits", "fp32", "--kernels", "rvv", "--evaluations", 12]
    there = ["--scheduler", cluster.address, "-o", tmp_path / "run", "--quiet"]
    done = command("explore", *files, *board, *few, *there)
    assert (done.code, done.err) == (0, "")
    timings = [json.loads(value) for _, kind, _, value in figures(tmp_path / "run") if "timing" in kind]
    assert len(timings) >= 4 and all(timing["seconds"] > 0 for timing in timings)

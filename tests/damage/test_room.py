"""No room, no permission, few descriptors: one line, exit code 2, and the command goes on when that is mended."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from explored import command, explore_arguments, figures, result

from lrf_dse.builders.cache import cache_dir
from lrf_dse.deploy.board import read_bundle

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from lrf_dse.cli import main\nmain()\n"
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2
_MOUNTED = 'mount -t tmpfs -o "size=$1" none "$2" && { [ -z "$3" ] || ln -s "$3" "$2/zig"; } && shift 3 && exec "$@"'


def limited(kind: int, amount: int) -> Callable[[], None]:
    return partial(resource.setrlimit, kind, (amount, amount))


def bound_by_permissions() -> None:
    """Root without the right to pass over them, from the next program on: what any other user is."""
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def run(
    *arguments: object, before: Callable[[], None] | None = None, wrapper: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    line = [*wrapper, sys.executable, "-c", MAIN, *map(str, arguments)]
    around = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(line, env=around, capture_output=True, text=True, timeout=300, check=False, preexec_fn=before)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def small_disk(size: str, folder: Path, *, zig: str = "") -> tuple[str, ...]:
    """Words before a command that put a disk of `size` at `folder` for it alone."""
    folder.mkdir(exist_ok=True)
    return ("unshare", "-m", "sh", "-c", _MOUNTED, "sh", size, str(folder), zig)


def may_mount() -> bool:
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(trial, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that holds libc alone."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "zig").symlink_to(cache_dir() / "zig")
    return folder


@pytest.mark.parametrize(
    "size", [4_000, 40_000, *(pytest.param(n, marks=pytest.mark.soak) for n in (500, 9_000, 70_000))]
)
def test_no_room_for_a_bundle(mine: Path, exported: Path, size: int) -> None:
    """The file size limit stands for a full disk where a test may not mount one."""
    out = shutil.copytree(exported / "dense", mine / "bundle")
    arguments = ("export", mine / "run", "--pick", "p1", "-o", out)
    refused(run(*arguments, before=limited(resource.RLIMIT_FSIZE, size)))
    assert read_bundle(out).facts.plan == "dense", "the old bundle is whole"
    assert command(*arguments).code == 0
    assert read_bundle(out).facts.plan == "p1"


def test_no_room_in_the_cache(mine: Path, cache: Path) -> None:
    arguments = ("export", mine / "run", "--pick", "p1", "-o", mine / "bundle")
    refused(run(*arguments, before=limited(resource.RLIMIT_FSIZE, 3_000), LRF_DSE_CACHE=str(cache)))
    assert not list(cache.glob("host/*/*.o")), "no object is half there"
    done = run(*arguments, LRF_DSE_CACHE=str(cache))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("size", ["40k", *(pytest.param(n, marks=pytest.mark.soak) for n in ("8k", "200k", "500k"))])
def test_full_disks(mine: Path, size: str) -> None:
    """Where no disk may be mounted, the limit of a file's size stands for one here too."""
    arguments = ("export", mine / "run", "--pick", "p1", "-o")
    if may_mount():
        refused(run(*arguments, mine / "disk", wrapper=small_disk(size, mine / "disk")))
        disk = small_disk("16k", mine / "cache", zig=str((cache_dir() / "zig").resolve()))
        done = run(*arguments, mine / "bundle", wrapper=disk, LRF_DSE_CACHE=str(mine / "cache"))
    else:
        done = run(*arguments, mine / "bundle", before=limited(resource.RLIMIT_FSIZE, int(size[:-1]) * 100))
    refused(done)
    assert not (mine / "bundle" / "manifest.json").exists()


def read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_folders_that_cannot_be_written(mine: Path, finished: Path, cache: Path) -> None:
    folder = mine / "run"
    before = figures(folder)
    read_only(folder)
    try:
        refused(run("report", folder, before=bound_by_permissions), "report.html: cannot write: Permission denied")
        refused(run("export", folder, before=bound_by_permissions), f"{folder / 'bundle'}: cannot write the bundle")
        refused(run(*explore_arguments(mine), before=bound_by_permissions), str(folder))
        read_only(cache)
        elsewhere = ("export", folder, "--pick", "p1", "-o", mine / "elsewhere")
        refused(run(*elsewhere, before=bound_by_permissions, LRF_DSE_CACHE=str(cache)), "LRF_DSE_CACHE")
        done = run(*elsewhere, before=bound_by_permissions)
        assert (done.returncode, done.stderr) == (0, ""), "a run is exported from a disk that is read-only"
    finally:
        for path in (folder, folder / "weights", folder / "work", cache):
            path.chmod(0o755)
    assert figures(folder) == before
    assert result(folder) == result(finished / "run")


def test_a_run_on_a_read_only_disk_whose_model_is_damaged_is_exported_from_the_original(mine: Path) -> None:
    folder = mine / "run"
    (folder / "model.onnx").write_bytes(b"damaged")
    read_only(folder)
    try:
        done = run("export", folder, "--pick", "p1", "-o", mine / "elsewhere", before=bound_by_permissions)
    finally:
        for path in (folder, folder / "weights", folder / "work"):
            path.chmod(0o755)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "taken again from" in done.stderr


def test_a_temporary_folder_that_is_missing(mine: Path) -> None:
    """Another one will do."""
    missing = str(mine / "missing")
    for arguments in (["export", mine / "run", "--pick", "p1", "-o", mine / "bundle"], ["report", mine / "run"]):
        done = run(*arguments, TMPDIR=missing)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "limit", [20, *(pytest.param(n, marks=pytest.mark.soak) for n in (6, 8, 10, 12, 14, 16, 24, 32, 48))]
)
def test_few_descriptors(mine: Path, limit: int) -> None:
    """Enough, or one line."""
    before = limited(resource.RLIMIT_NOFILE, limit)
    for arguments in (["export", mine / "run", "--pick", "p1", "-o", mine / "bundle"], ["report", mine / "run"]):
        done = run(*arguments, before=before)
        if done.returncode != 0:
            refused(done)
    assert command("export", mine / "run", "--pick", "p1", "-o", mine / "bundle").code == 0

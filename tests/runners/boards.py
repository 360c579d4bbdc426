"""Fixtures of tests with a board: a real sshd on loopback, programs and bundles for it. Conftests import them."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runners.loopback import Sshd

from lrf_dse.builders.linking import FIXED_SOURCES
from lrf_dse.builders.zig import zig_cc
from lrf_dse.deploy.whole import MANIFEST, SUMS, sums_of, write_manifest
from lrf_dse.resources import data_dir
from lrf_dse.runners.job import Job
from lrf_dse.sealed import digest_of
from lrf_dse.store.folder import claim
from lrf_dse.target import load_target

PROGRAMS = Path(__file__).resolve().parent / "programs"
X = np.array([1.0, -2.0, 3.5, 100.0], np.float32)

NAME = "a 'bundle' of $(touch canary)"

JobOf = Callable[..., Job]
BundleOf = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The path of the host program around tiny_model.c, compiled for a required VLEN in bits."""
    folder, host = tmp_path_factory.mktemp("tiny"), data_dir("toolchain") / "host"
    machine = ["-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-std=gnu11", "-O1", "-static", "-s"]
    sources = [*(str(host / name) for name in FIXED_SOURCES), str(PROGRAMS / "tiny_model.c")]

    @functools.cache
    def build(vlen_bits: int) -> Path:
        name = f"tiny-{vlen_bits}"
        options = ["-fno-sanitize=all", f"-DREQUIRED_VLEN_BITS={vlen_bits}", "-I", str(host)]
        zig_cc([*machine, *options, *sources, "-o", name], cwd=folder)
        return folder / name

    return build


@pytest.fixture(scope="session")
def session_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd") / "s")
    server.options = server.master()  # three times faster than a connection each
    yield server
    server.close()


@pytest.fixture
def sshd(session_sshd: Sshd) -> Sshd:
    """A running sshd with an empty board; a test that stops it or changes its keys makes one of its own."""
    shutil.rmtree(session_sshd.home)
    session_sshd.home.mkdir()
    return session_sshd


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd for one test."""
    server = Sshd(tmp_path / "sshd")
    yield server
    server.close()


@pytest.fixture
def board_job(tiny_model: Callable[[int], Path], tmp_path: Path) -> JobOf:
    """The job of a case of tiny_model.c by name; the reference is 2 x + 1, computed here."""

    def job(case: str = "", *, target: str = "spacemit-k1", vlen_bits: int = 256, **changes: object) -> Job:
        name = np.frombuffer(case.encode().ljust(16, b"\0"), np.uint8)
        fields = {"inputs": (name, X), "expected": (2 * X + 1,), "work": tmp_path / "work", "timeout_s": 60.0}
        return Job(program=tiny_model(vlen_bits), target=load_target(target), **(fields | changes))  # type: ignore[arg-type]

    return job


@pytest.fixture
def bundle_of(tiny_model: Callable[[int], Path], tmp_path: Path) -> BundleOf:
    """A bundle as export leaves it, around the hand-written model; `case` is what goes wrong in it."""

    def bundle(case: str = "", *, name: str = NAME, vlen_bits: int = 256, **run: object) -> Path:
        claim(tmp_path / "run")
        folder = tmp_path / "run" / name
        (folder / "golden").mkdir(parents=True)
        (folder / "model-riscv64").write_bytes(tiny_model(vlen_bits).read_bytes())
        (folder / "model.onnx").write_bytes(b"onnx")
        (folder / "golden" / "input0.bin").write_bytes(case.encode().ljust(16, b"\0"))
        (folder / "golden" / "input1.bin").write_bytes(X.tobytes())
        (folder / "golden" / "output0.bin").write_bytes((2 * X + 1).tobytes())
        (folder / "README").write_text("read me\n")
        manifest = {
            "plan": "p1",
            "target": {"name": "spacemit-k1", "isa": "rv64gcv_zvl256b", "vlen_bits": vlen_bits},
            "inputs": [{"name": "c", "dtype": "int8", "shape": [16]}, {"name": "x", "dtype": "float32", "shape": [4]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [4]}],
            "tolerance": 1e-4,
            "run": run,
        }
        seal_bundle(folder, manifest)
        return folder

    return bundle


def seal_bundle(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write SHA256SUMS of the files in `folder`, and `manifest` with facts of them unless it has some."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in {MANIFEST, SUMS}]
    names = {str(path.relative_to(folder)): path for path in files}
    sums = sums_of(folder, names)
    (folder / SUMS).write_bytes(sums)
    said = {name: facts(path) for name, path in names.items() if name != "README"}
    write_manifest(folder, {"files": said, **manifest, "sums": digest_of(sums)})


def facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

"""A small model explored for real (IREE, zig, QEMU), once per session, and the command line called in this process.

Two FC layers, 64 -> 32 -> 8, of nearly low rank, and data that the dense model separates: seconds to explore, and
compressing it keeps nearly all accuracy. `tiny_run` must not be changed: `copy_of` it.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values

import lrf_dse
from lrf_dse.cli import main
from lrf_dse.models.evaluate import outputs
from lrf_dse.pipeline.run import Run

SIZES = (64, 32, 8)
TOP = 2
SAMPLES = 200


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Done:
    """`lrf-dse ARGUMENTS` in this process. An exception that main lets through would be a traceback for the user."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["lrf-dse", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code: str | int | None = 0
        except SystemExit as stop:
            code = stop.code
    assert isinstance(code, int), f"exit with {code!r}"
    return Done(code, out.getvalue(), err.getvalue())


def tiny_proto(*, seed: int = 0, scale: float = 1.0, batch: int | str = 1) -> onnx.ModelProto:
    """fc0, Relu, fc1. `scale`, a power of two, multiplies weights and activations exactly: the same spectra of both."""
    constants = {}
    for k, (inputs, outs) in enumerate(pairwise(SIZES)):
        low_rank = values(outs, 6, seed=10 * seed + k) @ values(6, inputs, seed=100 + 10 * seed + k)
        weight = low_rank + 0.05 * values(outs, inputs, seed=200 + 10 * seed + k)
        constants |= {
            f"w{k}": (weight * np.float32(scale / 16)),
            f"b{k}": 0.1 * np.float32(scale ** (k + 1)) * values(outs, seed=300 + k),
        }
    nodes = [
        node("Gemm", ["x", "w0", "b0"], ["h"], "fc0", transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w1", "b1"], ["y"], "fc1", transB=1),
    ]
    return model(nodes, inputs={"x": (batch, SIZES[0])}, outputs={"y": (batch, SIZES[-1])}, constants=constants)


def tiny_model(folder: Path, *, name: str = "tiny.onnx", **options: Any) -> Path:
    """Where `tiny_proto` was written."""
    return saved(tiny_proto(**options), folder, name)


def tiny_data(folder: Path, *, name: str = "tiny.npz", seed: int = 0, samples: int = SAMPLES, **arrays: Any) -> Path:
    """Samples, and as labels what the dense model says; every tenth label is wrong. `arrays` replace or add some."""
    x = values(samples, SIZES[0], seed=1000 + seed)
    y = outputs(tiny_proto(), {"x": x})["y"].argmax(axis=1)
    y[::10] = (y[::10] + 1) % SIZES[-1]
    path = folder / name
    np.savez(path, **({"x": x, "y": y} | arrays))
    return path


def explore_arguments(folder: Path, target: str = "spacemit-k1", *, run: str = "run") -> list[object]:
    """The command line of the tiny exploration in `folder`, whose model and data are there."""
    files = [folder / "tiny.onnx", "--data", folder / "tiny.npz"]
    return ["explore", *files, "--target", target, "--top", TOP, "--tune", 2, "-o", folder / run, "--quiet"]


_RUNS: dict[str, Path] = {}


def _explored(target: str, folder: Path) -> Path:
    tiny_model(folder)
    tiny_data(folder)
    done = command(*explore_arguments(folder, target))
    assert done.code == 0, done.err
    (folder / "stdout.txt").write_text(done.out, encoding="utf-8")
    (folder / "stderr.txt").write_text(done.err, encoding="utf-8")
    return folder


def tiny_run(factory: pytest.TempPathFactory, target: str = "spacemit-k1") -> Path:
    """The folder that holds tiny.onnx, tiny.npz, the finished run/ and what the command printed. Do not change it."""
    # Not a fixture's own cache: several conftest.py share the run.
    if target not in _RUNS:
        _RUNS[target] = _shared(target, factory)
    return _RUNS[target]


def _shared(target: str, factory: pytest.TempPathFactory) -> Path:
    """The run that the first of pytest-xdist's workers explored; alone, this process explores."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _explored(target, factory.mktemp(f"explored-{target}"))
    session = factory.getbasetemp().parent  # the workers have it in common, and no other session
    folder, whole = session / f"explored-{target}", session / f"explored-{target}.whole"
    with (session / f"explored-{target}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed on the way
            folder.mkdir()
            _explored(target, folder)
            whole.touch()
    return folder


def copy_of(explored: Path, folder: Path) -> Path:
    """`explored` copied to a folder of one's own below `folder`."""
    return shutil.copytree(explored, folder / "copy")


def rows(run: Path) -> list[tuple[int, str, str, str]]:
    """(seq, kind, key, value) of every row of a run's records."""
    with closing(sqlite3.connect(run / "records.sqlite")) as database:
        return database.execute("SELECT seq, kind, key, value FROM record ORDER BY seq").fetchall()


def figures(run: Path) -> list[tuple[int, str, str, str]]:
    """The rows of what was measured or judged, without those that every exploration writes again."""
    return [row for row in rows(run) if row[1] not in {"run", "result", "spending"}]


def written_again(before: list[tuple[int, str, str, str]], after: list[tuple[int, str, str, str]]) -> list[str]:
    """Keys that were measured again although the records had them: a row that is put anew goes to the end."""
    known = {(seq, key) for seq, _, key, _ in before}
    return sorted({key for _, _, key, _ in before} & {key for seq, _, key, _ in after if (seq, key) not in known})


def times_written(run: Path) -> int:
    """How often a record was put since the run began."""
    with closing(sqlite3.connect(run / "records.sqlite")) as database:
        return int(database.execute("SELECT seq FROM sqlite_sequence").fetchone()[0])


def result(run: Path) -> dict[str, Any]:
    """What an exploration found, without what may differ between two that found the same."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for key in ("created", "command", "spending"):
        del summary[key]
    return summary


def open_run(run: Path) -> Run:
    """The run in `run`."""
    return lrf_dse.open_run(run)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, holding tiny.onnx and tiny.npz."""
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for spacemit-k1; not to be changed."""
    return tiny_run(tmp_path_factory)


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return copy_of(finished, tmp_path)

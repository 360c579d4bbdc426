"""Put a bundle on a board: copy, check, run its golden input there, measure, and only then move it into place.

Owns the record of what boards said: manifest.json's "boards", and a record of kind "board" in the run that the bundle
came from. What goes wrong on the way leaves the board's older bundle, and the manifest, as they were.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lrf_dse.deploy.bundle import MANIFEST, PROGRAM, README
from lrf_dse.errors import RunError, StoreError, UsageError
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import Board
from lrf_dse.runners.board_timing import PlacedProgram, measure_placed
from lrf_dse.runners.job import Array, read_raw
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import require_fit, turn
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import BoardFolder
from lrf_dse.schema import BoardFigures, Measurement
from lrf_dse.store import FILE_NAME, Store
from lrf_dse.target import Isa

BOARD_KIND = "board"


@dataclass(frozen=True, eq=False)
class Bundle:
    """An exported bundle: its folder, manifest, files by their names in it, and its golden input and output."""

    folder: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, Path]
    inputs: tuple[str, ...]
    outputs: tuple[Array, ...]

    @property
    def isa(self) -> Isa:
        """What its program needs of a core."""
        target = self.manifest["target"]
        return Isa(march=target["isa"], vlen_bits=target["vlen_bits"])


@dataclass(frozen=True)
class Deployment:
    """A bundle in its place on a board, and what the board said of it."""

    host: str
    path: str
    date: str
    measurement: Measurement

    @property
    def figures(self) -> BoardFigures:
        """The board's own figures."""
        assert self.measurement.board is not None, "only boards measure deployments"
        return self.measurement.board


def read_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`, every file compared with its manifest. Raises UsageError that says what is wrong."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed = manifest["files"]
        files = {_plain(name): folder / name for name in listed}
        for name, path in files.items():
            if _sha256(path) != listed[name]["sha256"]:
                raise UsageError(f"{path}: not the file that {MANIFEST} describes; export the bundle again")
        outputs = tuple(_golden(folder, index, port) for index, port in enumerate(manifest["outputs"]))
        inputs = tuple(f"golden/input{index}.bin" for index in range(len(manifest["inputs"])))
        if missing := {PROGRAM, *inputs} - files.keys():
            raise UsageError(f"{folder}: {MANIFEST} lists no {min(missing)}; export the bundle again")
        bundle = Bundle(folder, manifest, files, inputs, outputs)
        Isa.model_validate(bundle.isa)
        return bundle
    except OSError as error:
        raise UsageError(f"{folder}: not an exported bundle: {error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder}: {MANIFEST} is damaged ({error}); export the bundle again") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(name: str) -> str:
    """`name` if it stays in the bundle and can stand in a list of sums."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or not name.isprintable() or "\\" in name:
        raise UsageError(f"{MANIFEST} lists a file {name!r} that no bundle has")
    return name


def _golden(folder: Path, index: int, port: Mapping[str, Any]) -> Array:
    path = folder / "golden" / f"output{index}.bin"
    array = read_raw(path, np.empty(port["shape"], port["dtype"]))
    if array is None:
        raise UsageError(f"{path}: not the {port['dtype']} {port['shape']} of {MANIFEST}; export the bundle again")
    return array


def deploy(
    folder: Path,
    board: Board,
    *,
    name: str | None = None,
    policy: RepeatPolicy | None = None,
    now: datetime | None = None,
) -> Deployment:
    """Deploy the bundle in `folder` to `name` (default: the folder's) in the board's directory; what it said.

    Raises UsageError for a folder that is no bundle, RunError for whatever the board or the program did, StoreError
    if the figures cannot be written (the bundle is in its place then), ToolError without an ssh client.
    """
    bundle = read_bundle(folder)
    place = _place(name if name is not None else folder.resolve().name)
    try:
        measurement = _send_and_measure(bundle, board, place, policy or RepeatPolicy())
    except BoardProblem as problem:
        raise RunError(problem.reason) from problem
    except Rejected as rejected:
        reason = f"the bundle fails there at stage {rejected.stage}: {rejected.reason}"
        raise RunError(f"board {board.host}: {reason}; nothing was put in place") from rejected
    date = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = Deployment(board.host, f"{board.folder}/{place}", date, measurement)
    _write_manifest(folder, done)
    _write_record(bundle, done)
    return done


def _place(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a bundle's folder on the board; give another")
    return name


def _send_and_measure(bundle: Bundle, board: Board, place: str, policy: RepeatPolicy) -> Measurement:
    extras = {name: bundle.folder / name for name in (MANIFEST, README) if (bundle.folder / name).is_file()}
    files = {**bundle.files, **extras}
    sums = "".join(f"{_sha256(path)}  {name}\n" for name, path in files.items())
    with tempfile.TemporaryDirectory() as work, turn(board), BoardFolder(board) as there:
        facts = require_fit(board, bundle.isa, files.values())
        if "sha256sum" not in facts.tools:
            raise BoardProblem(board, "it has no sha256sum to check what arrives: install coreutils or busybox there")
        there.put(files, programs=frozenset({PROGRAM}), sums=sums)
        there.check()
        program = PlacedProgram(PROGRAM, bundle.files[PROGRAM], bundle.inputs, bundle.outputs, Path(work))
        measurement = measure_placed(there, facts, program, policy)
        there.publish(place)
        return measurement


def _write_manifest(folder: Path, done: Deployment) -> None:
    """Add the figures to the manifest as it is now, by a rename."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest.setdefault("boards", {}).setdefault(done.host, {})[done.date] = _entry(done)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".manifest-", delete=False, encoding="utf-8") as fresh:
            fresh.write(json.dumps(manifest, indent=2) + "\n")
        os.chmod(fresh.name, path.stat().st_mode & 0o777)  # noqa: PTH101
        Path(fresh.name).replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot write the board's figures: {error.strerror}") from error


def _entry(done: Deployment) -> dict[str, Any]:
    figures = to_json(done.figures)
    return {"path": done.path, "source": done.measurement.source, **{k: v for k, v in figures.items() if k != "host"}}


def _write_record(bundle: Bundle, done: Deployment) -> None:
    """Into the run that the bundle came from, where the manifest names its folder and it is still there."""
    run = bundle.manifest.get("run", {}).get("folder")
    if run is None or not (folder := bundle.folder / run).joinpath(FILE_NAME).is_file():
        return
    plan, program = bundle.manifest["plan"], bundle.manifest["files"][PROGRAM]["sha256"]
    key = content_key(BOARD_KIND, plan=plan, program=program, host=done.host, date=done.date)
    context = {"plan": plan, "host": done.host, "date": done.date, "path": done.path}
    with Store(folder) as store:
        store.put(key, BOARD_KIND, to_json(done.measurement), context=context)

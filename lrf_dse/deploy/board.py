"""Put a bundle on a board: copy and check it, run its golden input there, measure, and only then move it into place.

Owns the record of what boards measured: the entry "boards" of manifest.json, and a record of kind "board" in the run
that the bundle came from. If anything fails on the way, the older bundle on the board and the manifest stay as they
were.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lrf_dse.deploy.bundle import PROGRAM
from lrf_dse.deploy.whole import (
    MANIFEST,
    BundlePort,
    ManifestFacts,
    read_manifest,
    require_whole,
    sums_of,
    write_manifest,
)
from lrf_dse.errors import RunError, StoreError, UsageError
from lrf_dse.jsonform import content_key, problem_of, to_json
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import Board
from lrf_dse.runners.board_timing import PlacedProgram, measure_placed
from lrf_dse.runners.job import Array
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
    """An exported bundle: its folder, what its manifest says, its files by name, and its golden inputs and outputs."""

    folder: Path
    facts: ManifestFacts
    files: Mapping[str, Path]
    inputs: Mapping[str, Array]
    outputs: tuple[Array, ...]

    @property
    def isa(self) -> Isa:
        """What its program needs of a core."""
        return Isa(march=self.facts.target.isa, vlen_bits=self.facts.target.vlen_bits)


@dataclass(frozen=True)
class Deployment:
    """A bundle in its place on a board, and its measurement there."""

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
        _, facts = read_manifest(folder)
        files = {name: folder / name for name in require_whole(folder, facts)}
        inputs, outputs = dict(_named("input", facts.inputs)), dict(_named("output", facts.outputs))
        if missing := {PROGRAM, *inputs, *outputs} - files.keys():
            raise UsageError(f"{folder}: {MANIFEST} lists no {min(missing)}; export the bundle again")
        golden = {name: _golden(folder / name, port) for name, port in (inputs | outputs).items()}
        bundle = Bundle(folder, facts, files, {n: golden[n] for n in inputs}, tuple(golden[n] for n in outputs))
        # Built from a file, so its values are checked here, where an error still names the manifest.
        Isa.model_validate(bundle.isa)
        return bundle
    except OSError as error:
        raise UsageError(f"{folder}: not an exported bundle: {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{folder}: {MANIFEST} is damaged ({problem_of(error)}); export the bundle again") from error


def _named(kind: str, ports: Sequence[BundlePort]) -> list[tuple[str, BundlePort]]:
    return [(f"golden/{kind}{index}.bin", port) for index, port in enumerate(ports)]


def _golden(path: Path, port: BundlePort) -> Array:
    if path.stat().st_size != port.bytes:
        raise UsageError(f"{path}: not the {port.dtype} {list(port.shape)} of {MANIFEST}; export the bundle again")
    # Little-endian, whatever this machine is: the order of riscv64, in which the program reads and writes.
    return np.frombuffer(path.read_bytes(), np.dtype(port.dtype).newbyteorder("<")).reshape(port.shape)


def deploy(
    folder: Path,
    board: Board,
    *,
    name: str | None = None,
    policy: RepeatPolicy | None = None,
    now: datetime | None = None,
) -> Deployment:
    """Deploy the bundle in `folder` to `name` (default: the folder's) in the board's directory; return its figures.

    Raises UsageError for a folder that is no bundle, RunError for whatever the board or the program did, StoreError
    if the figures cannot be written (the bundle is in its place then), ToolError without an ssh client.
    """
    bundle = read_bundle(folder)
    # Checked before anything is sent.
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
    _write_figures(folder, done)
    _write_record(bundle, done)
    return done


def _place(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a bundle's folder on the board; give another")
    return name


def _send_and_measure(bundle: Bundle, board: Board, place: str, policy: RepeatPolicy) -> Measurement:
    files = {**bundle.files, MANIFEST: bundle.folder / MANIFEST}
    sums = sums_of(bundle.folder, files).decode()
    with tempfile.TemporaryDirectory() as work, turn(board), BoardFolder(board) as there:
        facts = require_fit(board, bundle.isa, files.values())
        if "sha256sum" not in facts.tools:
            raise BoardProblem(board, "it has no sha256sum to check what arrives: install coreutils or busybox there")
        there.put(files, programs=frozenset({PROGRAM}), sums=sums)
        # tar says nothing of a bit that flipped on the way; the sums do.
        there.check()
        program = PlacedProgram(
            PROGRAM,
            bundle.files[PROGRAM],
            tuple(bundle.inputs),
            bundle.outputs,
            Path(work),
            tolerance=bundle.facts.tolerance,
        )
        measurement = measure_placed(there, facts, program, policy)
        # Last: whatever raised before leaves the older bundle in its place, and the new one is removed with its folder.
        there.publish(place)
        return measurement


def _write_figures(folder: Path, done: Deployment) -> None:
    """Add the figures to the manifest as it is now, by a rename."""
    try:
        # Read again: measuring took minutes, in which another board may have written its figures.
        manifest, _ = read_manifest(folder)
        manifest.setdefault("boards", {}).setdefault(done.host, {})[done.date] = _entry(done)
        write_manifest(folder, manifest)
    except (OSError, UsageError) as error:
        raise StoreError(f"{folder / MANIFEST}: cannot write the board's figures: {error}") from error


def _entry(done: Deployment) -> dict[str, Any]:
    figures = to_json(done.figures)
    return {"path": done.path, "source": done.measurement.source, **{k: v for k, v in figures.items() if k != "host"}}


def _write_record(bundle: Bundle, done: Deployment) -> None:
    """Add a record to the run that the bundle came from, if the manifest names its folder and it is still there."""
    run = bundle.facts.run.get("folder")
    if not isinstance(run, str) or not (folder := bundle.folder / run).joinpath(FILE_NAME).is_file():
        return
    plan, program = bundle.facts.plan, bundle.facts.files[PROGRAM]["sha256"]
    # The date is part of the key: every deployment is a record of its own, and none replaces another.
    key = content_key(BOARD_KIND, plan=plan, program=program, host=done.host, date=done.date)
    context = {"plan": plan, "host": done.host, "date": done.date, "path": done.path}
    with Store(folder) as store:
        store.put(key, BOARD_KIND, to_json(done.measurement), context=context)

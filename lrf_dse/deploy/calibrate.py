"""Measure small programs on a board, and write what they cost there into a copy of a target's files.

Owns the board's side of calibration. Which programs to run, and which operation each one measures, is the business of
whoever calls this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lrf_dse.errors import RunError, StoreError, UsageError
from lrf_dse.resources import data_dir
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import Board
from lrf_dse.runners.board_timing import PlacedProgram, measure_placed
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import require_fit, turn
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import BoardFolder
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Isa, Target, load_target

_SOURCE = "board"
_ENTRY = r"^({name}\s*=\s*\{{)(.*)(\}}\s*)$"


@dataclass(frozen=True)
class MeasuredCost:
    """What one operation cost: cycles of its pipe and to its result, for M1, M2, M4, M8; None keeps the table's."""

    busy: tuple[float, ...] | None = None
    latency: tuple[float, ...] | None = None


def time_programs(
    programs: Mapping[str, Path], board: Board, isa: Isa, *, work: Path, policy: RepeatPolicy | None = None
) -> dict[str, Measurement | Failure]:
    """What every program took on the board, by its name, in the order given.

    The programs follow the contract of lrf_dse.runners.job (linked with toolchain/host/main.c and board.c) and have
    neither inputs nor outputs. One that fails is a Failure; raises RunError when the board itself does, ToolError
    without an ssh client.
    """
    files = {f"program{index}": path for index, path in enumerate(programs.values())}
    outcomes: dict[str, Measurement | Failure] = {}
    try:
        with turn(board), BoardFolder(board) as folder:
            facts = require_fit(board, isa, files.values())
            folder.put(files, programs=frozenset(files))
            for name, (there, path) in zip(programs, files.items(), strict=True):
                placed = PlacedProgram(there, path, (), (), work)
                try:
                    outcomes[name] = measure_placed(folder, facts, placed, policy or RepeatPolicy())
                except BoardProblem:
                    raise
                except Rejected as rejected:
                    outcomes[name] = Failure(rejected.stage, rejected.reason, (str(path),))
    except BoardProblem as problem:
        raise RunError(problem.reason) from problem
    return outcomes


def cycles_of(measurement: Measurement, target: Target) -> tuple[float, str]:
    """Cycles of one run, and how they are known: rdcycle, or seconds at the board's (else the target's) frequency.

    Raises UsageError where neither is known, or an emulator ran the program: such a time calibrates nothing.
    """
    board = measurement.board
    if board is None or measurement.seconds is None or board.emulator is not None:
        raise UsageError(f"{measurement.source}: not the time of a real board, nothing can be calibrated with it")
    if measurement.cycles is not None:
        return measurement.cycles, "rdcycle"
    known = [freq for freq in (board.freq_hz_before, board.freq_hz_after) if freq is not None]
    if known:
        return measurement.seconds * max(known), f"seconds at {max(known) / 1e9:g} GHz, as the board says"
    if target.core.freq_hz is None:
        raise UsageError(
            f"board {board.host} tells neither cycles nor its frequency, and target {target.name} has none"
        )
    freq = target.core.freq_hz.value
    return measurement.seconds * freq, f"seconds at {freq / 1e9:g} GHz, as target {target.name} says"


def write_calibration(
    target: str, costs: Mapping[str, MeasuredCost], out: Path, *, host: str, date: datetime, how: str
) -> Path:
    """Copy the files of `target` (a shipped name) into the folder `out`, with the measured `costs`; the new file.

    The result is a target like any other: `--target OUT/NAME.toml`. Its table of costs lies beside it in costs/.
    Raises UsageError for a target without a cost table or an operation that it lacks, StoreError for a full disk.
    """
    source = data_dir("targets") / f"{target}.toml"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    named = re.search(r'^costs\s*=\s*"([\w-]+)"', text, re.MULTILINE)
    if named is None:
        raise UsageError(f"target {target!r} has no table of costs to calibrate")
    table = data_dir("targets") / "costs" / f"{named.group(1)}.toml"
    said = f"measured on {host}, {date:%Y-%m-%d}: {how}"
    measured = with_measured_costs(table.read_text(encoding="utf-8"), costs, source=said)
    try:
        (out / "costs").mkdir(parents=True, exist_ok=True)
        (out / "costs" / table.name).write_text(measured, encoding="utf-8")
        (out / source.name).write_text(f"# Calibrated: costs {said}.\n{text}", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{out}: cannot write the calibrated target: {error.strerror}") from error
    load_target(str(out / source.name))  # what is written can be read, or the caller hears of it now
    return out / source.name


def with_measured_costs(table: str, costs: Mapping[str, MeasuredCost], *, source: str) -> str:
    """The text of a cost table with `costs` in the place of its own, everything else as it was. Raises UsageError."""
    for name, cost in costs.items():
        entry = re.compile(_ENTRY.format(name=re.escape(name)), re.MULTILINE)
        found = entry.search(table)
        if found is None:
            raise UsageError(f"the table of costs has no operation {name!r}")
        body = _with_value(found.group(2), "known", f'"{_SOURCE}"')
        for key, values in (("latency", cost.latency), ("busy", cost.busy)):
            if values is not None:
                body = _with_value(body, key, _numbers(values))
        table = table[: found.start()] + found.group(1) + body + found.group(3) + table[found.end() :]
    section = f'[sources.{_SOURCE}]\nbasis = "measured"\nsource = {_quoted(source)}\n\n'
    return re.sub(r"^\[cost\]", lambda match: section + match.group(0), table, count=1, flags=re.MULTILINE)


def _with_value(body: str, key: str, value: str) -> str:
    """`key = value` set in the inside of an inline table; a new key goes before the others that follow `pipes`."""
    pattern = re.compile(rf'\b{key}\s*=\s*(\[[^]]*\]|"[^"]*"|[\d._]+)')
    if pattern.search(body):
        return pattern.sub(lambda _: f"{key} = {value}", body, count=1)
    return re.sub(r'(pipes\s*=\s*"[^"]*",)', lambda match: f"{match.group(1)} {key} = {value},", body, count=1)


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

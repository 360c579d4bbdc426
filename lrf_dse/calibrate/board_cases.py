"""Time the cases of one program on a board.

The caller (lrf_dse.calibrate.measuring) decides which program that is, and what each case measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lrf_dse.errors import RunError, UsageError
from lrf_dse.progress import Progress, silent
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import BOARD_STAGE, Board
from lrf_dse.runners.board_timing import PlacedProgram, measure_placed
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import require_fit, turn
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import BoardFolder
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Isa, Target

STAGE = "measure loops"
"""Under which progress is shown."""


@dataclass(frozen=True)
class BoardCase:
    """One run of the program: the bytes of its only input, and its threads."""

    input: bytes
    threads: int = 1


def time_cases(
    program: Path,
    cases: Mapping[str, BoardCase],
    board: Board,
    isa: Isa,
    *,
    work: Path,
    allow_emulator: bool = False,
    policy: RepeatPolicy | None = None,
    progress: Progress = silent,
) -> dict[str, Measurement | Failure]:
    """The measurement of every case on the board, by its name, in the order given.

    The program follows the contract of lrf_dse.runners.job, with one input and no output. A case that fails is a
    Failure. Raises RunError when the board itself does, UsageError where an emulator runs its programs and that is
    not allowed, ToolError without an ssh client.
    """
    outcomes: dict[str, Measurement | Failure] = {}
    inputs = {f"case{index}": case.input for index, case in enumerate(cases.values())}
    files = {"program": program, **_written(inputs, work)}
    try:
        with turn(board), BoardFolder(board) as folder:
            facts = require_fit(board, isa, files.values())
            if facts.emulator is not None and not allow_emulator:
                raise UsageError(f"board {board.host}: {facts.emulator} runs its programs: it has no times of its own")
            folder.put(files, programs=frozenset({"program"}))
            for done, ((name, case), there) in enumerate(zip(cases.items(), inputs, strict=True)):
                progress(STAGE, done, len(cases))
                # Asked here as well, although measure_placed asks it: there it ends the whole measurement, here one
                # case.
                if case.threads > len(facts.cpus):
                    reason = f"needs {case.threads} cores, programs may use {len(facts.cpus)}"
                    outcomes[name] = Failure(BOARD_STAGE, reason)
                    continue
                placed = PlacedProgram("program", program, (there,), (), work, threads=case.threads)
                try:
                    outcomes[name] = measure_placed(folder, facts, placed, policy or RepeatPolicy())
                except BoardProblem:
                    raise
                except Rejected as rejected:
                    outcomes[name] = Failure(rejected.stage, rejected.reason)
    except BoardProblem as problem:
        raise RunError(problem.reason) from problem
    progress(STAGE, len(cases), len(cases))
    return outcomes


def _written(inputs: Mapping[str, bytes], work: Path) -> dict[str, Path]:
    work.mkdir(parents=True, exist_ok=True)
    paths = {name: work / name for name in inputs}
    for name, path in paths.items():
        path.write_bytes(inputs[name])
    return paths


def cycles_of(measurement: Measurement, target: Target) -> tuple[float, str]:
    """Cycles of one run on a board, and how they are known: rdcycle, or seconds at its (else the target's) frequency.

    Raises UsageError where none of them is known.
    """
    board = measurement.board
    assert board is not None and measurement.seconds is not None, "only boards are calibrated"
    if measurement.cycles is not None:
        return measurement.cycles, "rdcycle"
    known = [freq for freq in (board.freq_hz_before, board.freq_hz_after) if freq is not None]
    if known:
        # The larger of the two: a core that was idle before the run had lowered its clock, and raised it when the work
        # began.
        return measurement.seconds * max(known), f"seconds at {max(known) / 1e9:g} GHz, as the board says"
    if target.core.freq_hz is None:
        raise UsageError(
            f"board {board.host} lets no program read cycles and tells no frequency, and target {target.name} has none"
        )
    freq = target.core.freq_hz.value
    return measurement.seconds * freq, f"seconds at {freq / 1e9:g} GHz, as target {target.name} says"

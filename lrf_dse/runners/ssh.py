"""Run a program on a board over SSH: check its outputs, then time it until the median is stable.

The runner gives the board's wall time (Measurement.seconds), cycles (rdcycle) where the kernel permits it, and the peak
resident set. It counts no instructions. One program at a time runs on a board, however many threads ask for one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from pathlib import Path

from lrf_dse.builders.elf import read_elf
from lrf_dse.errors import BuildError
from lrf_dse.runners.answers import Rejected, output_names
from lrf_dse.runners.board import BOARD_STAGE, Board, BoardFacts, refusal
from lrf_dse.runners.board_facts import forget_board, inspect_board
from lrf_dse.runners.board_timing import PlacedProgram, measure_placed
from lrf_dse.runners.job import Job, write_raw
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import BoardFolder
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Isa

_PROGRAM = "program"
BOARD_TOOL = "board"
"""The entry of tool_versions that names the board; figures of no other runner have it."""


class SshRunner:
    """Measures on `board`. Raises ToolError if there is no ssh client; a board that fails is a Failure."""

    def __init__(self, board: Board, *, policy: RepeatPolicy | None = None) -> None:
        self.board = board
        self.policy = policy or RepeatPolicy()

    def run(self, job: Job) -> Measurement | Failure:
        """The measurement of `job`, or at which stage ("board", "run", "verify") and why there is none.

        A Failure of stage "board" says nothing of the program: the next run must try again.
        """
        inputs = _write_inputs(job)
        files = {_PROGRAM: job.program, **{path.name: path for path in inputs}}
        names = tuple(path.name for path in inputs)
        program = PlacedProgram(
            _PROGRAM, job.program, names, job.expected, job.work, job.tolerance, job.board_s, job.threads
        )
        try:
            with turn(self.board), BoardFolder(self.board) as folder:
                facts = require_fit(self.board, job.target.isa, files.values())
                folder.put(files, programs=frozenset({_PROGRAM}))
                return measure_placed(folder, facts, program, self.policy)
        except Rejected as rejected:
            # A board that comes back may have another kernel, or less free space.
            if rejected.stage == BOARD_STAGE:
                forget_board(self.board)
            kept = (job.program, *inputs, *(job.work / name for name in output_names(len(job.expected))))
            return Failure(rejected.stage, rejected.reason, tuple(str(path) for path in kept if path.exists()))


def tool_versions(board: Board) -> dict[str, str]:
    """What a board's figures depend on besides program and target: part of their content key."""
    return {
        BOARD_TOOL: board.host if board.port is None else f"{board.host} port {board.port}",
        "board prefix": " ".join(board.runner_prefix),
        "board cores": board.cpus or "",
        # A host is what the user's configuration makes of its name: another one may reach another board.
        "board options": " ".join([*(["-F", str(board.config)] if board.config else []), *board.options]),
    }


def require_fit(board: Board, isa: Isa, files: Iterable[Path]) -> BoardFacts:
    """The board's facts. Raises BoardProblem if it cannot hold these files or run programs for `isa`."""
    facts, files = inspect_board(board), tuple(files)
    disk = sum(path.stat().st_size for path in files)
    reason = refusal(facts, isa, memory_bytes=sum(map(_memory_bytes, files)), disk_bytes=disk)
    if reason is not None:
        forget_board(board)
        raise BoardProblem(board, reason)
    return facts


@functools.cache
def turn(board: Board) -> threading.Lock:
    """The lock that is held while a program runs on the board: two programs at a time would slow each other."""
    return threading.Lock()


def _memory_bytes(path: Path) -> int:
    """What a file may take in memory: a program's segments and once more its file (kernels are copied out of it)."""
    size = path.stat().st_size
    try:
        return size + sum(segment.memsz for segment in read_elf(path).loads)
    except BuildError:
        return size


def _write_inputs(job: Job) -> tuple[Path, ...]:
    job.work.mkdir(parents=True, exist_ok=True)
    paths = tuple(job.work / f"input{index}.bin" for index in range(len(job.inputs)))
    for path, array in zip(paths, job.inputs, strict=True):
        write_raw(path, array)
    return paths

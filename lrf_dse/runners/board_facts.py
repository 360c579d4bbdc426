"""Ask a board once what it is: a small program (toolchain/board/machine.c) runs there first.

The module owns the build of that program, and remembers the answers.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from pathlib import Path

from lrf_dse.builders.cache import cache_dir, cached
from lrf_dse.builders.zig import zig_cc, zig_version
from lrf_dse.resources import data_dir
from lrf_dse.runners.board import Board, BoardFacts, parse_facts
from lrf_dse.runners.ssh_client import BoardProblem, ask
from lrf_dse.runners.ssh_scripts import INSPECT

# rv64gc: what every riscv64 Linux runs.
_FLAGS = ("-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-O2", "-Wall", "-Werror", "-static", "-s")

_known: dict[Board, BoardFacts] = {}
_lock = threading.Lock()


def inspect_board(board: Board) -> BoardFacts:
    """The facts of `board`, asked on the first call. Raises BoardProblem, ToolError, BuildError."""
    # The lock is held while the board is asked: a second thread waits for the answer and does not ask again.
    with _lock:
        if board not in _known:
            _known[board] = _ask(board)
        return _known[board]


def forget_board(board: Board) -> None:
    """Ask again on the next call: the board failed, and may be another one when it is back."""
    with _lock:
        _known.pop(board, None)


def _ask(board: Board) -> BoardFacts:
    program = _machine_program()
    # The name differs between boards: two names of one host may be asked at the same time.
    name = f".lrf-{program.name}-{hashlib.sha256(repr(board).encode()).hexdigest()[:8]}"
    with program.open("rb") as stream:
        answer, _ = ask(board, INSPECT, [board.folder, name, *board.runner_prefix], stdin=stream)
    try:
        return parse_facts(answer.decode(errors="replace"), board)
    except ValueError as error:
        raise BoardProblem(board, str(error)) from None


@functools.cache
def _machine_program() -> Path:
    """The probe program, built into the cache under a name that holds its content. Raises BuildError, ToolError."""
    source = data_dir("toolchain") / "board" / "machine.c"
    digest = hashlib.sha256("\n".join((zig_version(), *_FLAGS)).encode() + source.read_bytes()).hexdigest()[:16]

    def build(fresh: Path) -> None:
        zig_cc([*_FLAGS, str(source.resolve()), "-o", fresh.name], cwd=fresh.parent)

    return cached(cache_dir() / "board" / f"machine-{digest}", build)

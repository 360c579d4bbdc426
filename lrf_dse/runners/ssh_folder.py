"""A folder on a board for the length of one measurement: files go there, programs run in it, then it is removed.

The ssh runner and deploy hold one. Its name is chosen here, so that it can be removed even when the
connection broke while it was being made.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import secrets
import signal
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import Board
from lrf_dse.runners.ssh_client import BoardProblem, BoardTimeout, ask, last_line
from lrf_dse.runners.ssh_scripts import CHECK, PUBLISH, REMOVE, RUN, UPLOAD

FILES = "../files/"
"""Where the files of `put` lie, seen from where programs run."""

# A transfer may take so long as a line of 400 kbit/s needs, and a minute to begin.
_SLOWEST_BYTES_PER_S = 50_000
_TRANSFER_TIMEOUT_S = 60.0
_SUMS, _COMPLETE = "sums", "complete"
# A shell reports a program that a signal ended as 128 plus the number of the signal.
_SIGNALLED = 128
_REMOVE_TIMEOUT_S = 15.0
# A tar archive ends with two blocks of 512 zeros (POSIX pax, "ustar Interchange Format"): without them it is cut off.
_ARCHIVE_END_BYTES = 1024
_CODE = re.compile(r"\d{1,3}")


@dataclass(frozen=True)
class Conditions:
    """The state of a board at one moment: clock, temperature and load; None where it does not tell."""

    freq_hz: float | None = None
    celsius: float | None = None
    load: float | None = None


@dataclass(frozen=True)
class FinishedOnBoard:
    """A program that ended with exit code 0, and the conditions around it."""

    before: Conditions
    after: Conditions


class BoardFolder:
    """A context manager; every method raises BoardProblem when the board or the connection fails, and ToolError."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.name = f".lrf-{secrets.token_hex(8)}"
        self._gone = False

    @property
    def _place(self) -> tuple[str, str]:
        return self.board.folder, self.name

    def put(self, files: Mapping[str, Path], *, programs: frozenset[str], sums: str = "") -> None:
        """Copy `files` (name there: path here), as whole files or not at all. `sums` is text for `check`."""
        size = sum(path.stat().st_size for path in files.values())
        with tempfile.TemporaryFile() as archive:
            _pack(archive, files, programs=programs, sums=sums)
            archive.seek(0)
            timeout_s = _TRANSFER_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S
            ask(self.board, UPLOAD, self._place, stdin=archive, timeout_s=timeout_s)

    def check(self) -> None:
        """Compare the files with the sums given to `put`."""
        ask(self.board, CHECK, self._place, timeout_s=_TRANSFER_TIMEOUT_S)

    def run(
        self, words: Sequence[str], into: Path, *, wanted: Sequence[str], core: int, timeout_s: float
    ) -> FinishedOnBoard:
        """Run a program in an empty folder and fetch the `wanted` files that it wrote into the folder `into`.

        Raises Rejected for what the program did: stage "run" for a crash, a refusal or a timeout.
        """
        cpu_limit_s = int(timeout_s * 64) + 60  # of all its threads; ends what a lost network leaves behind
        arguments = [*self._place, str(core), str(cpu_limit_s), *words]
        try:
            answer, said = ask(self.board, RUN, arguments, timeout_s=timeout_s)
        except BoardTimeout:
            self.remove()  # where the board still answers, it was the program that hung
            raise Rejected("run", f"did not finish in {timeout_s:g} s") from None
        return read_answer(self.board, answer, said, wanted=wanted, into=into)

    def publish(self, name: str) -> None:
        """Move the files to `name` in the board's directory, in the place of what is there."""
        ask(self.board, PUBLISH, [*self._place, f"./{name}"])

    def remove(self) -> None:
        """Remove the folder; a second call does nothing."""
        if not self._gone:
            ask(self.board, REMOVE, self._place, timeout_s=_REMOVE_TIMEOUT_S)
            self._gone = True

    def __enter__(self) -> BoardFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A board that is away removes the folder by itself (ssh_scripts.RUN); the first error is the one to report.
        with contextlib.suppress(BoardProblem):
            self.remove()


def read_answer(board: Board, answer: bytes, said: str, *, wanted: Sequence[str], into: Path) -> FinishedOnBoard:
    """Read the answer of ssh_scripts.RUN and write its files into the folder `into`. Raises BoardProblem, Rejected."""
    head, _, archive = answer.partition(b"tar\n")
    if not archive.endswith(bytes(_ARCHIVE_END_BYTES)):
        raise BoardProblem(board, "what came back is cut off")
    facts = dict(line.split(" ", 1) for line in head.decode(errors="replace").splitlines() if " " in line)
    code = facts.get("code", "")
    if not _CODE.fullmatch(code):
        raise BoardProblem(board, f"what came back is damaged: no exit code, but {code[:40]!r}")
    _require_success(board, int(code), said)
    _unpack(board, archive, wanted, into)
    return FinishedOnBoard(_conditions(facts.get("before", "")), _conditions(facts.get("after", "")))


def _pack(archive: IO[bytes], files: Mapping[str, Path], *, programs: frozenset[str], sums: str) -> None:
    # Not tarfile's default, the pax format: busybox's tar skips its extended headers.
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, path in files.items():
            with path.open("rb") as stream:
                member = tarfile.TarInfo(f"files/{name}")
                member.size = path.stat().st_size
                member.mode = 0o755 if name in programs else 0o644
                tar.addfile(member, stream)
        for name, text in ((_SUMS, sums), (_COMPLETE, "")):  # the last one says that all others are there
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o644
            tar.addfile(member, io.BytesIO(text.encode()))


def _unpack(board: Board, archive: bytes, wanted: Sequence[str], into: Path) -> None:
    """Write the wanted files, and nothing else that a board may send, into the folder `into`."""
    into.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            # Plain files alone: a sparse one can claim any size.
            members = {m.name.removeprefix("./"): m for m in tar if m.type in (tarfile.REGTYPE, tarfile.AREGTYPE)}
            for name in wanted:
                stream = tar.extractfile(members[name]) if name in members else None
                if stream is not None:
                    (into / name).write_bytes(stream.read())
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BoardProblem(board, f"what came back is damaged: {error}") from error


def _require_success(board: Board, code: int, said: str) -> None:
    last = last_line(said)
    if code == 0:
        return
    if "cannot write" in last or "No space left" in said:  # the folder is fresh: only a full disk can do this
        raise BoardProblem(board, f"its disk is full ({last}): free some space there")
    if code > _SIGNALLED and code - _SIGNALLED in signal.valid_signals():
        raise Rejected("run", f"killed by {signal.Signals(code - _SIGNALLED).name}")
    raise Rejected("run", f"exit code {code}: {last or 'nothing on stderr'}")


def _conditions(text: str) -> Conditions:
    """Conditions from "FREQ_KHZ MILLI_CELSIUS LOAD". 0 stands for unknown, except as a load: an idle board has 0."""
    try:
        khz, milli_celsius, load = (float(word) for word in text.split())
    except ValueError:
        return Conditions()
    if not all(map(math.isfinite, (khz, milli_celsius, load))):
        return Conditions()
    return Conditions(khz * 1e3 or None, milli_celsius / 1e3 or None, load)

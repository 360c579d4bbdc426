"""Ask a board something through the user's OpenSSH client, and say in one line what went wrong if it does not answer.

The module owns the command line of ssh and reads its complaints. Host keys are checked as the user's configuration
says; nothing here ever loosens that.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from math import inf
from typing import IO

from lrf_dse.errors import ToolError, ToolTimeout
from lrf_dse.process import Limit, started, wait
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.board import BOARD_STAGE, Board
from lrf_dse.runners.ssh_scripts import remote_command

SSH = "ssh"
# For answers that take no time of their own; a program's limit comes from its job.
_ANSWER_TIMEOUT_S = 60.0
# 255 is what ssh exits with where it fails itself (ssh(1)); 70 is what our own scripts exit with.
_SSH_ERROR, _NOT_DONE = 255, 70
_STDERR_BYTES = 8192
# The words of GNU and busybox programs for a full disk, a quota and a limit on file sizes.
_DISK_FULL = "No space left on device|quota exceeded|File too large|Wrote only [0-9]+ of|short write"


class BoardProblem(Rejected):
    """The board, or the connection to it, failed. This says nothing about the program."""

    def __init__(self, board: Board, reason: str) -> None:
        super().__init__(BOARD_STAGE, f"board {board.host}: {reason}")


class BoardTimeout(BoardProblem):
    """The board did not answer in time."""


def ask(
    board: Board,
    script: str,
    arguments: Sequence[str],
    *,
    stdin: IO[bytes] | None = None,
    timeout_s: float = _ANSWER_TIMEOUT_S,
) -> tuple[bytes, str]:
    """Standard output of `script` on the board, and the end of standard error. Raises BoardProblem, ToolError.

    Without `stdin` the remote standard input stays open until the answer is there: its end tells the script that
    nobody waits any more. Output goes to files: a pipe held open by a master connection would outlive the timeout.
    """
    # Random, so that no text of a login's start-up files can be taken for it.
    marker = f"lrf-dse-{secrets.token_hex(8)}"
    command = [*_client(board), remote_command(script, marker, arguments)]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        given = subprocess.PIPE if stdin is None else stdin
        try:
            with started(command, name=SSH, stdin=given, stdout=stdout, stderr=stderr) as child:
                # ssh itself does nothing while a program runs on the board, so idleness says nothing.
                limit = Limit(wall_s=timeout_s + board.connect_timeout_s, idle_s=inf)
                code = wait(child, name=SSH, limit=limit)
        except ToolTimeout as error:
            raise BoardTimeout(board, f"no answer in {timeout_s:g} s") from error
        said = _tail(stderr)
        stdout.seek(0)
        _, found, answer = stdout.read().partition(marker.encode() + b"\n")
    if not found:
        raise _unreached(board, code, said)
    if code != 0:
        raise _undone(board, code, said)
    return answer, said


def _client(board: Board) -> list[str]:
    """The ssh command up to the remote command. What the user's configuration says of keys and hosts is left alone."""
    path = shutil.which(SSH)
    if path is None:
        raise ToolError(f"{SSH} not found: install the Debian package openssh-client (apt-get install openssh-client)")
    # What a user may have set for interactive work and what would break a command: passwords asked for, a terminal that
    # changes bytes, a command or forwardings of their own, a client that goes into the background.
    ours = {
        "BatchMode": "yes",
        "ConnectTimeout": str(board.connect_timeout_s),
        # A connection without an answer for 30 seconds is given up.
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "StdinNull": "no",
        "ForkAfterAuthentication": "no",
        # Under QUIET nothing is said on errors; `_unreached` reads what ssh says at INFO.
        "LogLevel": "INFO",
    }
    options = [f"-o{key}={value}" for key, value in ours.items()]
    config = ["-F", str(board.config)] if board.config is not None else []
    port = ["-p", str(board.port)] if board.port is not None else []
    # OpenSSH keeps the first value that it gets for an option: ours stand before the board's and before the user's
    # file.
    return [path, *config, *port, *options, *(f"-o{option}" for option in board.options), "--", board.host]


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _STDERR_BYTES))
    return stream.read().decode(errors="replace")


def _undone(board: Board, code: int, said: str) -> BoardProblem:
    """The error for a script that began on the board and did not end well."""
    last = last_line(said)
    if full := _line_with(said, _DISK_FULL):
        return BoardProblem(board, f"its disk is full ({full}): free some space there")
    # 126 and 127: the shell could not execute, or not find, one of the programs.
    if code in (_NOT_DONE, 126, 127):
        return BoardProblem(board, last or f"exit code {code}")
    detail = f": {last}" if last else ""
    return BoardProblem(board, f"the connection was lost half way{detail}; the same command goes on when it is back")


def _unreached(board: Board, code: int, said: str) -> Exception:
    """The error for a script that never began: ssh's complaint in words that tell the user what to do."""
    host, last = board.host, last_line(said)
    # The user's own configuration is at fault: no board is to blame, and no other measurement can go on.
    if re.search(r"Bad configuration option|bad configuration|Can't open user config", said):
        return ToolError(f"{SSH}: {last}")
    if re.search(r"REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY", said):
        return BoardProblem(board, _changed_key(said))
    if "Host key verification failed" in said:
        reason = f"its host key is not known here: connect once by hand to check and accept it (ssh {host})"
        return BoardProblem(board, reason)
    if "Permission denied" in said or "Too many authentication failures" in said:
        line = _line_with(said, "Permission denied|Too many")
        hint = f"check the user and your key, `ssh {host}` must work without a password"
        return BoardProblem(board, f"it refused the login ({line}): {hint}")
    # ssh came through, since the code is not its own, but the first word of the script was never printed.
    if code == 0 or (code != _SSH_ERROR and code > 0):
        return BoardProblem(board, f"its login shell does not run `sh -c` (exit code {code}): {last or 'no output'}")
    reason = f"cannot be reached: {last or 'no word from ssh'}; is it on, and does `ssh {host}` work?"
    return BoardProblem(board, reason)


def _changed_key(said: str) -> str:
    found = re.search(r"Offending (?:\S+ )?key in (.+):(\d+)", said)
    where = f"line {found.group(2)} of {found.group(1)}" if found else "your known_hosts file"
    remover = re.search(r"ssh-keygen -f .+", said)
    command = f" ({remover.group(0).strip()})" if remover else ""
    return (
        f"its host key has changed: if that is right (a new system on the board), remove {where}{command} and connect "
        "once by hand; if not, somebody may be in between"
    )


def _line_with(said: str, pattern: str) -> str:
    return next((line.strip() for line in said.splitlines() if re.search(pattern, line)), "")


def last_line(said: str) -> str:
    """The last line of standard error that says something; empty if none does."""
    # OpenSSH 10 begins its advice on key exchange with two stars.
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("** ")]
    return lines[-1][:300] if lines else ""

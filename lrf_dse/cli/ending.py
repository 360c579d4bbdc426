"""How a command ends early: by signals, and by what went wrong, in one line on standard error.

Exit code 2 stands for something that the user can mend, or for a machine that ran out of memory or disk. 130 stands for
Ctrl-C: programs that run are finished and recorded, and a second Ctrl-C ends them. 143 (SIGTERM) and 129 (the terminal
is gone) end them at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lrf_dse.cli.show import one_line
from lrf_dse.process import end_children

INTERRUPTED = 128 + signal.SIGINT
_GOES_ON = "what was measured is kept, the same command goes on"


# Not an Exception: code that carries on after an error (a reader, a worker) must not carry on after this.
class Stopped(BaseException):
    """A signal that ends the command; no handler on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_caught() -> Iterator[None]:
    """Inside, SIGTERM, SIGHUP and a second Ctrl-C end every program that runs, and raise in the main thread."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup has the command ignore SIGHUP, and that must stay so.
        if before[number] == signal.SIG_DFL:
            signal.signal(number, _stop_all)
    # A shell starts background jobs with SIGINT ignored: Ctrl-C is not meant for them.
    if before[signal.SIGINT] == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    # The first Ctrl-C lets running programs end, which are then recorded; the second one does not wait.
    signal.signal(signal.SIGINT, _stop_all)
    raise KeyboardInterrupt


def _stop_all(number: int, _frame: FrameType | None) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        # From here on the command ends: another signal would interrupt its cleaning up.
        signal.signal(each, signal.SIG_IGN)
    end_children()
    raise Stopped(number)


def stop_for(stopped: Stopped) -> NoReturn:
    """Say which signal it was, and exit as a shell tells it: 128 and its number."""
    if stopped.number == signal.SIGINT:
        stop(f"interrupted; {_GOES_ON}", INTERRUPTED)
    stop(f"ended by {signal.Signals(stopped.number).name}; {_GOES_ON}", 128 + stopped.number)


def stop_interrupted() -> NoReturn:
    """Say that Ctrl-C was pressed."""
    stop(f"interrupted; {_GOES_ON}", INTERRUPTED)


def stop(message: str, code: int) -> NoReturn:
    """Exit with one line on standard error."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(code)

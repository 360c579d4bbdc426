"""Standard output stays the user's: lines that a library prints there by itself are hidden."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_lines_hidden() -> Iterator[None]:
    """Send what C code writes to standard output into nothing; Python's own output must not be written meanwhile.

    HiGHS 1.12 (of scipy 1.17) prints "transformNewIntegerFeasibleSolution" whenever it repairs a solution, whatever its
    options say; in front of `--json` that would be no JSON any more.
    """
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    # C code writes to file descriptor 1, whatever `sys.stdout` is: it is the descriptor that is pointed elsewhere.
    own = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        libc.fflush(None)  # C holds lines back where standard output is no terminal
        os.dup2(own, 1)
        os.close(own)

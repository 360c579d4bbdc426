"""What a runner is asked to do: to run one program on given inputs, whose outputs are known. A value, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrf_dse.builders.schedule import Schedule
from lrf_dse.target import Target

Array: TypeAlias = NDArray[Any]

DEFAULT_TOLERANCE = 1e-4
BOARD_S = 300.0
"""Seconds for one inference and its start on a board, where nobody says another limit: 10^11 instructions and more."""

_LEAST_S, _S_PER_OPERATION = 600.0, 2e-5
"""Two passes of plain C at 10 instructions a multiply-add and 2 million instructions a second, a fifth of what QEMU
does with the timing plugin, take 1e-5 s for each. A limit is to end what would never end, and nothing else."""

TIMED_PASSES = 3
"""The model is deterministic: a pass has caches and branch predictor as the one before left them. The second one still
waits for lines that the first one asked for too late (330 cycles more on kernels of a few hundred), the third does not.
"""

_MANY_OPERATIONS = 10_000_000
"""From this many multiply-adds on, the second pass is timed: the 330 cycles are less than 1 in 10,000 there, and two
passes take two thirds of the time of three."""

_OPERATIONS = 100_000_000
"""What a job is taken for where nobody counted its multiply-adds: it then has 2,600 s of processor time."""


@dataclass(frozen=True, eq=False)
class Job:
    """A program of the contract `program [--stats PATH] [--threads N] [--passes N] INPUT.bin... OUTPUT.bin...`.

    `inputs` and `expected` are in the model's order; `expected` comes from an independent reference
    and fixes the dtype and shape of every output. `tolerance` bounds max |error| relative to max |y|
    over all floating-point outputs; other outputs must be equal. `timeout_s` is what was asked for, else the limit
    depends on `operations`, about how many one inference takes. Of the `passes` through the model the
    last one is timed. `work` is a folder of the caller: the runner creates it, writes its files there and leaves them.
    `schedule` is what the program replays, for a runner that needs it in another form than a Linux program (rvsim).
    """

    program: Path
    target: Target
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    work: Path
    tolerance: float = DEFAULT_TOLERANCE
    timeout_s: float | None = None
    threads: int = 1
    schedule: Schedule | None = None
    operations: int = _OPERATIONS
    passes: int = TIMED_PASSES

    @property
    def emulated_s(self) -> float:
        """Seconds of processor time that an emulator may take for the program."""
        return _LEAST_S + _S_PER_OPERATION * self.operations if self.timeout_s is None else self.timeout_s

    @property
    def board_s(self) -> float:
        """Seconds that the program may take on a board."""
        return BOARD_S if self.timeout_s is None else self.timeout_s


def passes_for(operations: int) -> int:
    """How many passes a program of so many operations makes, of which the last one is timed in a steady state."""
    return TIMED_PASSES if operations < _MANY_OPERATIONS else TIMED_PASSES - 1


def raw_bytes(array: Array) -> bytes:
    """`array` as raw little-endian values in C order."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C").tobytes()


def write_raw(path: Path, array: Array) -> None:
    """Write `array` as raw little-endian values in C order."""
    path.write_bytes(raw_bytes(array))


def read_raw(path: Path, like: Array) -> Array | None:
    """The file as an array of the dtype and shape of `like`; None if its size is not the one of `like`."""
    data = path.read_bytes()
    if len(data) != like.nbytes:
        return None
    return np.frombuffer(data, dtype=like.dtype.newbyteorder("<")).reshape(like.shape)

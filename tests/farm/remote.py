"""What the tests of clusters let workers do: functions that a worker imports."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def versions() -> dict[str, str]:
    """The tools of a machine, as its environment has them."""
    return {"compiler": os.environ.get("TEST_COMPILER", "1.0"), "simulator": "7"}


def squared(number: int, marks: str, seconds: float = 0.0) -> int:
    """A square that takes a while; a file in the folder `marks` tells when it began, and who computed."""
    mark(marks, f"{number}-begun")
    time.sleep(seconds)
    mark(marks, f"{number}-done")
    return number * number


def mark(folder: str, name: str) -> None:
    with (Path(folder) / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


class Weights:
    """An array that tells whenever it arrives at a process."""

    def __init__(self, values: NDArray[Any], marks: str) -> None:
        self.values, self.marks = values, marks

    def __reduce__(self) -> Any:
        return _arrived, (self.values, self.marks)


def _arrived(values: NDArray[Any], marks: str) -> Weights:
    mark(marks, "arrivals")
    return Weights(values, marks)


def row_sum(weights: Weights, row: int) -> float:
    time.sleep(0.05)
    return float(weights.values[row].sum())


def failing(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def ones(size: int) -> NDArray[np.float64]:
    return np.ones(size)

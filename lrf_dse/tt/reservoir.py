"""A random choice of the rows of a stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Units = NDArray[np.int64]


class Reservoir:
    """At most `size` rows, each row that came as likely as any other (Vitter, ACM TOMS 11, 1985, algorithm R)."""

    def __init__(self, in_features: int, size: int, seed: int) -> None:
        self._empty = np.zeros((0, in_features), np.float32)
        self._size = size
        self.seen = 0
        self._kept: list[tuple[Rows, int]] = []
        self._random = np.random.default_rng(seed)

    def add(self, rows: Rows, units: Units) -> None:
        """Let `rows` [rows, in] pass by; `units` says of each what it belongs to."""
        for row, unit in zip(rows, units.tolist(), strict=True):
            self.seen += 1
            if len(self._kept) < self._size:
                self._kept.append((row.copy(), unit))
                continue
            # Row number `seen` stays with probability size / seen, in the place of any row with equal chance.
            place = int(self._random.integers(self.seen))
            if place < self._size:
                self._kept[place] = row.copy(), unit

    def rows(self) -> Rows:
        """The rows [rows, in] that were chosen."""
        return np.stack([row for row, _ in self._kept]) if self._kept else self._empty

    def units(self) -> Units:
        """What each of them belongs to."""
        return np.array([unit for _, unit in self._kept], np.int64)

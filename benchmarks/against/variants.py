"""A column of the kernel benchmark is the best of its variants: what a variant is, and the data they all compute on.

Owns the values and the random layer of a row; knows no compiler and measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.contractions import contractions
from benchmarks.against.kernel_set import KernelCase
from lrf_dse.cost.counts import dense_flops
from lrf_dse.runners.job import DEFAULT_TOLERANCE
from lrf_dse.tt.contraction import Core, apply

SEED = 0

QEMU_LACKS = ("zicond", "zfh", "zfhmin", "zvfh", "zvfhmin", "zfa", "zawrs", "zvbb", "zvbc", "zvkb", "zcb", "xsmtvdot")
"""Extensions that compilers emit code for where a chip has them, and that QEMU 7.2 does not execute."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to fill a column on one row: `build` makes its program in a folder. Raises BuildError.

    `facts` are JSON values that, with the row, decide the program: they go into its content key. `expected` makes the
    result [batch, M] that the program must have within `tolerance` of max |y|, where that is not the row's own: weights
    in few bits stand for other values.
    """

    name: str
    facts: dict[str, Any]
    build: Callable[[Path], Path]
    expected: Callable[[], NDArray[np.float32]] | None = None
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, eq=False)
class Group:
    """Variants of one column that differ in the same ways (flag sets), for one contraction.

    Where a column knows which are likely to win, only the first `best` of them are tried.
    """

    name: str
    variants: Sequence[Variant]
    best: int = 2


Groups = Iterable[Group]


@dataclass(frozen=True, eq=False)
class LayerData:
    """The arrays of one row, made when they are first asked for: a timing does not depend on their values."""

    case: KernelCase
    dense: bool = False
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    @property
    def flops(self) -> int:
        """Of the dense layer, or of the cheapest contraction of the TT layer."""
        return dense_flops(self.case.layer) if self.dense else contractions(self.case.shape, self.case.batch)[0].flops

    @cached_property
    def x(self) -> NDArray[np.float32]:
        """[batch, N]."""
        shape = (self.case.batch, self.case.shape.in_features)
        return np.random.default_rng(SEED + 1).standard_normal(shape, dtype=np.float32)

    @cached_property
    def cores(self) -> list[Core]:
        """The TT cores; each keeps the size of its input on average, so that no stage overflows or vanishes."""
        return [self._normal(shape, shape[2] * shape[3]) for shape in self.case.shape.core_shapes]

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """A dense W [M, N] of its own: nothing is decomposed here."""
        return self._normal((self.case.shape.out_features, self.case.shape.in_features), self.case.shape.in_features)

    @cached_property
    def y(self) -> NDArray[np.float32]:
        """The expected result [batch, M], computed in float64."""
        x = self.x.astype(np.float64)
        if self.dense:
            rows = [x @ block.astype(np.float64).T for block in np.array_split(self.weight, 16)]
            return np.concatenate(rows, axis=1).astype(np.float32)
        return apply([core.astype(np.float64) for core in self.cores], x).astype(np.float32)

    def _normal(self, shape: tuple[int, ...], terms: int) -> NDArray[np.float32]:
        values = self._random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(terms**-0.5)
        return values

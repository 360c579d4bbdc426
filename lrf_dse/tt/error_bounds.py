"""Bounds on the error of many shapes and rank tuples at once: of known weights by their spectra, or of any weights.

The bound is that of `lrf_dse.tt.spectra`: the root of the sum of what each cut discards at least of ||W||_F^2.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.orders import IntArray, ShapeBlock, divisors
from lrf_dse.tt.spectra import Spectra

FloatArray = NDArray[np.float64]


class ErrorBounds(Protocol):
    """Two steps, because the cuts of a shape are asked for with many ranks."""

    def cuts(self, shapes: ShapeBlock) -> IntArray:
        """[shapes, d - 1]: what `bounds` needs to know of each cut; -1 where a cut is not known."""

    def bounds(self, cuts: IntArray, ranks: IntArray) -> FloatArray:
        """The relative error bounds of rows of cuts with ranks, [rows, d - 1] or [rows, 1] for one rank of all cuts."""

    def ranks_for(self, cuts: IntArray, energy: float) -> IntArray:
        """The least rank of every cut that discards at most `energy` of ||W||_F^2."""

    def tail(self, cut: int) -> FloatArray:
        """What one cut discards of ||W||_F^2, by rank: the sum over cuts is the square of the bound."""

    def block_tail(self, blocks: tuple[int, int], side: int) -> FloatArray | None:
        """What a Monarch matrix of blocks (m_1, n_1), with shorter sides `side`, discards, by rank; None: not known."""


class OfSpectra:
    """The bounds of one W: at most 1. Shapes with a cut that has no spectrum are not known."""

    def __init__(self, spectra: Spectra) -> None:
        self._outs, self._ins = (_places(n) for n in (spectra.out_features, spectra.in_features))
        longest = max((tail.size for tail in spectra.tails.values()), default=1)
        # One row more, at place -1: cuts without a spectrum read zeros, and the caller leaves their shapes out.
        self._tails = np.zeros((len(spectra.tails) + 1, longest))
        self._ranks: dict[float, IntArray] = {}
        self._block_tails = spectra.block_tails
        self._rows = np.full((int(self._outs.max()) + 1, int(self._ins.max()) + 1), -1, dtype=np.int64)
        for row, ((left_out, left_in), tail) in enumerate(spectra.tails.items()):
            self._tails[row, : tail.size] = tail
            self._rows[self._outs[left_out], self._ins[left_in]] = row

    def cuts(self, shapes: ShapeBlock) -> IntArray:
        """Rows of the table of tails."""
        return self._rows[self._outs[shapes.outs_upto[:, :-1]], self._ins[shapes.ins_upto[:, :-1]]]

    def bounds(self, cuts: IntArray, ranks: IntArray) -> FloatArray:
        """The relative error bounds, read off the spectra."""
        # Beyond the full rank nothing is discarded: the last entry, 0, stands for all larger ranks.
        energy = self._tails[cuts, np.minimum(ranks, self._tails.shape[1] - 1)].sum(axis=1)
        return np.asarray(np.sqrt(np.minimum(energy, 1.0)))

    def ranks_for(self, cuts: IntArray, energy: float) -> IntArray:
        """The least ranks, looked up in the spectra once for each energy."""
        if energy not in self._ranks:
            # Tails fall with the rank: the first place that is low enough.
            self._ranks[energy] = np.argmax(self._tails <= energy, axis=1)
        return np.asarray(self._ranks[energy][cuts])

    def tail(self, cut: int) -> FloatArray:
        """The tail of the cut's spectrum."""
        return np.asarray(self._tails[cut])

    def block_tail(self, blocks: tuple[int, int], side: int) -> FloatArray | None:
        """The tail of the blocks' spectra, None where they were not computed."""
        return self._block_tails.get(blocks)


class OfAnyWeights:
    """What holds for every W of a size: singular values descend, so rank r of p discards at most 1 - r / p.

    The sum over many cuts may be above 1, where it promises nothing but still tells better from worse.
    """

    def cuts(self, shapes: ShapeBlock) -> IntArray:
        """The shorter sides of the unfoldings."""
        before = shapes.outs_upto[:, :-1] * shapes.ins_upto[:, :-1]
        return np.asarray(np.minimum(before, shapes.outs_from[:, 1:] * shapes.ins_from[:, 1:]))

    def bounds(self, cuts: IntArray, ranks: IntArray) -> FloatArray:
        """The bounds for singular values that are all the same, the worst case."""
        return np.asarray(np.sqrt(np.maximum(1.0 - ranks / cuts, 0.0).sum(axis=1)))

    def ranks_for(self, cuts: IntArray, energy: float) -> IntArray:
        """The least ranks at which the straight line is that low."""
        return np.asarray(np.ceil(np.maximum(0.0, 1.0 - energy) * cuts), dtype=np.int64)

    def tail(self, cut: int) -> FloatArray:
        """A straight line to nothing at full rank."""
        return np.linspace(1.0, 0.0, cut + 1)

    def block_tail(self, blocks: tuple[int, int], side: int) -> FloatArray | None:
        """A straight line as well: every block has the worst case."""
        return np.linspace(1.0, 0.0, side + 1)


def _places(n: int) -> IntArray:
    """The place of every divisor of n among the divisors; no other entry is asked for."""
    places = np.zeros(n + 1, dtype=np.int64)
    for place, divisor in enumerate(divisors(n)):
        places[divisor] = place
    return places

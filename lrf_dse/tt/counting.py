"""How large a layer's space is, exactly, without enumerating it: dynamic programming over divisors.

A shape of d cores is a path from (1, 1) to (M, N) whose k-th stop is (prod out_dims[:k], prod in_dims[:k]): both
numbers only grow to multiples of themselves. The rank cap of a cut depends on its stop alone, so sums over all paths,
and over all rank tuples up to the caps, go stop by stop. Sums over divisors are prefix sums over prime exponents, one
axis for each prime; all numbers are Python integers, because a space of 10^20 tuples is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.shapes import MAX_RANK, monarch_blocks, prime_factors

Lattice = NDArray[Any]
"""Python integers by stop: one axis for each prime of M, then one for each prime of N."""

SPACE_DEPTHS = (2, 3, 4, 5, 6)
"""Numbers of cores that the whole space is made of."""


@dataclass(frozen=True)
class SpaceSize:
    """How many shapes there are (ordered modes), with one rank for all cuts, and with every tuple of ranks."""

    shapes: int
    uniform: int
    tuples: int

    def __add__(self, other: SpaceSize) -> SpaceSize:
        return SpaceSize(self.shapes + other.shapes, self.uniform + other.uniform, self.tuples + other.tuples)


def space_size(
    out_features: int,
    in_features: int,
    depths: Sequence[int] = SPACE_DEPTHS,
    *,
    unit_modes: bool = True,
    max_rank: int = MAX_RANK,
) -> SpaceSize:
    """The size of the space of W [out, in]: all ordered modes of d cores, all ranks up to their caps and `max_rank`.

    With `unit_modes` a mode may be 1, but not both modes of a core: such a core is a part of its neighbour. Without,
    every mode is at least 2. A cut's cap is min(P, M N / P), with P the product of all modes before it.

    >>> space_size(4, 6, (2,), unit_modes=False)  # 2x2 / 2x3 and 2x2 / 3x2, each with ranks 1..4
    SpaceSize(shapes=2, uniform=8, tuples=8)
    >>> space_size(4, 6, (3,)).tuples
    164
    """
    divisors = _Divisors(out_features, in_features, unit_modes=unit_modes)
    return sum((_size(divisors, d, max_rank) for d in depths), SpaceSize(0, 0, 0))


def monarch_size(out_features: int, in_features: int, *, max_rank: int = MAX_RANK) -> SpaceSize:
    """The Monarch matrices of W [out, in]: all numbers of blocks, all ranks up to those of a block and `max_rank`.

    >>> monarch_size(4, 6)  # 3 x 4 numbers of blocks without 1 x 1, each with ranks up to the shorter side of a block
    SpaceSize(shapes=11, uniform=17, tuples=17)
    """
    caps = [min(out_features // m, in_features // n, max_rank) for m, n in monarch_blocks(out_features, in_features)]
    return SpaceSize(len(caps), sum(caps), sum(caps))


class _Divisors:
    """The stops that paths may take, and the step from all stops to all that can follow them."""

    def __init__(self, out_features: int, in_features: int, *, unit_modes: bool) -> None:
        out_primes, in_primes = prime_factors(out_features), prime_factors(in_features)
        self._unit_modes = unit_modes
        self._out_axes = tuple(range(1, 1 + len(out_primes)))
        self._in_axes = tuple(range(1 + len(out_primes), 1 + len(out_primes) + len(in_primes)))
        powers = [[p**e for e in range(most + 1)] for p, most in (*out_primes, *in_primes)]
        one = np.array([1], dtype=object)  # an axis that is always there: sizes of 1 have no prime
        self.products: Lattice = reduce(np.multiply.outer, [np.array(some, dtype=object) for some in powers], one)
        """The product of the two numbers of every stop."""
        self.total = out_features * in_features

    @property
    def start(self) -> Lattice:
        """One path, which has not left (1, 1)."""
        found = np.zeros(self.products.shape, dtype=object)
        found[(0,) * found.ndim] = 1
        return found

    def after_a_core(self, paths: Lattice) -> Lattice:
        """How many paths are at each stop after one more core, of so many that were at each before it."""
        below = _prefix_sums(paths, (*self._out_axes, *self._in_axes))
        if self._unit_modes:
            # A core may have one mode of 1 but not both: only the paths that stay where they are go.
            return below - paths
        # Neither number may stay: by inclusion and exclusion of the paths on which one of them does.
        return below - _prefix_sums(paths, self._out_axes) - _prefix_sums(paths, self._in_axes) + paths

    def caps(self, max_rank: int) -> Lattice:
        """The largest rank of the cut at every stop."""
        return np.asarray(np.minimum(np.minimum(self.products, self.total // self.products), max_rank))


def _prefix_sums(values: Lattice, axes: Sequence[int]) -> Lattice:
    """The sum over the divisors of every stop, along the given axes only."""
    return reduce(lambda found, axis: np.cumsum(found, axis=axis), axes, values)


def _size(divisors: _Divisors, d: int, max_rank: int) -> SpaceSize:
    if d < 2:
        raise ValueError(f"a shape has 2 cores or more, got {d}")
    caps = divisors.caps(max_rank)
    paths = tuples = divisors.start
    for _ in range(d - 1):
        # A tuple of ranks multiplies the choices of its cuts, so each cut's cap multiplies the sum over paths.
        paths, tuples = divisors.after_a_core(paths), divisors.after_a_core(tuples) * caps
    return SpaceSize(_at_the_end(divisors, paths), _uniform(divisors, d, max_rank), _at_the_end(divisors, tuples))


def _uniform(divisors: _Divisors, d: int, max_rank: int) -> int:
    """Shapes with a rank from 1 to their smallest cap.

    P only grows along a path, so the smallest cap is that of the first or the last cut: it is at least r where both
    are. For each value that caps have, the paths that reach it are counted once for every rank since the value before.
    """
    caps = divisors.caps(max_rank)
    found = before = 0
    for cap in sorted({*caps.ravel().tolist()}):
        paths = divisors.start
        for cut in range(1, d):
            paths = divisors.after_a_core(paths)
            # Only the first and the last cut can have the smallest cap of a path.
            if cut in {1, d - 1}:
                paths = paths * (caps >= cap)
        found += (cap - before) * _at_the_end(divisors, paths)
        before = cap
    return found


def _at_the_end(divisors: _Divisors, paths: Lattice) -> int:
    """Paths that end at (M, N) with one core more."""
    return int(divisors.after_a_core(paths).ravel()[-1])

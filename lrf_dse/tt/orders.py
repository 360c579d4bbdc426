"""All ordered modes of a layer as arrays, block by block: what `lrf_dse.tt.counting` counts, in bounded memory.

Unit modes are allowed, but no core whose two modes are both 1. A block holds shapes of one number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.shapes import Dims

IntArray = NDArray[np.int64]

BLOCK = 1 << 15
"""Shapes of a block, about: two arrays of it fit the second cache of a desktop."""


@dataclass(frozen=True)
class ShapeBlock:
    """Shapes of `d` cores without ranks: out_dims [shapes, d] and in_dims [shapes, d].

    Blocks that are made here hold the modes of one core side by side in memory: sums and products over cores are then
    ten times as fast.
    """

    out_dims: IntArray
    in_dims: IntArray

    @property
    def d(self) -> int:
        """Number of cores."""
        return len(self.out_dims.T)

    @cached_property
    def sizes(self) -> IntArray:
        """m_k n_k [shapes, d]."""
        return self.out_dims * self.in_dims

    @cached_property
    def outs_upto(self) -> IntArray:
        """prod_{t<=k} m_t [shapes, d]."""
        return _running_products(self.out_dims)

    @cached_property
    def ins_upto(self) -> IntArray:
        """prod_{t<=k} n_t [shapes, d]."""
        return _running_products(self.in_dims)

    @cached_property
    def outs_from(self) -> IntArray:
        """prod_{t>=k} m_t [shapes, d]."""
        return _running_products(self.out_dims[:, ::-1])[:, ::-1]

    @cached_property
    def ins_from(self) -> IntArray:
        """prod_{t>=k} n_t [shapes, d]."""
        return _running_products(self.in_dims[:, ::-1])[:, ::-1]

    def __len__(self) -> int:
        return len(self.out_dims)

    def __getitem__(self, chosen: NDArray[np.bool_] | IntArray) -> ShapeBlock:
        return ShapeBlock(self.out_dims.T[:, chosen].T, self.in_dims.T[:, chosen].T)


@lru_cache(maxsize=64)
def factor_table(n: int, d: int) -> IntArray:
    """Every way to write n as an ordered product of d factors >= 1, ascending: [ways, d], not to be written to.

    >>> factor_table(6, 2).tolist()
    [[1, 6], [2, 3], [3, 2], [6, 1]]
    """
    if d == 1:
        table = np.array([[n]], dtype=np.int64)
    else:
        parts = []
        for first in divisors(n):
            # From the cache: many first factors leave the same rest.
            rest = factor_table(n // first, d - 1)
            parts.append(np.concatenate([np.full((rest.shape[0], 1), first, dtype=np.int64), rest], axis=1))
        table = np.concatenate(parts)
    # The cache gives the same array to every caller.
    table.setflags(write=False)
    return table


@lru_cache(maxsize=1024)
def divisors(n: int) -> tuple[int, ...]:
    """All divisors of n, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [k for k in range(1, int(n**0.5) + 1) if n % k == 0]
    return tuple(sorted({*small, *(n // k for k in small)}))


def shape_blocks(out_features: int, in_features: int, d: int, *, block: int = BLOCK) -> Iterator[ShapeBlock]:
    """Every shape of d cores, in blocks of at most about `block`: lexicographic in (out_dims, in_dims)."""
    outs, ins = factor_table(out_features, d), factor_table(in_features, d)
    # A block takes whole rows of pairs where the factorisations of N are few, else parts of them.
    at_once = max(1, block // len(ins))
    for first in range(0, len(outs), at_once):
        some = outs[first : first + at_once]
        for start in range(0, len(ins), block):
            others = ins[start : start + block]
            pairs = ShapeBlock(np.repeat(some.T, len(others), axis=1).T, np.tile(others.T, (1, len(some))).T)
            yield pairs[~_has_unit_core(pairs)]


def sampled_blocks(
    out_features: int, in_features: int, d: int, share: float, *, seed: int, block: int = BLOCK
) -> Iterator[ShapeBlock]:
    """About `share` of all shapes of d cores, each with the same chance; the same ones for a seed, none twice.

    The pairs of factors are cut into as many equal runs as are drawn, and one is drawn of each: nothing is sorted, and
    no draw is remembered.
    """
    outs, ins = factor_table(out_features, d), factor_table(in_features, d)
    pairs = len(outs) * len(ins)
    count = min(pairs, round(share * pairs))
    random = np.random.default_rng([seed, d])
    before = -1
    for first in range(0, count, block):
        places = np.arange(first, min(first + block, count))
        drawn = ((places + random.random(places.size)) * (pairs / count)).astype(np.int64)
        # Rounding may give the number behind the last pair.
        drawn = np.minimum(drawn, pairs - 1)
        before, drawn = drawn[-1], drawn[np.diff(drawn, prepend=before) > 0]  # neighbouring runs may share one pair
        found = ShapeBlock(*_columns(outs[drawn // len(ins)], ins[drawn % len(ins)]))
        yield found[~_has_unit_core(found)]


def block_of(dims: Sequence[tuple[Dims, Dims]]) -> ShapeBlock:
    """These (out_dims, in_dims), all of as many cores, as one block."""
    outs, ins = zip(*dims, strict=True)
    return ShapeBlock(*_columns(np.array(outs, dtype=np.int64), np.array(ins, dtype=np.int64)))


def _columns(*arrays: IntArray) -> Iterator[IntArray]:
    """The same arrays with columns side by side in memory."""
    return (np.asfortranarray(array) for array in arrays)


def _running_products(modes: IntArray) -> IntArray:
    """Products of the columns up to each one: ten times as fast as `np.cumprod` along short rows."""
    found = np.empty_like(modes, order="F")
    found[:, 0] = modes[:, 0]
    for k in range(1, modes.shape[1]):
        np.multiply(found[:, k - 1], modes[:, k], out=found[:, k])
    return found


def _has_unit_core(shapes: ShapeBlock) -> NDArray[np.bool_]:
    return np.asarray((shapes.sizes == 1).any(axis=1))

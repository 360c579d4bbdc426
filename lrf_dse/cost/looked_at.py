"""Which shapes of a layer are looked at: all of them, or where there are too many a sample that is always the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lrf_dse.tt.counting import SpaceSize, space_size
from lrf_dse.tt.orders import ShapeBlock, block_of, sampled_blocks, shape_blocks
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims

MOST_CANDIDATES = 10**8
"""Shapes with a rank that are looked at, about, before they are sampled."""


@dataclass(frozen=True)
class LookedAt:
    """The shapes of a layer by number of cores; `share` of them, and all aligned ones."""

    out_features: int
    in_features: int
    depths: tuple[int, ...]
    max_rank: int
    seed: int
    share: float
    whole: SpaceSize

    @property
    def is_sample(self) -> bool:
        """Whether shapes are left out."""
        return self.share < 1.0

    def blocks(self) -> Iterator[ShapeBlock]:
        """The shapes, few cores first; plain low rank is none of them, nor its mirror image."""
        for d in self.depths:
            yield from (without_low_rank(block) if d == 2 else block for block in self._of_depth(d))

    def _of_depth(self, d: int) -> Iterator[ShapeBlock]:
        sizes = self.out_features, self.in_features
        if not self.is_sample or d == 2:  # there are a few hundred at most
            yield from shape_blocks(*sizes, d)
            return
        aligned = list(aligned_dims(*sizes, d))
        if aligned:
            yield block_of(aligned)
        for block in sampled_blocks(*sizes, d, self.share, seed=self.seed):
            # Aligned shapes are all there already: drawn again they would be counted twice.
            yield block[~_is_aligned(block)]


def looked_at(
    out_features: int, in_features: int, depths: Sequence[int], *, max_rank: int, most: int | None, seed: int
) -> LookedAt:
    """All shapes with at most about `most` ranks together; None: all there are."""
    whole = sum((space_size(out_features, in_features, (d,), max_rank=max_rank) for d in depths), SpaceSize(0, 0, 0))
    # Counted exactly by dynamic programming, so the share is known before any shape is made.
    share = 1.0 if most is None or whole.uniform <= most else most / whole.uniform
    return LookedAt(out_features, in_features, tuple(depths), max_rank, seed, share, whole)


def without_low_rank(block: ShapeBlock) -> ShapeBlock:
    """The shapes of two cores that are not plain low rank, one way round or the other."""
    outs, ins = block.out_dims, block.in_dims
    low_rank = (outs[:, 1] == 1) & (ins[:, 0] == 1)
    mirror = (outs[:, 0] == 1) & (ins[:, 1] == 1)
    return block[~(low_rank | mirror)]


def low_rank_block(out_features: int, in_features: int) -> ShapeBlock:
    """Plain low rank as the only shape."""
    return block_of([low_rank_dims(out_features, in_features)])


def _is_aligned(block: ShapeBlock) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether outputs descend and inputs ascend, all factors >= 2: what `aligned_dims` gives."""
    outs, ins = block.out_dims, block.in_dims
    ordered = (np.diff(outs, axis=1) <= 0).all(axis=1) & (np.diff(ins, axis=1) >= 0).all(axis=1)
    return np.asarray(ordered & (outs[:, -1] >= 2) & (ins[:, 0] >= 2))

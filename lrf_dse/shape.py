"""The shape of what takes the place of a weight matrix: modes, ranks and structure. Arrays are made by `lrf_dse.tt`."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

Structure = Literal["tt", "monarch"]
"""What a shape's factors are: cores of a tensor train, or the two block-diagonal factors of a Monarch matrix."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class TTShape:
    """The shape of one tensor-train matrix: prod(out_dims) x prod(in_dims), with d + 1 ranks.

    >>> TTShape((20, 15), (28, 28), (1, 8, 1)).core_shapes
    ((1, 20, 28, 8), (8, 15, 28, 1))

    Of structure "monarch" (Dao et al., arXiv 2204.00595, with a rank) W is m_1 x n_1 blocks [m_2, n_2], each of rank r:
    W = L P R, with R block-diagonal of n_1 blocks [m_1 r, n_2], P what moves axes (n_1, m_1, r) to (m_1, n_1, r), and
    L block-diagonal of m_1 blocks [m_2, n_1 r]. Each weight meets one input. The factors stand as cores [blocks, rows
    of a block, K, 1], so that the matrix of a stage is its blocks below each other.

    >>> TTShape((4, 5), (2, 3), (1, 2, 1), "monarch").core_shapes
    ((4, 5, 4, 1), (2, 8, 3, 1))
    """

    out_dims: tuple[int, ...]
    in_dims: tuple[int, ...]
    ranks: tuple[int, ...]
    structure: Structure = "tt"

    def __post_init__(self) -> None:
        d = len(self.out_dims)
        # One core alone would be W itself: dense is a candidate without a TT shape.
        _require(d >= 2 and len(self.in_dims) == d, f"a TT shape needs d >= 2 pairs of dims, got {self}")
        _require(len(self.ranks) == d + 1, f"d = {d} cores need {d + 1} ranks, got {self.ranks}")
        _require(self.ranks[0] == self.ranks[-1] == 1, f"the outer ranks must be 1, got {self.ranks}")
        _require(
            all(v >= 1 for v in self.out_dims + self.in_dims + self.ranks), f"dims and ranks must be >= 1, got {self}"
        )
        # One block is plain low rank, whose factors are cores.
        _require(
            not self.is_monarch or (d == 2 and self.out_dims[0] * self.in_dims[0] > 1),
            f"a Monarch matrix has two factors and two or more blocks, got {self}",
        )

    @property
    def d(self) -> int:
        """Number of cores."""
        return len(self.out_dims)

    @property
    def out_features(self) -> int:
        """M = prod(out_dims)."""
        return prod(self.out_dims)

    @property
    def in_features(self) -> int:
        """N = prod(in_dims)."""
        return prod(self.in_dims)

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shape of each core G_k, in t3f's axis order [r_{k-1}, m_k, n_k, r_k]; of Monarch [blocks, rows, K, 1]."""
        r = self.ranks
        if self.is_monarch:
            (m1, m2), (n1, n2) = self.out_dims, self.in_dims
            return (m1, m2, n1 * r[1], 1), (n1, m1 * r[1], n2, 1)
        return tuple((r[k], self.out_dims[k], self.in_dims[k], r[k + 1]) for k in range(self.d))

    @property
    def is_low_rank(self) -> bool:
        """Whether this is the plain low-rank pair U (V x), written with unit modes."""
        # m = (M, 1) and n = (1, N): V [r, N] is the last core, which meets the input first.
        return not self.is_monarch and self.d == 2 and self.out_dims[1] == 1 and self.in_dims[0] == 1

    @property
    def is_monarch(self) -> bool:
        """Whether the factors are block-diagonal."""
        return self.structure == "monarch"

    @property
    def rank_caps(self) -> tuple[int, ...]:
        """The largest useful inner ranks: no unfolding, no block of a Monarch matrix, has a larger one.

        >>> TTShape((20, 5, 3), (2, 14, 28), (1, 1, 1, 1)).rank_caps
        (40, 84)
        """
        if self.is_monarch:
            return (min(self.out_dims[1], self.in_dims[1]),)
        modes = [m * n for m, n in zip(self.out_dims, self.in_dims, strict=True)]
        return tuple(min(prod(modes[:k]), prod(modes[k:])) for k in range(1, self.d))

    def __str__(self) -> str:
        # The outer ranks are 1 in every shape and tell nothing.
        dims = "x".join(map(str, self.out_dims)) + " / " + "x".join(map(str, self.in_dims))
        if self.is_monarch:
            return f"Monarch {dims}, rank {self.ranks[1]}"
        return f"{dims}, ranks {','.join(map(str, self.ranks[1:-1]))}"

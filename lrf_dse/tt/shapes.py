"""The TT shapes of a layer by name: aligned ones, plain low rank, and what ranks a shape may have.

All shapes there are: `lrf_dse.tt.counting` counts them, `lrf_dse.tt.orders` enumerates them as arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from lrf_dse.schema import TTShape

DEPTHS = (2, 3, 4)
"""Numbers of cores that are explored by default."""

MAX_RANK = 1024
"""Largest rank that is explored by default."""

Dims = tuple[int, ...]


def prime_factors(n: int) -> list[tuple[int, int]]:
    """The primes of n with their exponents, ascending (empty for 1).

    >>> prime_factors(784)
    [(2, 4), (7, 2)]
    """
    factors, p = [], 2
    while p * p <= n:
        e = 0
        while n % p == 0:
            n, e = n // p, e + 1
        if e:
            factors.append((p, e))
        p += 1
    return [*factors, (n, 1)] if n > 1 else factors


def ascending_factorisations(n: int, d: int, *, smallest: int = 2) -> Iterator[Dims]:
    """All ways to write n as a product of d factors >= `smallest`, each ascending.

    >>> list(ascending_factorisations(12, 2))
    [(2, 6), (3, 4)]
    """
    if d == 1:
        if n >= smallest:
            yield (n,)
        return
    first = smallest
    # Factors ascend, so the first one is at most the d-th root.
    while first**d <= n:
        if n % first == 0:
            for rest in ascending_factorisations(n // first, d - 1, smallest=first):
                yield (first, *rest)
        first += 1


def aligned_dims(out_features: int, in_features: int, d: int) -> Iterator[tuple[Dims, Dims]]:
    """The (out_dims, in_dims) with out_dims descending and in_dims ascending, all factors >= 2.

    Last core first, FLOPs see n only through prefix products and m only through suffix products, so this order of
    the same factors has the fewest FLOPs for any ranks (docs/glossary.md). Nothing for a prime size.

    >>> list(aligned_dims(12, 4, 2))
    [((6, 2), (2, 2)), ((4, 3), (2, 2))]
    """
    in_factorisations = list(ascending_factorisations(in_features, d))
    for out_dims in ascending_factorisations(out_features, d):
        for in_dims in in_factorisations:
            yield out_dims[::-1], in_dims


def low_rank_dims(out_features: int, in_features: int) -> tuple[Dims, Dims]:
    """The unit modes of the plain low-rank pair U (V x): m = (M, 1), n = (1, N)."""
    return (out_features, 1), (1, in_features)


def monarch_blocks(out_features: int, in_features: int) -> Iterator[tuple[int, int]]:
    """The numbers of blocks (m_1, n_1) of Monarch matrices: one block is plain low rank, of one row or column too.

    >>> list(monarch_blocks(3, 4))
    [(1, 2), (1, 4), (3, 1), (3, 2), (3, 4)]
    """
    for m1 in (m for m in range(1, out_features + 1) if out_features % m == 0):
        yield from ((m1, n1) for n1 in range(1, in_features + 1) if in_features % n1 == 0 and m1 * n1 > 1)


def rank_caps(out_dims: Sequence[int], in_dims: Sequence[int]) -> Dims:
    """The largest useful inner ranks: r_k <= min(prod_{t<=k} m_t n_t, prod_{t>k} m_t n_t).

    >>> rank_caps((20, 5, 3), (2, 14, 28))
    (40, 84)
    """
    modes = [m * n for m, n in zip(out_dims, in_dims, strict=True)]
    return tuple(min(prod(modes[:k]), prod(modes[k:])) for k in range(1, len(modes)))


def uniform_rank_cap(out_dims: Sequence[int], in_dims: Sequence[int], max_rank: int = MAX_RANK) -> int:
    """The largest uniform rank: the smallest rank cap, and at most `max_rank`."""
    return min(max_rank, *rank_caps(out_dims, in_dims))


def explored_dims(out_features: int, in_features: int, depths: Sequence[int] = DEPTHS) -> Iterator[tuple[Dims, Dims]]:
    """The (out_dims, in_dims) that are explored: aligned ones of every depth, then plain low rank."""
    for d in depths:
        yield from aligned_dims(out_features, in_features, d)
    yield low_rank_dims(out_features, in_features)


def require_decomposable(weight_shape: Sequence[int], shape: TTShape) -> None:
    """Refuse a TT shape that does not fit W [out, in], or has a rank that no decomposition can fill (ValueError)."""
    if tuple(weight_shape) != (shape.out_features, shape.in_features):
        raise ValueError(f"TT shape {shape} multiplies to {shape.out_features, shape.in_features}, W is {weight_shape}")
    for k, (rank, cap) in enumerate(zip(shape.ranks[1:-1], shape.rank_caps, strict=True)):
        # Going left to right, TT-SVD can fill at most the rank before times the size of the core.
        reachable = cap if shape.is_monarch else min(cap, shape.ranks[k] * shape.out_dims[k] * shape.in_dims[k])
        if rank > reachable:
            raise ValueError(f"rank r_{k + 1} = {rank} of TT shape {shape} is above the {reachable} that can be used")

"""Which TT shapes a layer has: counted exactly, or enumerated.

Owns the search space. Knows nothing of costs or errors, and never enumerates the ordered space (up to 10^7 points).

Every rank here is uniform: r_1 = ... = r_{d-1} = r, for every r up to the smallest rank cap of the shape. With P_k the
size of the first k modes (m_t n_t each) and T = M N, the caps are min(P_k, T / P_k); P_k only grows, so the smallest
one is min(m_1 n_1, m_d n_d).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import comb, factorial, prod

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


@lru_cache(maxsize=4096)
def ordered_factorisation_count(n: int, d: int) -> int:
    """In how many ways n is an ordered product of d factors, all >= 2, by inclusion and exclusion of the ones.

    >>> ordered_factorisation_count(12, 2), ordered_factorisation_count(7, 2), ordered_factorisation_count(1, 0)
    (4, 0, 1)
    """
    exponents = [exponent for _, exponent in prime_factors(n)]
    return sum((-1) ** (d - j) * comb(d, j) * prod(_spread(e, j) for e in exponents) for j in range(d + 1))


def _spread(exponent: int, factors: int) -> int:
    """In how many ways one prime's exponent is spread over so many ordered factors."""
    return comb(exponent + factors - 1, factors - 1) if factors else 0


def ordered_pair_count(out_features: int, in_features: int, d: int) -> int:
    """How many (out_dims, in_dims) of d ordered factors each, all >= 2, multiply to the layer; counted, not enumerated.

    >>> ordered_pair_count(300, 784, 2)
    208
    """
    return ordered_factorisation_count(out_features, d) * ordered_factorisation_count(in_features, d)


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
    while first**d <= n:
        if n % first == 0:
            for rest in ascending_factorisations(n // first, d - 1, smallest=first):
                yield (first, *rest)
        first += 1


def aligned_dims(out_features: int, in_features: int, d: int) -> Iterator[tuple[Dims, Dims]]:
    """The (out_dims, in_dims) with out_dims descending and in_dims ascending, all factors >= 2.

    Last core first, FLOPs see n only through prefix products and m only through suffix products, so this order of
    the same factors has the fewest FLOPs for any ranks (DESIGN.md section 2). Nothing for a prime size.

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


def ordered_space_size(
    out_features: int, in_features: int, *, depths: Sequence[int] = DEPTHS, max_rank: int = MAX_RANK
) -> int:
    """How many (ordered dims, uniform rank 1..cap) there are: aligned shapes times their orders; never enumerated.

    Every order of the same factors is given the ranks of its aligned order, so that the aligned shapes stand for the
    whole space, rank by rank. (An order with smaller caps of its own saturates there.)

    >>> ordered_space_size(4, 6, depths=(2,))  # 2x2 / 2x3 and 2x2 / 3x2, with ranks 1..4
    8
    """
    return sum(
        _order_count(out_dims) * _order_count(in_dims) * uniform_rank_cap(out_dims, in_dims, max_rank)
        for d in depths
        for out_dims, in_dims in aligned_dims(out_features, in_features, d)
    )


def _order_count(factors: Dims) -> int:
    """How many distinct orders these factors have."""
    return factorial(len(factors)) // prod(factorial(count) for count in Counter(factors).values())


def explored_dims(out_features: int, in_features: int, depths: Sequence[int] = DEPTHS) -> Iterator[tuple[Dims, Dims]]:
    """The (out_dims, in_dims) that are explored: aligned ones of every depth, then plain low rank."""
    for d in depths:
        yield from aligned_dims(out_features, in_features, d)
    yield low_rank_dims(out_features, in_features)


def enumerate_shapes(
    out_features: int,
    in_features: int,
    *,
    depths: Sequence[int] = DEPTHS,
    rank_multiple: int = 1,
    max_rank: int = MAX_RANK,
) -> Iterator[TTShape]:
    """Every explored TT shape with a uniform rank that is a multiple of `rank_multiple`, up to its cap.

    >>> [str(s) for s in enumerate_shapes(4, 6, depths=(2,), rank_multiple=2)]
    ['2x2 / 2x3, ranks 2', '2x2 / 2x3, ranks 4', '4x1 / 1x6, ranks 2', '4x1 / 1x6, ranks 4']
    """
    for out_dims, in_dims in explored_dims(out_features, in_features, depths):
        for r in range(rank_multiple, uniform_rank_cap(out_dims, in_dims, max_rank) + 1, rank_multiple):
            yield TTShape(out_dims, in_dims, (1, *[r] * (len(out_dims) - 1), 1))


def require_decomposable(weight_shape: Sequence[int], shape: TTShape) -> None:
    """Refuse a TT shape that does not fit W [out, in], or has a rank that no decomposition can fill (ValueError)."""
    if tuple(weight_shape) != (shape.out_features, shape.in_features):
        raise ValueError(f"TT shape {shape} multiplies to {shape.out_features, shape.in_features}, W is {weight_shape}")
    caps = rank_caps(shape.out_dims, shape.in_dims)
    for k, (rank, cap) in enumerate(zip(shape.ranks[1:-1], caps, strict=True)):
        reachable = min(cap, shape.ranks[k] * shape.out_dims[k] * shape.in_dims[k])
        if rank > reachable:
            raise ValueError(f"rank r_{k + 1} = {rank} of TT shape {shape} is above the {reachable} that can be used")

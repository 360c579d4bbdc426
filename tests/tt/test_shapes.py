from collections import Counter
from itertools import permutations, product
from math import factorial, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.cost.counts import flops, parameters
from lrf_dse.schema import TTShape
from lrf_dse.tt import shapes
from lrf_dse.tt.counting import space_size

# in -> out, ordered pairs d = 2..5, aligned pairs d = 2..5 (FACTS.md "Known sizes").
KNOWN = [
    (784, 300, (208, 2736, 5472, 1650), (56, 110, 35, 3)),
    (400, 120, (182, 2160, 3952, 1100), (49, 80, 28, 3)),
    (9216, 4096, (341, 16500, 242550, 1.4e6), (96, 660, 1290, 1079)),
    (4096, 4096, (121, 3025, 27225, 108900), (36, 144, 225, 169)),
    (4096, 1000, (154, 3025, 15180, 23100), (42, 132, 120, 39)),
    (25088, 4096, (308, 13365, 174240, 900900), (84, 540, 945, 741)),
    (2048, 1000, (140, 2475, 11040, 14700), (35, 110, 88, 30)),
    (768, 3072, (320, 11340, 107520, 367500), (80, 400, 496, 324)),
]
# in -> out, all, aligned, aligned and below dense in FLOPs and parameters, and rank % 8 == 0; to the digits known.
KNOWN_RANKED = [
    (784, 300, "2.9e+05", "2.0e+04", 5200, 562),
    (4096, 4096, "3.0e+06", "7.9e+04", 40004, 4905),
    (25088, 4096, "2.4e+07", "3.8e+05", 218100, 26945),
    (768, 3072, "5.8e+06", "1.1e+05", 47194, 5620),
]


@pytest.mark.parametrize(("n", "m", "ordered", "aligned"), KNOWN)
def test_known_pair_counts(n, m, ordered, aligned):
    counted = tuple(space_size(m, n, (d,), unit_modes=False).shapes for d in (2, 3, 4, 5))
    assert counted[:3] == ordered[:3]
    assert float(f"{counted[3]:.1e}") == ordered[3] if isinstance(ordered[3], float) else counted[3] == ordered[3]
    assert tuple(sum(1 for _ in shapes.aligned_dims(m, n, d)) for d in (2, 3, 4, 5)) == aligned


@pytest.mark.parametrize("known", KNOWN_RANKED)
def test_known_uniform_rank_counts(known):
    n, m, whole, aligned, below, by_eight = known
    dims = [pair for d in shapes.DEPTHS for pair in shapes.aligned_dims(m, n, d)]
    assert f"{sum(shapes.uniform_rank_cap(*pair) for pair in dims):.1e}" == aligned
    # Every order of the same factors, with the ranks of its aligned order (caps of its own may be smaller).
    assert f"{sum(_orders(*pair) * shapes.uniform_rank_cap(*pair) for pair in dims):.1e}" == whole
    kept = [r for pair in dims for r in _ranks_below_dense(*pair)]
    assert len(kept) == below
    assert sum(r % 8 == 0 for r in kept) == by_eight


def _orders(*dims):
    """In how many distinct orders these factors stand."""
    return prod(factorial(len(f)) // prod(factorial(c) for c in Counter(f).values()) for f in dims)


def _ranks_below_dense(out_dims, in_dims):
    """Both counts grow with the rank, so the ranks below dense are 1..r: r by bisection."""
    dense = prod(out_dims) * prod(in_dims)

    def below(r):
        shape = TTShape(out_dims, in_dims, (1, *[r] * (len(out_dims) - 1), 1))
        return parameters(shape) < dense and flops(shape) < 2 * dense

    low, high = 0, shapes.uniform_rank_cap(out_dims, in_dims)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if below(middle) else (low, middle - 1)
    return range(1, low + 1)


def _ordered(n, d):
    factors = [f for f in range(2, n + 1) if n % f == 0]
    return [dims for dims in product(factors, repeat=d) if prod(dims) == n]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 4))
def test_counts_equal_enumeration(m, n, d):
    outs, ins = _ordered(m, d), _ordered(n, d)
    assert space_size(m, n, (d,), unit_modes=False).shapes == len(outs) * len(ins)
    aligned = list(shapes.aligned_dims(m, n, d))
    classes = Counter((tuple(sorted(o, reverse=True)), tuple(sorted(i))) for o, i in product(outs, ins))
    assert sorted(aligned) == sorted(classes)


@pytest.mark.parametrize(("m", "n"), [(7, 12), (12, 7), (97, 101), (1, 12), (12, 1), (1, 1)])
def test_prime_and_unit_sizes_have_only_plain_low_rank(m, n):
    assert list(shapes.explored_dims(m, n)) == [shapes.low_rank_dims(m, n)]


@given(st.sampled_from([(24, 36), (30, 64), (12, 16)]), st.sampled_from([2, 3]), st.data())
def test_aligned_order_has_the_fewest_flops(size, d, data):
    out_dims, in_dims = data.draw(st.sampled_from(list(shapes.aligned_dims(*size, d))))
    ranks = (1, *data.draw(st.lists(st.integers(1, 9), min_size=d - 1, max_size=d - 1)), 1)
    best = flops(TTShape(out_dims, in_dims, ranks))
    for out_order, in_order in product(permutations(out_dims), permutations(in_dims)):
        assert best <= flops(TTShape(out_order, in_order, ranks))


def test_infeasible_shapes_are_refused():
    with pytest.raises(ValueError, match="multiplies to"):
        shapes.require_decomposable((4, 5), TTShape((2, 2), (2, 2), (1, 2, 1)))
    with pytest.raises(ValueError, match="r_1 = 5 .* above the 4"):
        shapes.require_decomposable((4, 6), TTShape((2, 2), (2, 3), (1, 5, 1)))
    with pytest.raises(ValueError, match="r_2 = 7 .* above the 6"):  # below its cap, but r_1 m_2 n_2 = 6
        shapes.require_decomposable((12, 27), TTShape((2, 2, 3), (3, 3, 3), (1, 1, 7, 1)))

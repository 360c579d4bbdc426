from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.tt.counting import SPACE_DEPTHS, SpaceSize, space_size
from lrf_dse.tt.shapes import MAX_RANK, rank_caps


def factor_tuples(n, d, smallest):
    divisors = [k for k in range(smallest, n + 1) if n % k == 0]
    return [factors for factors in product(divisors, repeat=d) if prod(factors) == n]


@given(st.integers(1, 24), st.integers(1, 24), st.integers(2, 4), st.booleans(), st.sampled_from([3, 7, MAX_RANK]))
def test_every_size_by_brute_force(m, n, d, unit_modes, max_rank):
    smallest = 1 if unit_modes else 2
    found = SpaceSize(0, 0, 0)
    for out_dims, in_dims in product(factor_tuples(m, d, smallest), factor_tuples(n, d, smallest)):
        if all(a * b > 1 for a, b in zip(out_dims, in_dims, strict=True)):
            caps = [min(max_rank, cap) for cap in rank_caps(out_dims, in_dims)]
            found += SpaceSize(1, min(caps), prod(caps))
    assert space_size(m, n, (d,), unit_modes=unit_modes, max_rank=max_rank) == found


def test_huge_spaces_are_counted_to_the_last_digit():
    """Two layers whose numbers of tuples are above 10^15 and 10^20: sums of depths, and not rounded."""
    for m, n, least in ((3072, 768, 10**15), (5040, 25088, 10**20)):
        whole = space_size(m, n)
        assert whole.tuples > least
        parts = [space_size(m, n, (d,)) for d in SPACE_DEPTHS]
        assert whole == sum(parts, SpaceSize(0, 0, 0))
        # In and out change places: the same space by another path over other axes.
        assert whole == space_size(n, m)


def test_a_shape_has_two_cores_or_more():
    with pytest.raises(ValueError, match="2 cores or more"):
        space_size(4, 4, (1,))


def test_sizes_without_factors():
    assert space_size(1, 1) == space_size(7, 1, unit_modes=False) == SpaceSize(0, 0, 0)
    assert space_size(1, 7) == SpaceSize(0, 0, 0), "a vector has no second core"
    assert space_size(7, 13, (2,)) == SpaceSize(2, 14, 14), "low rank, and the outer product the other way round"

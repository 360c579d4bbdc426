from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.tt.counting import space_size
from lrf_dse.tt.orders import block_of, factor_table, sampled_blocks, shape_blocks


def rows_of(blocks):
    return [(tuple(m), tuple(n)) for b in blocks for m, n in zip(b.out_dims.tolist(), b.in_dims.tolist(), strict=True)]


@given(st.integers(1, 24), st.integers(1, 24), st.integers(2, 4), st.sampled_from([1, 7, 10_000]))
def test_blocks_hold_every_shape_once(m, n, d, block):
    factors = (
        [[f for f in product(range(1, size + 1), repeat=d) if prod(f) == size] for size in (m, n)] if d < 4 else None
    )
    found = rows_of(shape_blocks(m, n, d, block=block))
    assert len(found) == len(set(found)) == space_size(m, n, (d,)).shapes
    assert all(
        prod(outs) == m and prod(ins) == n and min(map(prod, zip(outs, ins, strict=True))) > 1 for outs, ins in found
    )
    if factors:
        assert set(found) == {pair for pair in product(*factors) if all(a * b > 1 for a, b in zip(*pair, strict=True))}


def test_a_block_is_bounded():
    sizes = [len(block) for block in shape_blocks(5040, 5040, 2, block=1000)]
    assert max(sizes) <= 1000 < sum(sizes)


def test_products_up_to_and_from_a_core():
    block = block_of([((4, 3, 2), (1, 5, 7)), ((2, 3, 4), (35, 1, 1))])
    assert block.d == 3
    assert block.sizes.tolist() == [[4, 15, 14], [70, 3, 4]]
    assert block.outs_upto.tolist() == [[4, 12, 24], [2, 6, 24]]
    assert block.ins_upto.tolist() == [[1, 5, 35], [35, 35, 35]]
    assert block.outs_from.tolist() == [[24, 6, 2], [24, 12, 4]]
    assert block.ins_from.tolist() == [[35, 35, 7], [35, 1, 1]]
    assert rows_of([block[np.array([1])]]) == [((2, 3, 4), (35, 1, 1))]


@pytest.mark.parametrize("d", [3, 4])
def test_a_sample_has_its_share_and_is_always_the_same(d):
    whole = set(rows_of(shape_blocks(300, 784, d)))
    found = rows_of(sampled_blocks(300, 784, d, 0.1, seed=3))
    assert len(found) == len(set(found))
    assert set(found) < whole
    assert len(found) == pytest.approx(0.1 * len(whole), rel=0.15)
    assert rows_of(sampled_blocks(300, 784, d, 0.1, seed=3, block=50)) == found
    assert rows_of(sampled_blocks(300, 784, d, 0.1, seed=4)) != found


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95, 1.0])
def test_a_large_share_holds_no_shape_twice(share):
    found = rows_of(sampled_blocks(24, 36, 3, share, seed=0, block=11))
    whole = space_size(24, 36, (3,)).shapes
    assert len(found) == len(set(found))
    assert 0.5 * share * whole < len(found) <= share * whole + 10
    assert share < 1 or len(found) > 0.6 * whole


def test_tables_are_shared_and_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        factor_table(12, 2)[0, 0] = 5

"""Every contraction order, with and without merged cores, is the same matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cores as random_cores
from strategies import tt_shapes

from lrf_dse.codegen import KernelSpec, default_schedule, schedules
from lrf_dse.codegen.stages import contraction_orders, merge_cores, merged_shapes, stage_matrix, stages_of
from lrf_dse.cost.counts import stage_counts
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.contraction import to_matrix


def contract(cores, order, x):
    """x [batch, N] through the stages, in float64."""
    state = x.astype(np.float64)
    for stage in stages_of([core.shape for core in cores], order, batch=len(x)):
        matrix = stage_matrix(cores[stage.core], stage.side)
        count = stage.count
        assert matrix.shape == (count.rows, count.k)
        state = np.matmul(matrix.astype(np.float64), state.reshape(count.batches, count.k, count.columns))
    return state.reshape(len(x), -1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_order_is_the_dense_layer(data) -> None:
    shape = data.draw(tt_shapes(max_d=5, max_dim=3))
    cores = data.draw(random_cores(shape))
    batch = data.draw(st.integers(1, 3))
    x = np.random.default_rng(1).standard_normal((batch, shape.in_features))
    expected = x @ to_matrix(cores).astype(np.float64).T
    merges = data.draw(st.lists(st.integers(1, 3), min_size=1).filter(lambda v: sum(v) >= shape.d))
    while sum(merges) > shape.d:
        merges = merges[:-1] if sum(merges[:-1]) >= shape.d else [*merges[:-1], shape.d - sum(merges[:-1])]
    for parts in (cores, merge_cores(cores, merges)):
        for order in contraction_orders(len(parts)):
            np.testing.assert_allclose(contract(parts, order, x), expected, rtol=1e-5, atol=1e-4)
    assert merged_shapes(shape.core_shapes, merges) == tuple(core.shape for core in merge_cores(cores, merges))


@given(tt_shapes(), st.integers(1, 4))
def test_the_two_ends_are_the_orders_of_the_cost_model(shape, batch) -> None:
    for order, name in ((range(shape.d - 1, -1, -1), "last_first"), (range(shape.d), "first_first")):
        counts = tuple(stage.count for stage in stages_of(shape.core_shapes, tuple(order), batch=batch))
        assert counts == stage_counts(shape, name, batch=batch)


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1), (0, 1, 1)])
def test_an_order_must_grow_an_interval(order) -> None:
    with pytest.raises(ValueError, match="order"):
        stages_of([(1, 2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 1)], order, batch=1)


@pytest.mark.parametrize("merges", [(2,), (4,), (0, 3), ()])
def test_merges_must_make_up_the_cores(merges) -> None:
    with pytest.raises(ValueError, match="merges"):
        merged_shapes([(1, 2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 1)], merges)


def test_cores_are_merged_where_that_saves_multiply_adds_but_never_all_of_them() -> None:
    target = load_target("spacemit-k1")
    shape = TTShape((5, 5, 4, 3), (4, 4, 7, 7), (1, 8, 8, 8, 1))
    spec = KernelSpec(shape, shape.out_features, shape.in_features)
    assert default_schedule(spec, target).merges == (2, 2)
    # A layer of ranks so large that W itself has fewer multiply-adds.
    large = TTShape((4, 4, 4), (4, 4, 4), (1, 16, 16, 1))
    assert all(len(s.merges) > 1 for s in schedules(KernelSpec(large, 64, 64), target, 50))
    # The low-rank pair is best as it is.
    pair = TTShape((300, 1), (1, 784), (1, 32, 1))
    assert default_schedule(KernelSpec(pair, 300, 784), target).merges == (1, 1)

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import KernelSpec, lower_bound
from lrf_dse.codegen.bound_columns import LayerBound
from lrf_dse.cost.counts import flops
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.target import load_target
from tests import strategies

TARGETS = {name: load_target(name) for name in ("spacemit-k1", "canaan-k230", "starfive-jh7110")}


@settings(deadline=None, max_examples=80)
@given(
    strategies.tt_shapes(max_d=6, feasible=False), st.integers(1, 3), st.booleans(), st.sampled_from(sorted(TARGETS))
)
def test_columns_are_the_bound_of_every_shape(shape, batch, has_bias, name):
    target = TARGETS[name]
    layer = FcLayer("fc", shape.in_features, shape.out_features, batch, has_bias)
    bound = LayerBound(layer, target)
    spec = KernelSpec(shape, shape.out_features, shape.in_features, batch=batch, has_bias=has_bias)
    columns = [np.array([row, row]) for row in (shape.out_dims, shape.in_dims, shape.ranks)]
    assert bound.of(*columns).tolist() == pytest.approx([lower_bound(spec, target)] * 2, rel=1e-12)
    fewest = sum(int(np.prod(core)) for core in shape.core_shapes)
    none = np.array([0])
    assert bound.at_least(none, none)[0] <= bound.at_least(np.array([fewest]), none)[0]


def test_large_layers_do_not_overflow():
    """25088 x 4096 with a rank of 1024 everywhere: 10^13 multiply-adds in some orders."""
    outs, ins, ranks = (16, 16, 16), (16, 32, 49), (1, 256, 784, 1)
    target = TARGETS["spacemit-k1"]
    layer = FcLayer("fc", 25088, 4096, 8, True)
    spec = KernelSpec(TTShape(outs, ins, ranks), 4096, 25088, batch=8, has_bias=True)
    found = LayerBound(layer, target).of(*(np.array([row]) for row in (outs, ins, ranks)))
    assert found.tolist() == pytest.approx([lower_bound(spec, target)], rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(strategies.tt_shapes(max_d=5, feasible=False), st.integers(1, 3))
def test_costs_of_cores_add_up_to_no_less_than_their_multiply_adds(shape, batch):
    """In the cheaper of two orders, every stage for itself: what a sum of stages cannot beat."""
    target = TARGETS["spacemit-k1"]
    layer = FcLayer("fc", shape.in_features, shape.out_features, batch, False)
    cost = LayerBound(layer, target).core_cost(shape)
    pairs = [(np.array([left]), np.array([right])) for left, right in pairwise(shape.ranks)]
    whole = sum(float(cost(k, *pair)[0]) for k, pair in enumerate(pairs))
    peak = target.core.fma_per_cycle.value
    orders = [flops(shape, order, batch=batch) / 2 / peak for order in ("last_first", "first_first")]
    assert whole >= min(orders) * (1 - 1e-12)
    assert all(cost(k, left + 1, right)[0] > cost(k, left, right)[0] for k, (left, right) in enumerate(pairs))

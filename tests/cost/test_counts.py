from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.cost import counts
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from tests import strategies


def brute_force_multiply_adds(shape, order, batch):
    """Multiply-adds by contracting one core at a time over every index (not through stage matrices)."""
    total = 0
    modes = [("n", k) for k in range(shape.d)]  # the state's axes beside the batch and the rank
    for k in range(shape.d) if order == "first_first" else reversed(range(shape.d)):
        sizes = {("n", t): shape.in_dims[t] for t in range(shape.d)} | {
            ("m", t): shape.out_dims[t] for t in range(shape.d)
        }
        kept = [axis for axis in modes if axis != ("n", k)]
        loops = [batch, *(sizes[axis] for axis in kept), *shape.core_shapes[k]]
        total += sum(1 for _ in product(*map(range, loops)))
        modes = [*kept, ("m", k)]
    return total


@settings(deadline=None, max_examples=50)
@given(strategies.tt_shapes(max_d=4, max_dim=3, max_features=24, feasible=False), strategies.orders, st.integers(1, 3))
def test_flops_are_the_multiply_adds(shape, order, batch):
    bias = batch * shape.out_features
    counted = counts.flops(shape, order, batch=batch)
    assert counted == 2 * brute_force_multiply_adds(shape, order, batch)
    assert counts.flops(shape, order, batch=batch, bias=True) == counted + bias
    assert sum(stage.flops for stage in counts.stage_counts(shape, order, batch=batch)) == counted


@given(strategies.tt_shapes(max_d=5, feasible=False), strategies.orders, st.integers(1, 3))
def test_stages_chain_from_the_input_to_the_output(shape, order, batch):
    stages = counts.stage_counts(shape, order, batch=batch)
    states = [stages[0].state_in_bytes] + [stage.state_out_bytes for stage in stages]
    assert states[0] == 4 * batch * shape.in_features
    assert states[-1] == 4 * batch * shape.out_features
    assert all(stage.state_in_bytes == before for stage, before in zip(stages, states, strict=False))
    assert sum(stage.weight_bytes for stage in stages) == 4 * counts.parameters(shape)


@given(st.data())
def test_parameters_are_the_elements_of_the_cores(data):
    shape = data.draw(strategies.tt_shapes(max_d=5, feasible=False))
    elements = sum(core.size for core in data.draw(strategies.cores(shape)))
    assert counts.parameters(shape) == elements
    assert counts.parameters(shape, bias=True) == elements + shape.out_features


@given(strategies.fc_layers())
def test_dense_counts(layer):
    weight, bias = np.zeros((layer.out_features, layer.in_features)), layer.out_features * layer.has_bias
    assert counts.dense_parameters(layer) == weight.size + bias
    assert counts.dense_flops(layer) == layer.batch * (2 * weight.size + bias)
    assert counts.dense_stage(layer).flops == 2 * layer.batch * weight.size
    assert counts.dense_stage(layer).weight_bytes == 4 * weight.size


def test_a_low_rank_pair_by_hand():
    shape = TTShape((300, 1), (1, 784), (1, 16, 1))
    assert counts.parameters(shape) == 16 * (300 + 784)
    assert counts.flops(shape, batch=2, bias=True) == 2 * (2 * 16 * (300 + 784) + 300)
    assert counts.dense_parameters(FcLayer("fc", 784, 300, 1, True)) == 235500


def test_the_count_of_a_candidate_follows_its_order():
    layer = FcLayer("fc", 784, 300, 2, True)
    shape = TTShape((300, 1), (1, 784), (1, 16, 1))
    found = counts.layer_count(Candidate(layer, shape))
    states = 2 * (784 + 16 + 16 + 300)
    assert found == counts.LayerCount(16 * 1084 + 300, 2 * (2 * 16 * 1084 + 300), 4 * (16 * 1084 + states + 300))
    assert counts.layer_count(Candidate(layer, shape, order="first_first")).flops > found.flops
    dense = counts.layer_count(dense_candidate(layer))
    assert dense == counts.LayerCount(235500, counts.dense_flops(layer), 4 * (784 * 300 + 2 * 1084 + 300))

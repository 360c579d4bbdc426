import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.codegen.stages import contraction_orders, core_merges, merged_shapes, stages_of
from lrf_dse.cost import counts
from lrf_dse.cost.curves import flop_curves, least_multiply_adds, least_weights, parameter_curves, rank_steps
from lrf_dse.cost.tuples import tuple_counts
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.tt.orders import block_of


@st.composite
def shapes(draw, max_d=6):
    """Modes of a shape, units among them, with a layer."""
    d = draw(st.integers(2, max_d))
    modes = draw(
        st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)).filter(lambda m: max(m) > 1), min_size=d, max_size=d)
    )
    outs, ins = zip(*modes, strict=True)
    layer = FcLayer("fc", int(np.prod(ins)), int(np.prod(outs)), draw(st.integers(1, 3)), draw(st.booleans()))
    return outs, ins, layer


def uniform(outs, ins, rank):
    return TTShape(outs, ins, (1, *[rank] * (len(outs) - 1), 1))


@given(shapes(), st.integers(1, 40))
def test_polynomials_are_the_exact_counts(shape, rank):
    outs, ins, layer = shape
    block, one, r = block_of([(outs, ins)]), np.array([0]), np.array([rank])
    exact = uniform(outs, ins, rank)
    assert parameter_curves(block, layer).at(one, r) == counts.parameters(exact, bias=layer.has_bias)
    for first_first, order in ((False, "last_first"), (True, "first_first")):
        found = flop_curves(block, layer, first_first=first_first).at(one, r)
        assert found == counts.flops(exact, order, batch=layer.batch, bias=layer.has_bias)


@given(shapes(), st.data())
def test_counts_of_rank_tuples(shape, data):
    outs, ins, layer = shape
    inner = data.draw(st.lists(st.integers(1, 9), min_size=len(outs) - 1, max_size=len(outs) - 1))
    params, flops = tuple_counts(block_of([(outs, ins)]), np.array([inner]), layer)
    exact = TTShape(outs, ins, (1, *inner, 1))
    assert params.tolist() == [counts.parameters(exact, bias=layer.has_bias)]
    assert flops.tolist() == [counts.flops(exact, batch=layer.batch, bias=layer.has_bias)]


@given(shapes(), st.integers(0, 50_000))
def test_the_largest_rank_below_a_limit(shape, limit):
    outs, ins, layer = shape
    curve = parameter_curves(block_of([(outs, ins)]), layer)
    (rank,) = curve.largest_below(limit).tolist()
    one = np.array([0])
    assert rank >= 0
    assert rank == 0 or curve.at(one, np.array([rank])) < limit
    assert curve.at(one, np.array([rank + 1])) >= limit


@given(shapes(), st.data())
def test_no_merge_leaves_fewer_weights_than_the_least(shape, data):
    outs, ins, _ = shape
    rank = data.draw(st.integers(1, min(outs[0] * ins[0], outs[-1] * ins[-1])))  # up to the cap
    exact = uniform(outs, ins, rank)
    fewest = min(
        sum(int(np.prod(core)) for core in merged_shapes(exact.core_shapes, merges)) for merges in core_merges(exact.d)
    )
    least = min(int(curve.at(np.array([0]), np.array([rank]))[0]) for curve in least_weights(block_of([(outs, ins)])))
    assert least == fewest


@given(shapes(max_d=4), st.sampled_from([4, 6, 8]))
def test_ranks_that_fill_vectors(shape, lanes):
    """By the stages of the cheaper order: whole columns, or whole rows of those that hold a rank."""
    outs, ins, _layer = shape
    (step,) = rank_steps(block_of([(outs, ins)]), lanes).tolist()
    at_lanes = uniform(outs, ins, lanes)
    order = min(("last_first", "first_first"), key=lambda order: counts.flops(at_lanes, order))

    def fills(rank):
        stages = counts.stage_counts(uniform(outs, ins, rank), order)
        with_rank = stages[:-1]  # the last one to run has the outputs for its rows, and no rank
        return all(stage.columns % lanes == 0 or stage.rows % lanes == 0 for stage in with_rank)

    assert lanes % step == 0
    assert fills(step)
    assert not any(fills(rank) for rank in range(1, step))


@given(shapes(max_d=4), st.data())
def test_no_contraction_takes_fewer_multiply_adds_than_the_least(shape, data):
    outs, ins, _ = shape
    rank = data.draw(st.integers(1, min(outs[0] * ins[0], outs[-1] * ins[-1])))
    exact = uniform(outs, ins, rank)
    fewest = min(
        sum(stage.count.flops for stage in stages_of(cores, order, batch=1)) // 2
        for merges in core_merges(exact.d)
        for cores in [merged_shapes(exact.core_shapes, merges)]
        for order in contraction_orders(len(cores))
    )
    (least,) = least_multiply_adds(block_of([(outs, ins)]), np.array([0]), np.array([rank])).tolist()
    assert 0 < least <= fewest
    assert exact.d > 2 or not exact.is_low_rank or least == fewest

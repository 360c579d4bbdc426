from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen.bound_columns import LayerBound
from lrf_dse.cost import counts
from lrf_dse.cost.curves import parameter_curves
from lrf_dse.cost.grid import LossGrid
from lrf_dse.cost.search import CycleBounds, FrontSearch
from lrf_dse.front.pareto import front_of_three
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.error_bounds import OfAnyWeights, OfSpectra
from lrf_dse.tt.orders import shape_blocks
from lrf_dse.tt.shapes import rank_caps
from lrf_dse.tt.spectra import affordable_unfoldings, error_bound, layer_spectra
from tests import strategies

K1 = load_target("spacemit-k1")


@given(st.lists(st.tuples(*[st.integers(1, 5000)] * 2, st.integers(0, 9)), max_size=30), st.data())
def test_the_grid_never_turns_a_point_of_the_front_away(known, data):
    points = np.array(known, dtype=np.float64).reshape(-1, 3)
    asked = np.array(data.draw(st.lists(st.tuples(*[st.integers(1, 5000)] * 2, st.integers(0, 9)), min_size=1)), float)
    enters = LossGrid(*points.T).may_enter(*asked.T)
    for point, may in zip(asked, enters, strict=True):
        dominated = bool(((points[:, :2] < point[:2]).all(axis=1) & (points[:, 2] <= point[2])).any())
        assert may or dominated
    # What is worse by more than a cell in both is seen.
    if len(points):
        assert not LossGrid(*points.T).may_enter(*(points * [1.1, 1.1, 1.0] + [16, 16, 0]).T).any()


def all_shapes(layer, depths):
    """Every shape with every rank that all cuts share."""
    for d in depths:
        tables = [
            [f for f in product(range(1, n + 1), repeat=d) if prod(f) == n]
            for n in (layer.out_features, layer.in_features)
        ]
        for outs, ins in product(*tables):
            if all(a * b > 1 for a, b in zip(outs, ins, strict=True)):
                for rank in range(1, min(rank_caps(outs, ins)) + 1):
                    yield TTShape(outs, ins, (1, *[rank] * (d - 1), 1))


def searched(layer, spectra, depths):
    """What the search finds, told all shapes and all ranks below dense."""
    bound = LayerBound(layer, K1)
    errors = OfSpectra(spectra)
    search = FrontSearch(layer, errors, CycleBounds(bound.of, bound.at_least, bound.core_cost))
    for d in depths:
        for block in shape_blocks(layer.out_features, layer.in_features, d, block=37):
            caps = np.minimum(block.sizes[:, 0], block.sizes[:, -1])
            last = np.minimum(caps, parameter_curves(block, layer).largest_below(counts.dense_parameters(layer)))
            some = np.flatnonzero(last)
            search.add(block[some], errors.cuts(block)[some], np.ones_like(some), last[some], np.ones_like(some))
    return search


@settings(deadline=None, max_examples=25)
@given(strategies.fc_layers(max_features=12, max_batch=3), st.data())
def test_no_point_of_a_true_front_is_lost(layer, data):
    """Every shape with every rank, above dense too, by the exact counts of single candidates; dense competes."""
    depths = (2, 3, 4)
    spectra = layer_spectra(data.draw(strategies.weights(layer.out_features, layer.in_features)))
    points = searched(layer, spectra, depths).points
    bound = LayerBound(layer, K1)
    shapes = list(all_shapes(layer, depths))
    dense = counts.dense_parameters(layer), counts.dense_flops(layer)
    dense_bound = float(bound.at_least(np.array([layer.out_features * layer.in_features]), np.array([0]))[0])
    params = np.array([dense[0], *(counts.parameters(s, bias=layer.has_bias) for s in shapes)])
    flops = np.array([dense[1], *(counts.flops(s, batch=layer.batch, bias=layer.has_bias) for s in shapes)])
    errors = np.array([0.0, *(error_bound(spectra, s) for s in shapes)])
    bounds = np.array([dense_bound, *(_bound_of(bound, s) for s in shapes)])
    for latency, found in ((flops, points.flops), (bounds, points.bounds)):
        for i in front_of_three(latency, params, errors):
            as_good = (
                (found <= latency[i] * (1 + 1e-12))
                & (points.params <= params[i])
                & (points.errors <= errors[i] + 1e-12)
            )
            assert i == 0 or as_good.any(), shapes[i - 1]
    # And what stands there is what it says.
    for i in range(len(points)):
        shape = points.shape(i)
        assert points.params[i] == counts.parameters(shape, bias=layer.has_bias)
        assert points.flops[i] == counts.flops(shape, batch=layer.batch, bias=layer.has_bias)
        assert points.errors[i] == pytest.approx(error_bound(spectra, shape), abs=1e-12)
        assert points.bounds[i] == pytest.approx(_bound_of(bound, shape), rel=1e-12)


def _bound_of(bound, shape):
    return float(bound.of(*(np.array([row]) for row in (shape.out_dims, shape.in_dims, shape.ranks)))[0])


def test_ranges_spare_most_of_the_work():
    layer = FcLayer("fc", 96, 64, 1, True)
    rng = np.random.default_rng(0)
    weight = ((rng.standard_normal((64, 64)) / np.arange(1, 65)) @ rng.standard_normal((64, 96))).astype(np.float32)
    search = searched(layer, layer_spectra(weight), (2, 3, 4))
    assert 0 < len(search.points) < search.evaluated < 250_000, "of 700 thousand"


@settings(deadline=None)
@given(strategies.tt_shapes(max_d=4, max_dim=4), st.data())
def test_bounds_by_columns_are_those_of_single_shapes(shape, data):
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    from lrf_dse.tt.orders import block_of

    block, ranks = block_of([(shape.out_dims, shape.in_dims)]), np.array([shape.ranks[1:-1]])
    spectra = layer_spectra(weight)
    found = {}
    for errors in (OfSpectra(spectra), OfAnyWeights()):
        cuts = errors.cuts(block)
        if min(block.sizes[0]) > 1:  # a core without modes has no cut of its own
            found[type(errors)] = float(errors.bounds(cuts, ranks)[0])
            energy = sum(errors.tail(cut)[rank] for cut, rank in zip(cuts[0], ranks[0], strict=True))
            assert found[type(errors)] == pytest.approx(min(energy, 1 if errors.__class__ is OfSpectra else 9) ** 0.5)
    if found:
        assert found[OfSpectra] == pytest.approx(error_bound(spectra, shape), abs=1e-12)
        assert found[OfSpectra] <= found[OfAnyWeights] + 1e-6, "what holds for any weights holds for these"


def test_spectra_beyond_those_of_aligned_shapes_are_as_many_as_there_is_time_for():
    few, some, every = (affordable_unfoldings(48, 60, more_work=work) for work in (0, 1e5, 1e12))
    assert few < some < every
    assert len(every) == 10 * 12 - 2
    errors = OfSpectra(layer_spectra(np.ones((48, 60), np.float32), more_work=0))
    (block,) = shape_blocks(48, 60, 3)
    known = (errors.cuts(block) >= 0).all(axis=1)
    assert known.any() and not known.all()

import time
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.cost import counts
from lrf_dse.cost.closed_form import predicted_cycles
from lrf_dse.cost.prune import non_dominated, prune
from lrf_dse.cost.spread import spread
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import load_target
from lrf_dse.tt.shapes import enumerate_shapes, low_rank_dims, ordered_space_size, uniform_rank_cap
from lrf_dse.tt.spectra import error_bound, layer_spectra
from tests import strategies

K1 = load_target("spacemit-k1")
GENERIC = load_target("qemu-rv64gcv")


def columns(points):
    return [np.array(column, dtype=dtype) for column, dtype in zip(points.T, (np.int64, np.int64, float), strict=True)]


def at_least_as_good(points):
    """[i, j]: point i is no worse than point j in every column; each point is so with itself."""
    return (points[:, None, :] <= points[None, :, :]).all(axis=2)


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=40))
def test_the_front_by_brute_force(rows):
    points = np.array(rows).reshape(-1, 3)
    kept = non_dominated(*columns(points))
    good = at_least_as_good(points)
    assert np.array_equal(good[np.ix_(kept, kept)], np.eye(len(kept), dtype=bool))  # mutually non-dominated
    assert good[kept].any(axis=0).all()  # every point is kept, or no better than a kept one


def test_a_hundred_thousand_points_take_a_second_or_two():
    rng = np.random.default_rng(0)
    # A thick shell around the origin: a long front, and many points just behind it.
    shell = np.abs(rng.standard_normal((100_000, 3)))
    shell *= rng.uniform(1.0, 1.01, (100_000, 1)) / np.linalg.norm(shell, axis=1, keepdims=True)
    points = (shell * 1e9).astype(np.int64)
    started = time.perf_counter()
    kept = non_dominated(*columns(points))
    assert time.perf_counter() - started < 10  # 0.1 s when the machine is idle; comparing all pairs takes minutes
    assert 1000 < kept.size < 99_000


def fewest_flops(shape, layer):
    """By merging neighbours, two at a time, again and again, to two cores at least."""
    own = counts.flops(shape, batch=layer.batch, bias=layer.has_bias)
    if shape.d == 2:
        return own
    merged = []
    for k in range(shape.d - 1):
        out_dims, in_dims = (
            (*dims[:k], dims[k] * dims[k + 1], *dims[k + 2 :]) for dims in (shape.out_dims, shape.in_dims)
        )
        merged.append(TTShape(out_dims, in_dims, shape.ranks[: k + 1] + shape.ranks[k + 2 :]))
    return min(own, *(fewest_flops(each, layer) for each in merged))


def flops_in_dense_time(layer, target):
    """What the FMA peak does while the dense layer is predicted to run; anything where that is not predicted."""
    cycles = predicted_cycles(dense_candidate(layer), target)
    return np.inf if cycles is None else 2 * target.core.fma_per_cycle.value * cycles


@settings(deadline=None, max_examples=60)
@given(strategies.fc_layers(max_features=48), st.integers(1, 8), st.data())
def test_the_funnel_by_brute_force(layer, multiple, data):
    target = data.draw(st.sampled_from([K1, GENERIC]))
    weight = data.draw(strategies.weights(layer.out_features, layer.in_features))
    spectra = layer_spectra(weight)
    result = prune(layer, spectra, target, rank_multiple=multiple, top=10_000)
    size = (layer.out_features, layer.in_features)
    shapes = list(enumerate_shapes(*size, rank_multiple=multiple))
    below = [s for s in shapes if counts.parameters(s, bias=layer.has_bias) < counts.dense_parameters(layer)]
    rows = [
        (
            counts.flops(s, batch=layer.batch, bias=layer.has_bias),
            predicted_cycles(Candidate(layer, s), target),
            counts.parameters(s, bias=layer.has_bias),
            round(error_bound(spectra, s), 12),
        )
        for s in below
    ]
    inside = [(shape, row) for shape, row in zip(below, rows, strict=True) if row[3] < 1]
    bounded = [row for shape, row in inside if fewest_flops(shape, layer) <= flops_in_dense_time(layer, target)]
    remaining = [step.remaining for step in result.funnel]
    assert remaining[0] == ordered_space_size(*size) + uniform_rank_cap(*low_rank_dims(*size))
    assert remaining[1] == sum(1 for _ in enumerate_shapes(*size))
    assert remaining[2:6] == [len(shapes), len(below), len(inside), len(bounded)]
    assert remaining[-1] == remaining[-2] == len(result.survivors)
    assert [s.removed for s in result.funnel] == [0, *(a - b for a, b in pairwise(remaining))]
    assert all((c.cycles is None) == (target is GENERIC) for c in (*result.survivors, result.dense))
    survivors = {(c.flops, c.cycles, c.params, round(c.error_bound, 12)) for c in result.survivors}
    assert survivors <= set(bounded)
    # Whatever was thrown away, one that is no worse for a generated kernel stayed, and one that is none for IREE's.
    latencies = [0] if target is GENERIC else [0, 1]
    for at, row in product(latencies, bounded):
        assert any(s[at] <= row[at] and s[2] <= row[2] and s[3] <= row[3] for s in survivors)
    for s in survivors:  # and each is there for one of the two
        assert any(not any(r[at] < s[at] and r[2] < s[2] and r[3] < s[3] - 1e-9 for r in bounded) for at in latencies)
    assert ("predicted cycles" in result.funnel[-2].reason) == (target is K1)
    assert result.dense.params == counts.dense_parameters(layer)
    assert result.dense.flops == counts.dense_flops(layer)


def _trained_like(m, n):
    rng = np.random.default_rng(1)
    decay = 1 / np.arange(1, min(m, n) + 1)
    return ((rng.standard_normal((m, min(m, n))) * decay) @ rng.standard_normal((min(m, n), n))).astype(np.float32)


def test_both_families_and_the_default_rank_multiple():
    layer = FcLayer("fc1", 784, 300, 1, True)
    # Two Kronecker terms: TT of rank 2 is exact, while plain low rank needs far more.
    rng = np.random.default_rng(2)
    kronecker = sum(np.kron(rng.standard_normal((25, 4)), rng.standard_normal((12, 196))) for _ in range(2))
    weight = (kronecker + 0.3 * _trained_like(300, 784) * np.abs(kronecker).max()).astype(np.float32)
    result = prune(layer, layer_spectra(weight), K1, top=24)
    shapes = [c.candidate.tt_shape for c in result.survivors]
    assert any(s.is_low_rank for s in shapes)
    assert any(not s.is_low_rank for s in shapes)
    assert all(s.ranks[1] % 8 == 0 for s in shapes)
    assert len(shapes) == 24
    assert [c.params for c in result.survivors] == sorted(c.params for c in result.survivors)
    assert prune(layer, layer_spectra(weight), K1, top=24) == result


def test_shapes_that_no_kernel_makes_faster_than_dense_are_left_out():
    """A wide head with few inputs: a TT shape next to dense in size takes several times its FLOPs."""
    layer = FcLayer("fc", 24, 660, 12, True)
    weight = np.random.default_rng(0).standard_normal((660, 24)).astype(np.float32)
    found, blind = (
        prune(layer, layer_spectra(weight), target, top=10_000, rank_multiple=4) for target in (K1, GENERIC)
    )
    (removed,) = (step.removed for step in found.funnel if step.name == "faster")
    assert removed > 100
    limit = flops_in_dense_time(layer, K1)
    assert all(fewest_flops(each.candidate.tt_shape, layer) <= limit for each in found.survivors)
    assert any(fewest_flops(each.candidate.tt_shape, layer) > limit for each in blind.survivors)


@pytest.mark.parametrize(("top", "kinds"), [(1, (1, 1)), (2, (2, 1)), (5, (5, 3)), (10_000, None)])
def test_low_rank_comes_beside_tt_shapes_where_fits_see_data(top, kinds):
    """Weights that plain low rank fits best of all: by the bounds alone every TT shape is dominated."""
    layer = FcLayer("fc", 60, 48, 1, True)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((48, 8)) @ rng.standard_normal((8, 60))).astype(np.float32)
    spectra = layer_spectra(weight)
    found, rivals = (prune(layer, spectra, K1, top=top, by_kind=by_kind) for by_kind in (True, False))
    low_rank = [each.candidate.tt_shape.is_low_rank for each in found.survivors]
    if kinds:
        assert (low_rank.count(False), low_rank.count(True)) == kinds
    else:  # every point of either front: between them they hold the common one
        assert {each.candidate for each in rivals.survivors} < {each.candidate for each in found.survivors}
    assert [each.params for each in found.survivors] == sorted(each.params for each in found.survivors)
    assert "of the kind" in found.funnel[-2].reason


@pytest.mark.parametrize("by_kind", [False, True])
@pytest.mark.parametrize("size", [(7, 13), (1, 40), (40, 1), (1, 1), (3, 2)])
def test_nothing_below_dense_is_a_legal_result(size, by_kind):
    layer = FcLayer("fc", size[1], size[0], 1, False)
    weight = np.ones(size, dtype=np.float32)
    result = prune(layer, layer_spectra(weight), K1, by_kind=by_kind)
    assert result.survivors == ()
    assert result.funnel[-1].remaining == 0
    assert result.dense.candidate.is_dense


def test_zero_weights_survive():
    layer = FcLayer("fc", 48, 48, 1, False)
    result = prune(layer, layer_spectra(np.zeros((48, 48), np.float32)), K1)
    assert result.survivors
    assert {c.error_bound for c in result.survivors} == {0.0}


def test_wrong_arguments_are_refused():
    layer = FcLayer("fc", 12, 12, 1, False)
    spectra = layer_spectra(np.ones((12, 12), np.float32))
    with pytest.raises(ValueError, match="top"):
        prune(layer, spectra, K1, top=0)
    with pytest.raises(ValueError, match="its spectra"):
        prune(FcLayer("fc", 12, 24, 1, False), spectra, K1)


@given(st.lists(st.tuples(*[st.integers(1, 10**6)] * 3), min_size=1, max_size=60, unique=True), st.integers(1, 20))
def test_spread_takes_the_best_of_every_size_level(rows, top):
    flops, params, errors = columns(np.array(rows))
    errors = errors / 10**6
    picked = spread(params, [errors, flops.astype(float)], top)
    assert len(picked) == len(set(picked.tolist())) == min(top, len(rows))
    assert (np.diff(params[picked]) >= 0).all()
    if top >= 2 and len(rows) > top:
        log = np.log(params)
        level = np.zeros_like(params) if log.max() == log.min() else (log - log.min()) / (log.max() - log.min())
        level = np.minimum((level * (top // 2)).astype(int), top // 2 - 1)
        for members in (np.flatnonzero(level == value) for value in np.unique(level)):
            assert errors[members].min() in errors[np.intersect1d(members, picked)]
            assert flops[members].min() in flops[np.intersect1d(members, picked)]

import time
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.cost import counts
from lrf_dse.cost.prune import Latency, non_dominated, prune
from lrf_dse.cost.spread import spread
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.shapes import enumerate_shapes, low_rank_dims, ordered_space_size, uniform_rank_cap
from lrf_dse.tt.spectra import error_bound, layer_spectra
from tests import strategies

K1 = load_target("spacemit-k1")


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


def a_latency(dense=None):
    """A bound and an estimate without a machine: the estimate is never below the bound, and turns orders round."""

    def bound(candidate):
        return counts.flops(candidate.tt_shape, batch=candidate.layer.batch) / 16

    def estimate(candidate):
        return bound(candidate) * (1 + candidate.tt_shape.ranks[1] % 3) + 100 * candidate.tt_shape.d

    return Latency(bound, estimate, dense)


@settings(deadline=None, max_examples=60)
@given(strategies.fc_layers(max_features=48), st.integers(1, 8), st.sampled_from([None, 0.5, 2.0]), st.data())
def test_the_funnel_by_brute_force(layer, multiple, dense_share, data):
    dense = None if dense_share is None else dense_share * counts.dense_flops(layer) / 16
    latency = data.draw(st.sampled_from([None, a_latency(dense)]))
    weight = data.draw(strategies.weights(layer.out_features, layer.in_features))
    spectra = layer_spectra(weight)
    result = prune(layer, spectra, K1, latency=latency, rank_multiple=multiple, top=10_000)
    size = (layer.out_features, layer.in_features)
    shapes = list(enumerate_shapes(*size, rank_multiple=multiple))
    below = [s for s in shapes if counts.parameters(s, bias=layer.has_bias) < counts.dense_parameters(layer)]
    rows = [_row(layer, shape, spectra, latency) for shape in below]
    inside = [row for row in rows if row.error < 1]
    fast = [row for row in inside if latency is None or dense is None or row.bound <= dense]
    remaining = [step.remaining for step in result.funnel]
    assert remaining[0] == ordered_space_size(*size) + uniform_rank_cap(*low_rank_dims(*size))
    assert remaining[1] == sum(1 for _ in enumerate_shapes(*size))
    assert remaining[2:6] == [len(shapes), len(below), len(inside), len(fast)]
    assert remaining[-1] == remaining[-2] == len(result.survivors)
    assert [s.removed for s in result.funnel] == [0, *(a - b for a, b in pairwise(remaining))]
    assert all((c.cycles is None) == (latency is None) for c in result.survivors)
    assert result.dense.cycles == (None if latency is None else dense)
    by_shape = {row.shape: row for row in fast}
    survivors = [by_shape[c.candidate.tt_shape] for c in result.survivors]
    assert all(c.cycles in {None, by_shape[c.candidate.tt_shape].estimate} for c in result.survivors)
    near = [row for row in fast if not _dominated(row, fast, "flops") or not _dominated(row, fast, "bound")]
    for row in near:  # of what stands on a first front, everything thrown away is no better than what stayed
        assert any(_no_worse(s, row, "estimate") for s in survivors)
    for one, other in product(survivors, survivors):
        assert one is other or not _dominates(one, other, "estimate")
    assert ("estimated cycles" in result.funnel[-2].reason) == (latency is not None)
    assert result.dense.params == counts.dense_parameters(layer)
    assert result.dense.flops == counts.dense_flops(layer)


@dataclass(frozen=True)
class _Row:
    shape: TTShape
    flops: int
    bound: float
    estimate: float
    params: int
    error: float


def _row(layer, shape, spectra, latency):
    flops = counts.flops(shape, batch=layer.batch, bias=layer.has_bias)
    candidate = Candidate(layer, shape)
    known = (flops, flops) if latency is None else (latency.bound(candidate), latency.estimate(candidate))
    return _Row(shape, flops, *known, counts.parameters(shape, bias=layer.has_bias), error_bound(spectra, shape))


def _no_worse(one, other, latency):
    better = getattr(one, latency) <= getattr(other, latency) and one.params <= other.params
    return better and one.error <= other.error + 1e-9


def _dominates(one, other, latency):
    """Better in all three, rounding left out of it."""
    better = getattr(one, latency) < getattr(other, latency) and one.params < other.params
    return better and one.error < other.error - 1e-9


def _dominated(row, rows, latency):
    return any(_dominates(other, row, latency) or (other is not row and _equal(other, row, latency)) for other in rows)


def _equal(one, other, latency):
    return _no_worse(one, other, latency)


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
    dense = counts.dense_flops(layer) / 16
    found, blind = (
        prune(layer, layer_spectra(weight), K1, latency=latency, top=10_000, rank_multiple=4)
        for latency in (a_latency(dense), None)
    )
    (removed,) = (step.removed for step in found.funnel if step.name == "faster")
    assert removed > 100
    assert all(a_latency().bound(each.candidate) <= dense for each in found.survivors)
    assert any(a_latency().bound(each.candidate) > dense for each in blind.survivors)


def test_a_schedule_is_searched_only_near_the_front_and_decides_there():
    """Kernels that are the slower the fewer FLOPs they have: what FLOPs alone kept is then of no use."""
    layer = FcLayer("fc", 96, 64, 1, True)
    weight = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    asked = []

    def estimate(candidate):
        asked.append(candidate)
        return 1e9 / counts.flops(candidate.tt_shape)

    latency = Latency(lambda candidate: float(counts.flops(candidate.tt_shape)), estimate)
    found = prune(layer, layer_spectra(weight), K1, latency=latency, top=10_000, rank_multiple=2)
    near, front = (step.remaining for step in found.funnel if step.name in {"near the front", "front"})
    assert len(asked) == len(set(asked)) == near > front == len(found.survivors) > 0


def test_where_fits_see_data_no_bound_of_the_weights_drops_a_shape():
    """The bound of a sum of unfoldings may exceed 100 %, and what a fit to data loses may be a tenth of it."""
    layer = FcLayer("fc", 64, 64, 1, False)
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    steps = {
        by_kind: {
            step.name: step for step in prune(layer, layer_spectra(weight), K1, rank_multiple=4, by_kind=by_kind).funnel
        }
        for by_kind in (False, True)
    }
    assert steps[False]["bounded"].removed > 0 == steps[True]["bounded"].removed


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

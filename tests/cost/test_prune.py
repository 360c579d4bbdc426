from dataclasses import dataclass, replace
from itertools import product
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.cost import counts
from lrf_dse.cost.curves import rank_steps
from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import LayerLatency, prune
from lrf_dse.cost.search import CycleBounds
from lrf_dse.cost.tuples import tuple_counts
from lrf_dse.errors import UsageError
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.counting import monarch_size, space_size
from lrf_dse.tt.orders import ShapeBlock, block_of, shape_blocks
from lrf_dse.tt.rank_tuples import weighted_cost
from lrf_dse.tt.shapes import monarch_blocks, rank_caps
from lrf_dse.tt.spectra import error_bound, layer_spectra
from tests import strategies

K1 = load_target("spacemit-k1")


def a_latency(dense=None):
    """Bounds and an estimate without a machine: the estimate is never below the bound, and turns orders round."""

    def of(out_dims, in_dims, ranks):
        block = ShapeBlock(out_dims, in_dims)
        return tuple_counts(block, ranks[:, 1:-1], FcLayer("", *_sizes(block), 1, False))[1] / 16

    def estimate(candidate):
        shape = candidate.tt_shape
        return counts.flops(shape) / 16 * (1 + shape.ranks[1] % 3) + 100 * shape.d

    return LayerLatency(
        CycleBounds(of, lambda weights, _: weights / 16, lambda shape: weighted_cost([1] * shape.d)), estimate, dense
    )


def _sizes(block):
    return int(block.in_dims[0].prod()), int(block.out_dims[0].prod())


def steps_of(result):
    return {step.name: step for step in result.funnel}


@settings(deadline=None, max_examples=30)
@given(strategies.fc_layers(max_features=14, max_batch=3), st.sampled_from([None, 0.5, 2.0]), st.booleans(), st.data())
def test_the_funnel_by_brute_force(layer, dense_share, by_kind, data):
    dense = None if dense_share is None else dense_share * counts.dense_flops(layer) / 16
    latency = data.draw(st.sampled_from([None, a_latency(dense)]))
    weight = data.draw(strategies.weights(layer.out_features, layer.in_features))
    lanes = K1.fp32_lanes if data.draw(st.booleans()) else 1
    without = ("worth it",) if lanes > 1 else ("worth it", "whole vectors")
    spectra = layer_spectra(weight)
    narrowing = Narrowing(10_000, by_kind, depths=(2, 3), without=without)
    result = prune(layer, spectra, K1, narrowing, latency=latency)
    remaining = {name: step.remaining for name, step in steps_of(result).items()}
    size = (layer.out_features, layer.in_features)
    shapes = [*(shape for d in (2, 3) for shape in every_shape(*size, d)), *every_monarch(*size)]
    whole = sum((space_size(*size, (d,)) for d in (2, 3)), monarch_size(*size))
    tuples = remaining["ranks"] - whole.uniform
    mirrored = [s for s in shapes if s.is_monarch or not (s.d == 2 and s.out_dims[0] == s.in_dims[1] == 1)]
    below = [s for s in mirrored if counts.parameters(s, bias=layer.has_bias) < counts.dense_parameters(layer)]
    filled = [s for s in below if s.ranks[1] <= 2 * lanes or s.ranks[1] % step_of(s, lanes) == 0]
    known = [len(shapes), len(shapes), len(mirrored), len(mirrored), len(below), len(filled)]
    names = ("ranks", "sample", "mirror", "known spectra", "below dense", "whole vectors")
    assert [remaining[name] - tuples for name in names] == known
    assert remaining["whole space"] == whole.tuples
    assert tuples >= 0
    in_order = [step.remaining for step in result.funnel]
    assert all(step.removed == before - step.remaining for before, step in pairwise_steps(result.funnel))
    assert in_order[1:] == sorted(in_order[1:], reverse=True)
    assert remaining["top"] == remaining["front"] == len(result.survivors)
    survivors = [_row(layer, c.candidate.tt_shape, spectra, latency) for c in result.survivors]
    for c, row in zip(result.survivors, survivors, strict=True):
        assert (c.params, c.flops) == (row.params, row.flops)
        assert c.error_bound == pytest.approx(row.error, abs=1e-12)
        assert c.cycles is None if latency is None else c.cycles == row.estimate
    # Nothing that was dropped is better than all that stayed: by what the first fronts compare, and by the estimates.
    rows = [_row(layer, shape, spectra, latency) for shape in filled]
    fast = [
        row
        for row in rows
        if (by_kind or row.error < 1 - 1e-9) and (dense is None or latency is None or row.bound <= dense)
    ]
    for row in fast:
        near = row_is_near(row, fast if not by_kind else [r for r in fast if kind_of(r.shape) == kind_of(row.shape)])
        assert not near or any(_no_worse(s, row, "estimate") for s in survivors)
    kinds = [[s for s in survivors if kind_of(s.shape) == kind] for kind in range(3)]
    for kind in kinds if by_kind else [survivors]:
        for one, other in product(kind, kind):
            assert one is other or not _dominates(one, other, "estimate")
    assert result.dense.params == counts.dense_parameters(layer)
    assert result.dense.flops == counts.dense_flops(layer)
    assert result.dense.cycles == (None if latency is None else dense)


def pairwise_steps(steps):
    return zip([steps[0].remaining, *(step.remaining for step in steps)], steps, strict=False)


def every_shape(m, n, d):
    for block in shape_blocks(m, n, d):
        for outs, ins in zip(block.out_dims.tolist(), block.in_dims.tolist(), strict=True):
            for rank in range(1, min(rank_caps(outs, ins)) + 1):
                yield TTShape(tuple(outs), tuple(ins), (1, *[rank] * (d - 1), 1))


def every_monarch(m, n):
    for m1, n1 in monarch_blocks(m, n):
        for rank in range(1, min(m // m1, n // n1) + 1):
            yield TTShape((m1, m // m1), (n1, n // n1), (1, rank, 1), "monarch")


def kind_of(shape):
    """TT shapes, plain low rank, Monarch matrices."""
    return 2 if shape.is_monarch else int(shape.is_low_rank)


def step_of(shape, lanes):
    if shape.is_monarch:
        return lanes // gcd(lanes, shape.out_dims[0])
    block = block_of([(shape.out_dims, shape.in_dims)])
    return int(rank_steps(block, lanes)[0]) if lanes > 1 else 1


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
    known = (flops, flops)
    if latency is not None:
        columns = (np.array([row]) for row in (shape.out_dims, shape.in_dims, shape.ranks))
        bound = counts.parameters(shape) / 16 if shape.is_monarch else float(latency.bounds.of(*columns)[0])
        known = (bound, latency.estimate(Candidate(layer, shape)))
    return _Row(shape, flops, *known, counts.parameters(shape, bias=layer.has_bias), error_bound(spectra, shape))


def row_is_near(row, rows):
    """Whether no other is as good in all three, by FLOPs or by bounds."""
    others = [other for other in rows if other is not row]
    return any(not any(_no_worse(other, row, latency) for other in others) for latency in ("flops", "bound"))


def _no_worse(one, other, latency):
    better = getattr(one, latency) <= getattr(other, latency) and one.params <= other.params
    return better and one.error <= other.error + 1e-9


def _dominates(one, other, latency):
    """Better in all three, rounding left out of it."""
    better = getattr(one, latency) < getattr(other, latency) and one.params < other.params
    return better and one.error < other.error - 1e-9


def _trained_like(m, n):
    rng = np.random.default_rng(1)
    decay = 1 / np.arange(1, min(m, n) + 1)
    return ((rng.standard_normal((m, min(m, n))) * decay) @ rng.standard_normal((min(m, n), n))).astype(np.float32)


def test_both_families_and_ranks_that_fill_vectors():
    layer = FcLayer("fc1", 784, 300, 1, True)
    # Two Kronecker terms: TT of rank 2 is exact, while plain low rank needs far more.
    rng = np.random.default_rng(2)
    kronecker = sum(np.kron(rng.standard_normal((25, 4)), rng.standard_normal((12, 196))) for _ in range(2))
    weight = (kronecker + 0.3 * _trained_like(300, 784) * np.abs(kronecker).max()).astype(np.float32)
    spectra = layer_spectra(weight)
    narrowing = Narrowing(24, by_kind=True, depths=(2, 3))
    result = prune(layer, spectra, K1, narrowing)
    shapes = [c.candidate.tt_shape for c in result.survivors]
    low_rank = [s.ranks[1] for s in shapes if s.is_low_rank]
    assert len(low_rank) == 12
    assert all(rank <= 16 or rank % 8 == 0 for rank in low_rank)
    others = [s for s in shapes if kind_of(s) == 0]
    assert len(others) == 24
    assert 0 < sum(s.is_monarch for s in shapes) <= 8
    assert all(max(s.ranks) <= 16 or rank % step_of(s, 8) == 0 for s in others for rank in s.ranks[1:-1])
    assert any(rank % 8 for s in others for rank in s.ranks[1:-1]), "ranks between, where the modes fill the vectors"
    assert [c.params for c in result.survivors] == sorted(c.params for c in result.survivors)
    assert prune(layer, spectra, K1, narrowing) == result
    assert {s.kind for s in result.funnel} == {"safe", "heuristic"}


def test_different_ranks_are_found_where_one_rank_wastes():
    """The first cut needs 2, the second 20: one rank for both pays twenty for the first."""
    layer = FcLayer("fc", 512, 512, 1, False)
    rng = np.random.default_rng(0)
    tt = [rng.standard_normal(core) for core in ((1, 8, 8, 2), (2, 8, 8, 20), (20, 8, 8, 1))]
    weight = np.einsum("aijb,bklc,cmnd->ikmjln", *tt).reshape(512, 512).astype(np.float32)
    result = prune(layer, layer_spectra(weight), K1, Narrowing(24, without=("whole vectors",), depths=(2, 3)))
    exact = [c for c in result.survivors if c.error_bound < 1e-3]
    shape = min(exact, key=lambda c: c.params).candidate.tt_shape
    assert shape.ranks == (1, 2, 20, 1)
    assert steps_of(result)["ranks"].remaining > space_size(512, 512, (2, 3)).uniform


def test_steps_may_be_left_out():
    layer = FcLayer("fc", 48, 36, 1, True)
    spectra = layer_spectra(_trained_like(36, 48))
    latency = a_latency(0.5 * counts.dense_flops(layer) / 16)
    plain = steps_of(prune(layer, spectra, K1, Narrowing(1, depths=(2, 3)), latency=latency))
    for step in ("below dense", "whole vectors", "bounded", "faster", "estimated"):
        narrowing = Narrowing(1, depths=(2, 3), without=(step,))
        found = steps_of(prune(layer, spectra, K1, narrowing, latency=latency))
        assert found[step].removed == 0 < plain[step].removed or (step == "bounded" and not plain[step].removed)
    with pytest.raises(UsageError, match="no step 'front' can be left out; these can: sample, below dense"):
        Narrowing(4, without=("front",))


def test_beyond_so_many_candidates_a_sample_is_looked_at_and_said_to_be_one():
    layer = FcLayer("fc", 96, 64, 1, True)
    spectra = layer_spectra(_trained_like(64, 96))
    found, again, whole = (
        prune(layer, spectra, K1, Narrowing(8, depths=(2, 3, 4), most=most)) for most in (20_000, 20_000, 10**8)
    )
    assert found == again
    sample = steps_of(found)["sample"]
    assert "more than 20,000 candidates: a sample" in sample.reason
    assert sample.kind == "heuristic"
    assert 10_000 < sample.remaining < 40_000
    assert steps_of(whole)["sample"].removed == 0
    every = prune(layer, spectra, K1, Narrowing(8, depths=(2, 3, 4), most=20_000, without=("sample",)))
    assert every.survivors == whole.survivors


def test_without_spectra_the_bound_is_that_of_any_weights():
    layer = FcLayer("fc", 96, 64, 1, True)
    found = prune(layer, None, K1, Narrowing(8, by_kind=True, depths=(2, 3)))
    assert len(found.survivors) > 8
    assert "any weights" in steps_of(found)["known spectra"].reason
    low_rank = [c for c in found.survivors if c.candidate.tt_shape.is_low_rank]
    for c in low_rank:
        assert c.error_bound == pytest.approx((1 - c.candidate.tt_shape.ranks[1] / 64) ** 0.5)


def test_shapes_that_no_kernel_makes_faster_than_dense_are_left_out():
    """A wide head with few inputs: a TT shape next to dense in size takes several times its FLOPs."""
    layer = FcLayer("fc", 24, 66, 12, True)
    weight = np.random.default_rng(0).standard_normal((66, 24)).astype(np.float32)
    dense = 0.3 * counts.dense_flops(layer) / 16
    narrowing = Narrowing(10_000, depths=(2, 3))
    found, blind = (prune(layer, layer_spectra(weight), K1, narrowing, latency=a_latency(d)) for d in (dense, None))

    def bounds(result):
        shapes = [c.candidate.tt_shape for c in result.survivors]
        return [counts.flops(shape) / 16 for shape in shapes]

    assert steps_of(found)["faster"].removed > 0
    assert max(bounds(found)) <= dense < max(bounds(blind))
    assert "nobody knows" in steps_of(blind)["faster"].reason


def test_a_schedule_is_searched_only_near_the_front_and_decides_there():
    """Kernels that are the slower the fewer FLOPs they have: what FLOPs alone kept is then of no use."""
    layer = FcLayer("fc", 96, 64, 1, True)
    weight = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    asked = []

    def estimate(candidate):
        asked.append(candidate)
        return 1e9 / counts.flops(candidate.tt_shape)

    latency = replace(a_latency(), estimate=estimate)
    found = prune(layer, layer_spectra(weight), K1, Narrowing(8, depths=(2, 3)), latency=latency)
    steps = steps_of(found)
    assert len(asked) == len(set(asked)) == steps["estimated"].remaining == 48 < steps["near the front"].remaining
    assert steps["front"].remaining < 48


def test_survivors_are_those_of_few_bits_as_well():
    """Of two shapes that take the same time in fp32, that one survives which four bits do not slow down."""
    layer = FcLayer("", 96, 64, 1, False)

    def is_slowed_down(shape):
        return shape.out_dims[0] < shape.in_dims[0]

    def estimate(candidate):
        slow = candidate.storage == "int4" and is_slowed_down(candidate.tt_shape)
        return (1000 if slow else 1) * counts.flops(candidate.tt_shape) / 16

    spectra, latency = layer_spectra(_trained_like(64, 96)), replace(a_latency(), estimate=estimate)

    def slowed_down(smallest):
        found = prune(
            layer, spectra, K1, Narrowing(12, by_kind=True, depths=(2, 3), smallest=smallest), latency=latency
        )
        # The figure that is kept is that of fp32.
        assert all(r.cycles == counts.flops(r.candidate.tt_shape) / 16 for r in found.survivors)
        return sum(is_slowed_down(ranked.candidate.tt_shape) for ranked in found.survivors)

    assert slowed_down("int4") < slowed_down("fp32")


@pytest.mark.parametrize("by_kind", [False, True])
def test_what_promises_nothing_is_left_out_where_something_promises_more(by_kind):
    layer = FcLayer("fc", 64, 64, 1, False)
    decays, noise = _trained_like(64, 64), np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    found = prune(layer, layer_spectra(decays), K1, Narrowing(4, by_kind))
    assert steps_of(found)["bounded"].removed > 0
    assert max(each.error_bound for each in found.survivors) < 0.95
    rest = prune(layer, layer_spectra(noise), K1, Narrowing(10_000, by_kind, without=("worth it",)))
    assert steps_of(rest)["bounded"].removed > 0 if not by_kind else steps_of(rest)["bounded"].removed == 0
    assert max(each.error_bound for each in rest.survivors) >= 0.95, "there are not ten thousand that promise more"


def test_predicted_output_errors_tell_the_hopeless_and_the_exact_from_the_rest():
    layer = FcLayer("fc", 96, 64, 1, True)
    spectra = layer_spectra(_trained_like(64, 96))

    def predicted(shapes):
        """By size alone: of 200 parameters 90 %, of 4000 nothing."""
        sizes = np.array([counts.parameters(shape) for shape in shapes])
        return np.interp(sizes, [0, 200, 4000], [1.0, 0.9, 0.0])

    found, blind = (prune(layer, spectra, K1, Narrowing(6), predicted=each) for each in (predicted, None))
    sizes = [each.params for each in found.survivors]
    assert min(sizes) > 400 > min(each.params for each in blind.survivors)
    assert sum(size > 3880 for size in sizes) <= 1, "of those that lose less than 3 % the smallest"
    assert "85%" in steps_of(found)["bounded"].reason


@pytest.mark.parametrize(("top", "kinds"), [(1, (1, 1)), (2, (2, 1)), (5, (5, 3))])
def test_low_rank_comes_beside_tt_shapes_where_fits_see_data(top, kinds):
    """Weights that plain low rank fits best of all: by the bounds alone every TT shape is dominated."""
    layer = FcLayer("fc", 60, 48, 1, True)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((48, 8)) @ rng.standard_normal((8, 60))).astype(np.float32)
    found = prune(layer, layer_spectra(weight), K1, Narrowing(top, by_kind=True, depths=(2, 3)))
    found_kinds = [kind_of(each.candidate.tt_shape) for each in found.survivors]
    assert (found_kinds.count(0), min(1, found_kinds.count(1))) == (kinds[0], 1)
    assert found_kinds.count(2) <= (top + 2) // 3
    assert found_kinds.count(1) <= kinds[1]
    assert [each.params for each in found.survivors] == sorted(each.params for each in found.survivors)
    assert "of the kind" in found.funnel[-2].reason


@pytest.mark.parametrize("by_kind", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 7), (2, 2)])
def test_nothing_below_dense_is_a_legal_result(size, by_kind):
    layer = FcLayer("fc", size[1], size[0], 1, False)
    weight = np.ones(size, dtype=np.float32)
    result = prune(layer, layer_spectra(weight), K1, Narrowing(16, by_kind))
    assert result.survivors == ()
    assert result.funnel[-1].remaining == 0
    assert result.dense.candidate.is_dense


def test_zero_weights_survive():
    layer = FcLayer("fc", 48, 48, 1, False)
    result = prune(layer, layer_spectra(np.zeros((48, 48), np.float32)), K1, Narrowing())
    assert result.survivors
    assert {c.error_bound for c in result.survivors} == {0.0}


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="top"):
        Narrowing(0)
    spectra = layer_spectra(np.ones((12, 12), np.float32))
    with pytest.raises(ValueError, match="its spectra"):
        prune(FcLayer("fc", 12, 24, 1, False), spectra, K1, Narrowing())

from dataclasses import replace

import pytest
from hypothesis import given

from lrf_dse.cost import counts
from lrf_dse.cost.latency import combine, issue_bound, roofline
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import load_target
from tests import strategies

K1 = load_target("spacemit-k1")
GENERIC = load_target("qemu-rv64gcv")


@given(strategies.candidates())
def test_roofline_is_between_its_bounds(candidate):
    estimate = roofline(candidate, K1)
    layer = candidate.layer
    bias = layer.batch * layer.out_features * layer.has_bias
    compute = (estimate.flops - bias) / 2 / K1.core.fma_per_cycle.value
    traffic = estimate.bytes_moved / K1.memory[-1].read_bytes_per_cycle.value
    threads = min(candidate.threads, K1.core.count)
    assert compute / threads <= estimate.cycles * (1 + 1e-12)
    assert estimate.cycles <= (compute + traffic) / threads * (1 + 1e-12)
    assert estimate.source == "roofline estimate, spacemit-k1"
    assert roofline(candidate, GENERIC) == replace(estimate, cycles=None, source="roofline estimate, qemu-rv64gcv")


def test_large_dense_layer_is_bound_by_dram():
    layer = FcLayer("fc", 4096, 4096, 1, False)
    estimate = roofline(dense_candidate(layer), K1)
    assert estimate.bytes_moved == 4 * (4096 * 4096 + 2 * 4096)
    assert estimate.cycles == pytest.approx(estimate.bytes_moved / 3.4)


def test_a_layer_in_the_nearest_level_that_holds_it():
    in_l1 = FcLayer("fc", 64, 64, 1, False)  # 16 KB
    in_l2 = FcLayer("fc", 128, 128, 1, False)  # 64 KB
    assert roofline(dense_candidate(in_l1), K1).cycles == pytest.approx(4 * (64 * 64 + 128) / 16)
    assert roofline(dense_candidate(in_l2), K1).cycles == pytest.approx(4 * (128 * 128 + 256) / 9.2)


def test_a_tt_layer_sums_the_slower_of_compute_and_memory_by_stage():
    shape = TTShape((64, 64), (64, 64), (1, 16, 1))
    candidate = Candidate(FcLayer("fc", 4096, 4096, 1, True), shape)
    first, second = counts.stage_counts(shape)
    moved = [s.weight_bytes + s.state_in_bytes + s.state_out_bytes for s in (first, second)]
    by_hand = sum(max(s.flops / 16, m / 9.2) for s, m in zip((first, second), moved, strict=True))  # 1.1 of 512 KB: L2
    assert roofline(candidate, K1).cycles == pytest.approx(by_hand)
    assert roofline(candidate, K1).params == counts.parameters(shape, bias=True)
    assert roofline(replace(candidate, threads=4), K1).cycles == pytest.approx(by_hand / 4)
    assert roofline(replace(candidate, threads=99), K1).cycles == pytest.approx(by_hand / 8)


def test_no_program_is_faster_than_its_instructions():
    assert issue_bound(1000, K1) == 500
    assert issue_bound(1000, GENERIC) is None
    assert combine(400.0, 1000, K1) == 500
    assert combine(700.0, 1000, K1) == 700
    assert combine(700.0, None, K1) == 700
    assert combine(None, 1000, GENERIC) is None

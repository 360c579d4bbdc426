"""The closed form: how IREE cuts stages, what a prefetcher leaves out, and what follows from it."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.cost.closed_form import KERNEL_TERMS, predicted_cycles, weighted
from lrf_dse.cost.machine import far_share, machine_of, stays_near
from lrf_dse.cost.matmuls import MatMul, matmuls, packed_tiling, tiling
from lrf_dse.cost.plain_kernel import loop_cycles, total
from lrf_dse.cost.prefetch import LeftOut, Prefetcher, left_out
from lrf_dse.models.chain import chain
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.target import TERMS, load_target
from tests import strategies

K1 = load_target("spacemit-k1")
MACHINE = machine_of(K1)
PREFETCHER = Prefetcher(line_bytes=64, near_lines=4, far_lines=24)

sizes = st.integers(1, 3000)
matmul_values = st.builds(MatMul, st.integers(1, 64), sizes, sizes, st.integers(1, 512), st.sampled_from("AB"))


def one(rows, columns, k=8):
    return MatMul(1, rows, columns, k, "B")


@given(strategies.tt_shapes(max_features=64), strategies.orders, st.integers(1, 4), st.data())
def test_stages_are_the_matmuls_of_the_model(shape, order, batch, data):
    cores = data.draw(strategies.cores(shape))
    candidate = Candidate(FcLayer("fc", shape.in_features, shape.out_features, batch, True), shape, order=order)
    steps = chain(cores, order, in_shape=(batch, shape.in_features), out_shape=(batch, shape.out_features))
    written = [step for step in steps if step.op == "MatMul"]
    for m, step in zip(matmuls(candidate), written, strict=True):
        assert step.form == ("left" if m.weights == "A" else "right")
        assert step.constant.shape == ((m.rows, m.k) if m.weights == "A" else (m.k, m.columns))
        assert prod(step.shape) == m.batches * m.rows * m.columns


@given(matmul_values, st.sampled_from([4, 8, 16]))
def test_blocks_cover_the_matrix(m, lanes):
    t = tiling(m, lanes)
    for size, tiles, tile, blocks in (
        (m.rows, t.row_tiles, t.tile_rows, t.row_blocks),
        (m.columns, t.column_tiles, t.tile_columns, t.column_blocks),
    ):
        assert sum(block.count * block.size for block in blocks) == size
        assert (tiles - 1) * tile < size <= tiles * tile
    assert max(block.size for block in t.row_blocks) <= 7
    assert max(block.size for block in t.column_blocks) <= lanes * (8 if m.rows == 1 else 4)
    packed = packed_tiling(m, lanes)
    rows, columns = (m.columns, m.rows) if packed.transposed else (m.rows, m.columns)
    assert rows <= columns
    assert packed.row_tiles * packed.tile_rows >= rows and packed.column_tiles * lanes * 4 >= columns


@pytest.mark.parametrize(
    ("rows", "columns", "tile"),
    [
        (1, 300, (1, 60)),
        (28, 28, (7, 28)),
        (20, 15, (5, 15)),
        (32, 64, (4, 32)),
        (192, 480, (64, 96)),
        (12, 49, (6, 32)),
    ],
)
def test_workgroups_are_those_of_the_compiler(rows, columns, tile):
    """As iree-compile 3.13 --compile-to=executable-configurations prints them for zvl256b."""
    t = tiling(one(rows, columns), 8)
    assert (t.tile_rows, t.tile_columns) == tile


def test_what_does_not_fill_a_tile_is_masked():
    blocks = tiling(one(12, 49), 8).column_blocks
    assert [(block.count, block.size, block.masked) for block in blocks] == [(1, 32, False), (1, 17, True)]


def test_a_step_by_hand():
    k1, step = MACHINE, MACHINE.step
    assert loop_cycles(k1, 1, 64) == step[3] + 8
    assert loop_cycles(k1, 7, 32) == step[2] + 7 * 4
    assert loop_cycles(k1, 14, 8) == 2 * (step[0] + 7)
    assert loop_cycles(k1, 5, 45) == step[2] + 5 * 4 + step[2] + 5 * k1.masked_row


def test_aligned_rows_are_all_prefetched_and_others_are_not():
    nothing = LeftOut(0.0, 0.0, 0.0)
    assert left_out(PREFETCHER, 2048, 256, 8) == nothing
    assert left_out(PREFETCHER, 128, 128, 1) == nothing
    assert left_out(PREFETCHER, 20, 20, 1) == nothing  # within lines: one after the other
    assert left_out(PREFETCHER, 1200, 240, 5).nowhere == pytest.approx(0.75)


@given(st.integers(1, 4000), st.integers(1, 256), st.integers(1, 40))
def test_no_more_is_left_out_than_is_loaded(pitch, width, panels):
    missed = left_out(PREFETCHER, 4 * max(pitch, width), 4 * width, panels)
    assert min(missed.nowhere, missed.late, missed.near_only) >= 0
    assert missed.nowhere + missed.near_only <= 4 * width / 64 + 2


def test_a_pitch_of_a_power_of_two_shares_few_sets():
    assert stays_near(MACHINE, 100, 2048 + 64, 128, beside=0)
    assert not stays_near(MACHINE, 100, 2048, 128, beside=0)
    assert not stays_near(MACHINE, 100, 2048 + 64, 128, beside=30_000)
    assert far_share(MACHINE, 400_000) == 0 and far_share(MACHINE, 800_000) == 1


@given(strategies.candidates())
def test_terms_have_names_and_are_never_negative(candidate):
    for builder, terms_of in KERNEL_TERMS.items():
        terms = terms_of(candidate, MACHINE)
        assert terms.keys() <= TERMS[builder].keys()
        assert min(terms.values()) >= 0
        assert terms["steps"] > 0 and terms["dispatches"] >= len(matmuls(candidate))


def test_stages_add_up():
    """The steps of a TT layer are those of its stages; nothing else depends on two stages but where data lie."""
    shape = TTShape((16, 8, 4), (4, 8, 16), (1, 16, 16, 1))
    candidate = Candidate(FcLayer("fc", 512, 512, 1, True), shape)
    by_hand = 0.0
    for m in matmuls(candidate):
        by_hand += m.batches * m.k * loop_cycles(MACHINE, m.rows, m.columns)
    assert KERNEL_TERMS["iree"](candidate, MACHINE)["steps"] == pytest.approx(by_hand, rel=0.1)
    assert total([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 4.0, "b": 2.0}
    assert weighted({"a": 4.0, "b": 2.0}, {"a": 0.5, "b": 3.0}) == 8.0


@pytest.mark.parametrize(
    "dims", [((20, 15), (28, 28)), ((300, 1), (1, 784)), ((15, 5, 4), (7, 8, 14)), ((5, 5, 4, 3), (4, 4, 7, 7))]
)
@pytest.mark.parametrize("order", ["last_first", "first_first"])
def test_twice_the_rank_takes_longer(dims, order):
    out_dims, in_dims = dims
    layer = FcLayer("fc", prod(in_dims), prod(out_dims), 1, True)
    cycles = []
    for rank in (8, 16, 32, 64, 128):
        shape = TTShape(out_dims, in_dims, (1, *[rank] * (len(out_dims) - 1), 1))
        cycles.append(predicted_cycles(Candidate(layer, shape, order=order), K1))
    assert np.all(np.diff(cycles) > 0)

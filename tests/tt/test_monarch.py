"""Fits of Monarch matrices: the projection, the fit to data, few bits, and what the oracle makes of the factors."""

import numpy as np
import pytest

from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.tt.als import fit
from lrf_dse.tt.contraction import apply, shape_of, stage_matrix, to_matrix
from lrf_dse.tt.counting import monarch_size
from lrf_dse.tt.data_aware import TtAls
from lrf_dse.tt.moment import InputMetric, metric_of, moment_of
from lrf_dse.tt.monarch import Fitting, block_svd
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.spectra import affordable_blocks, block_tails, error_bound, layer_spectra
from lrf_dse.tt.stored_fit import factors_of, seen

M, N = 24, 36
SHAPES = [
    TTShape(outs, ins, (1, rank, 1), "monarch")
    for outs, ins in (((4, 6), (3, 12)), ((1, 24), (4, 9)), ((6, 4), (1, 36)), ((2, 12), (2, 18)))
    for rank in (1, 3)
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def layer(seed=0):
    """W [out, in], and rows whose inputs depend on each other."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((N, N)) * np.exp(-np.arange(N) / 8)
    rows = rng.standard_normal((400, N)) @ mixed.T
    return rng.standard_normal((M, N)).astype(np.float32), rows.astype(np.float32)


@each_shape
def test_the_projection_is_block_by_block_the_best_of_its_rank(shape):
    weight, rows = layer()
    cores = NumpyTtSvd().decompose(weight, shape)
    assert [core.shape for core in cores] == list(shape.core_shapes)
    assert shape_of(cores) == shape
    made, rank = to_matrix(cores), shape.ranks[1]
    (m1, m2), (n1, n2) = shape.out_dims, shape.in_dims
    for k in range(m1):
        for i in range(n1):
            place = np.ix_(range(k * m2, (k + 1) * m2), range(i * n2, (i + 1) * n2))
            u, s, v = np.linalg.svd(weight[place])
            assert made[place] == pytest.approx((u[:, :rank] * s[:rank]) @ v[:rank], abs=2e-5)
    error = np.linalg.norm(weight - made) / np.linalg.norm(weight)
    assert error == pytest.approx(error_bound(layer_spectra(weight), shape), rel=1e-5)
    assert np.allclose(apply(cores, rows[:5]), rows[:5] @ made.T, atol=1e-3)


@each_shape
def test_the_fit_to_data_lowers_its_objective_factor_by_factor(shape):
    weight, rows = layer()
    moment = moment_of(rows[:300], held_out=rows[300:])
    metric = metric_of(moment, 0.01)
    start = [core.astype(np.float64) for core in NumpyTtSvd().decompose(weight, shape)]
    found = fit(weight.astype(np.float64), metric, start, sweeps=25)
    assert all(after <= before for before, after in zip(found.objectives, found.objectives[1:], strict=False))
    assert found.objectives[-1] == pytest.approx(metric.squared(weight - to_matrix(found.cores)), rel=1e-9)
    assert found.objectives[-1] < 0.7 * found.objectives[0]
    plain, fitted = (
        weight - to_matrix(cores)
        for cores in (NumpyTtSvd().decompose(weight, shape), TtAls().decompose(weight, shape, moment))
    )
    assert np.linalg.norm(fitted @ rows.T) < 0.85 * np.linalg.norm(plain @ rows.T)


@each_shape
def test_each_factor_is_the_optimum_between_the_others(shape):
    """No small step of any element lowers the objective; rows in the place of C give the same."""
    weight, rows = layer(1)
    wide, rng = weight.astype(np.float64), np.random.default_rng(2)
    second = rows.T.astype(np.float64) @ rows / len(rows)
    metrics = InputMetric(second, None, 0.02), InputMetric(None, rows / np.sqrt(float(len(rows))), 0.02)
    found = []
    for metric in metrics:
        fitting = Fitting(wide, metric, shape)
        m1, (n1, n2), rank = shape.out_dims[0], shape.in_dims, shape.ranks[1]
        right = np.random.default_rng(3).standard_normal((n1, m1, rank, n2))
        left = fitting.left(right)
        best = fitting.squared(left, right)
        for _ in range(5):
            assert fitting.squared(left + 1e-3 * rng.standard_normal(left.shape), right) > best
        if n1 == 1:  # one column of blocks: R is solved at once
            solved = fitting.right(left, right)
            for _ in range(5):
                step = 1e-3 * rng.standard_normal(right.shape)
                assert fitting.squared(left, solved + step) > fitting.squared(left, solved)
        assert fitting.squared(left, fitting.right(left, right)) <= best
        found.append((left, best))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


@each_shape
def test_few_bits_see_the_data_and_are_codes_of_the_blocks(shape):
    weight, rows = layer()
    moment = moment_of(rows)
    cores = TtAls().decompose(weight, shape, moment)
    free = np.linalg.norm((weight - to_matrix(cores)) @ rows.T)
    for storage, grown in (("fp16", 1.05), ("int8", 1.05), ("int4", 1.8)):
        factors = factors_of(weight, cores, storage, seen(moment))
        for factor, size in zip(factors, shape.core_shapes, strict=True):
            assert factor.stored.codes.shape == (size[0] * size[1], size[2])
            assert np.array_equal(stage_matrix(factor.core, "last_first"), factor.stored.values)
        made = to_matrix([factor.core for factor in factors])
        nearest = to_matrix([factor.core for factor in factors_of(weight, cores, storage, None)])
        error, rounded = (np.linalg.norm((weight - one) @ rows.T) for one in (made, nearest))
        assert error < grown * free + 0.01 * np.linalg.norm(weight @ rows.T)
        assert error <= 1.02 * rounded


def test_a_column_of_blocks_is_exact_at_once():
    weight, rows = layer()
    shape = TTShape((3, 8), (1, 36), (1, 2, 1), "monarch")
    metric = metric_of(moment_of(rows), 0.01)
    start = block_svd(weight.astype(np.float64), shape, metric=metric)
    found = fit(weight.astype(np.float64), metric, start, sweeps=10)
    assert found.objectives[-1] > (1 - 1e-6) * found.objectives[0]


def test_zeros_stay_zeros():
    shape = SHAPES[0]
    weight, rows = np.zeros((M, N), np.float32), layer()[1]
    assert not to_matrix(TtAls().decompose(weight, shape, moment_of(rows))).any()
    assert not to_matrix([f.core for f in factors_of(weight, None, "int8", None)]).any()
    assert block_tails(weight, [(2, 2)])[2, 2].max() == 0


def test_spectra_of_blocks_are_counted_and_bounded():
    weight, _ = layer()
    tails = block_tails(weight, affordable_blocks(M, N))
    assert (1, 1) not in tails
    for (m1, n1), tail in tails.items():
        assert tail.size == min(M // m1, N // n1) + 1
        assert tail[0] == pytest.approx(1)
        assert (np.diff(tail) <= 1e-12).all()
    assert affordable_blocks(M, N, more_work=0) == ()
    assert len(tails) < monarch_size(M, N).shapes  # at rank 1 the smallest blocks have more parameters than W


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 6), (3, 12), (1, 7, 1)), "above the 6 that can be used"),
        (((1, 24), (1, 36), (1, 2, 1)), "two or more blocks"),
        (((4, 3, 2), (3, 3, 4), (1, 2, 2, 1)), "two factors"),
    ],
)
def test_shapes_that_are_no_monarch_matrix_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NumpyTtSvd().decompose(layer()[0], TTShape(*arguments, "monarch"))


def test_factors_of_different_ranks_and_other_orders_are_refused():
    with pytest.raises(ValueError, match="have different ranks"):
        shape_of([np.zeros((4, 6, 6, 1)), np.zeros((3, 4, 12, 1))])
    with pytest.raises(ValueError, match="has one order"):
        Candidate(FcLayer("fc", N, M, 1, True), SHAPES[0], "first_first")

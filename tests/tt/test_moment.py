"""Moments: a stream gives what all rows at once give, held-out rows stay out, and both forms of C are one metric."""

import numpy as np
import pytest

from lrf_dse.tt.moment import InputMetric, Moment, MomentSum, bias_shift, metric_of, moment_of, square_root
from lrf_dse.tt.output_error import held_out_error


def rows_of(samples, in_features, *, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, in_features)).astype(np.float32) + 0.5


def test_a_stream_of_any_pieces_is_the_mean_over_all_rows():
    rows, total = rows_of(200, 7), MomentSum(7)
    total._block = 16  # so that blocks fill and flush within this test
    for piece in np.split(rows, [1, 2, 40, 41, 120]):
        total.add(piece)
    moment, wide = total.moment(), rows.astype(np.float64)
    assert moment.samples == 200
    np.testing.assert_allclose(moment.second, wide.T @ wide / 200, rtol=1e-12)
    np.testing.assert_allclose(moment.mean, wide.mean(axis=0), rtol=1e-12)
    assert moment.mean_square == pytest.approx((wide**2).mean())


@pytest.mark.parametrize("matrix_side", [100, 1])
def test_held_out_rows_stay_out_until_they_are_asked_in(matrix_side):
    rows = rows_of(50, 6)
    total = MomentSum(6, matrix_side=matrix_side)
    total.add(rows[:30])
    total.hold_out(rows[30:])
    apart, whole = total.moment(), total.moment().with_held_out()
    direct, everything = moment_of(rows[:30]), moment_of(rows)
    np.testing.assert_array_equal(apart.held_out, rows[30:])
    for ours, wanted in ((apart, direct), (whole, everything)):
        assert ours.samples == wanted.samples
        np.testing.assert_allclose(ours.mean, wanted.mean, rtol=1e-6)
        np.testing.assert_allclose(
            metric_of(ours, 0.1).times(np.eye(6)), metric_of(wanted, 0.1).times(np.eye(6)), atol=1e-6
        )
    assert len(whole.held_out) == 0
    assert whole.with_held_out() is whole


@pytest.mark.parametrize("matrix_side", [100, 1])
def test_centred_is_the_covariance(matrix_side):
    rows, total = rows_of(80, 5), MomentSum(5, matrix_side=matrix_side)
    total.add(rows)
    centred = total.moment().centred()
    scaled = metric_of(centred, 0.0).times(np.eye(5)) * centred.mean_square
    np.testing.assert_allclose(scaled, np.cov(rows.T.astype(np.float64), bias=True), atol=1e-5)
    assert not centred.mean.any()


def test_many_inputs_are_stood_for_by_a_bounded_fair_sample():
    total = MomentSum(3, seed=2, matrix_side=2, max_rows=400, max_held_out=10)
    rows = rows_of(2000, 3) * np.linspace(0.5, 2, 2000)[:, None].astype(np.float32)  # early rows are smaller
    for piece in np.split(rows, 10):
        total.add(piece)
        total.hold_out(piece)
    moment = total.moment()
    assert moment.second is None
    assert (moment.rows.shape, moment.held_out.shape, moment.samples) == ((400, 3), (10, 3), 2000)
    known = {row.tobytes() for row in rows}
    assert all(row.tobytes() in known for row in moment.rows)
    assert moment.mean_square == pytest.approx(float((rows.astype(np.float64) ** 2).mean()), rel=0.15)


def test_both_forms_are_the_same_metric():
    x, v = rows_of(12, 8).astype(np.float64), rows_of(5, 8, seed=1).astype(np.float64)
    matrix, rows = InputMetric(x.T @ x, None, 0.3), InputMetric(None, x, 0.3)
    np.testing.assert_allclose(matrix.times(v), rows.times(v))
    np.testing.assert_allclose(v @ (x.T @ x + 0.3 * np.eye(8)), matrix.times(v))
    for metric in (matrix, rows):
        whitened = metric.whitened(v)
        np.testing.assert_allclose(whitened @ whitened.T, v @ matrix.times(v).T, atol=1e-9)
        assert metric.squared(v) == pytest.approx(np.linalg.norm(whitened) ** 2)
    for a, b in zip(matrix.mode_moments((2, 2, 2)), rows.mode_moments((2, 2, 2)), strict=True):
        np.testing.assert_allclose(a, b)
    (whole,) = matrix.mode_moments((8,))
    np.testing.assert_allclose(whole, matrix.times(np.eye(8)))


@pytest.mark.parametrize("matrix_side", [100, 1])
def test_zero_inputs_leave_the_identity(matrix_side):
    total = MomentSum(4, matrix_side=matrix_side)
    total.add(np.zeros((3, 4)))
    np.testing.assert_array_equal(metric_of(total.moment(), 0.01).times(np.eye(4)), np.eye(4))


def test_the_square_root_survives_a_singular_matrix():
    x = rows_of(2, 6).astype(np.float64)
    for ridge in (0.0, 1e-3):
        root = square_root(x.T @ x, ridge)
        np.testing.assert_allclose(root @ root.T, x.T @ x + ridge * np.eye(6), atol=1e-10)


def test_the_bias_shift_restores_the_mean_output():
    rows, weight = rows_of(40, 6), rows_of(3, 6, seed=1)
    approximation = 0.5 * weight
    shift = bias_shift(moment_of(rows), weight, approximation)
    np.testing.assert_allclose((rows @ approximation.T + shift).mean(axis=0), (rows @ weight.T).mean(axis=0), rtol=1e-5)


def test_the_held_out_error_is_on_rows_that_were_held_out():
    moment = moment_of(rows_of(9, 2), held_out=np.array([[0.0, 3.0]], np.float32))
    weight = np.array([[1.0, 2.0]])
    assert held_out_error(moment, weight, np.array([[9.0, 1.5]])) == pytest.approx(0.25)
    assert held_out_error(moment_of(np.array([[0.0, 3.0]])), weight, np.array([[9.0, 1.5]])) == pytest.approx(0.25)
    assert held_out_error(moment, 0 * weight, 0 * weight) == 0
    for factor in (1e-30, 1e30):
        assert held_out_error(moment, factor * weight, factor * np.array([[9.0, 1.5]])) == pytest.approx(0.25)


def test_moments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        MomentSum(3).moment()
    none = np.zeros((0, 3), np.float32)
    with pytest.raises(ValueError, match="either"):
        Moment(1, np.zeros(3), None, None, none)
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        Moment(1, np.zeros(3), np.zeros((2, 3)), None, none)
    with pytest.raises(ValueError, match="rows of 3"):
        Moment(1, np.zeros(3), np.zeros((3, 3)), None, np.zeros((0, 2), np.float32))


def test_fewer_rows_are_some_of_those_there_are():
    total = MomentSum(5, matrix_side=1)
    total.add(np.arange(500.0).reshape(100, 5))
    moment = total.moment()
    few = moment.with_at_most(10, seed=1)
    assert few.rows.shape == (10, 5)
    assert set(few.rows[:, 0]) < set(moment.rows[:, 0])
    np.testing.assert_array_equal(few.rows, moment.with_at_most(10, seed=1).rows)
    assert moment.with_at_most(100, seed=1) is moment
    np.testing.assert_array_equal(few.mean, moment.mean)


@pytest.mark.parametrize("matrix_side", [1, 100])
def test_reordered_inputs_have_the_moment_of_reordered_rows(matrix_side):
    rows, order = np.random.default_rng(0).normal(size=(40, 6)), np.array([3, 1, 5, 0, 2, 4])
    both = []
    for values in (rows, rows[:, order]):
        total = MomentSum(6, matrix_side=matrix_side)
        total.add(values[:30])
        total.hold_out(values[30:])
        both.append(total.moment())
    found, want = both[0].reordered(order), both[1]
    np.testing.assert_allclose(found.mean, want.mean)
    np.testing.assert_array_equal(found.held_out, want.held_out)
    if want.second is None:
        np.testing.assert_array_equal(found.rows, want.rows)
    else:
        np.testing.assert_allclose(found.second, want.second)
    np.testing.assert_allclose(
        want.root_mean_squares, np.sqrt((rows[:30, order].astype("f4") ** 2).mean(axis=0)), rtol=1e-5
    )

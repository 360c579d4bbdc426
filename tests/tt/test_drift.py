"""The target of a layer whose inputs have drifted is the least squares one, and no drift leaves the weight as it is."""

import numpy as np
import pytest

from lrf_dse.tt.drift import actual_moment, target_of
from lrf_dse.tt.moment import moment_of

OUT, IN, ROWS = 7, 12, 400


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def drifted(*, bias=0.0):
    """x_d, and what a damaged layer makes of it: mixed, shifted, with some noise."""
    wanted = noise(ROWS, IN, seed=1) @ noise(IN, IN, seed=2) + bias
    return wanted @ (np.eye(IN) + 0.3 * noise(IN, IN, seed=3)).astype(np.float32) + 0.1 * noise(
        ROWS, IN, seed=4
    ), wanted


def joint_of(actual, wanted, held=100):
    rows = np.concatenate([actual, wanted], axis=1)
    return moment_of(rows[held:], held_out=rows[:held] if held else None)


WEIGHT = noise(OUT, IN)


def error(matrix, shift, actual, wanted):
    return np.linalg.norm(wanted @ WEIGHT.T - actual @ matrix.T - shift)


@pytest.mark.parametrize("centred", [False, True])
def test_the_target_is_that_of_least_squares(centred):
    actual, wanted = drifted(bias=2.0)
    target = target_of(WEIGHT, joint_of(actual, wanted), centred=centred)
    shift = target.bias_shift(target.weight) if centred else 0.0
    columns = np.column_stack([actual, np.ones(ROWS)]) if centred else actual
    best = np.linalg.lstsq(columns, wanted @ WEIGHT.T, rcond=None)[0].T
    best_error = error(best[:, :IN], best[:, IN] if centred else 0.0, actual, wanted)
    own_error = error(WEIGHT, 0.0, actual, wanted)
    assert best_error <= error(target.weight, shift, actual, wanted) < 1.1 * best_error < 0.3 * own_error


@pytest.mark.parametrize("held", [0, 100])
def test_no_drift_leaves_the_weight_as_it_is(held):
    wanted = drifted()[1]
    target = target_of(WEIGHT, joint_of(wanted, wanted, held), centred=True)
    np.testing.assert_allclose(target.weight, WEIGHT, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(target.bias_shift(target.weight), 0, atol=1e-4)


def test_the_bias_shift_gives_the_mean_output_that_was():
    actual, wanted = drifted(bias=2.0)
    target = target_of(WEIGHT, joint_of(actual, wanted, 0), centred=True)
    other = WEIGHT * np.float32(0.5)
    got = (actual @ other.T).mean(axis=0) + target.bias_shift(other)
    np.testing.assert_allclose(got, (wanted @ WEIGHT.T).mean(axis=0), rtol=1e-3, atol=1e-3)


def test_few_rows_do_not_run_away():
    """Fewer rows than inputs: without the ridge that held-out rows choose, the fit would be of noise."""
    actual, wanted = drifted()
    target = target_of(WEIGHT, joint_of(actual[:14], wanted[:14], 4), centred=False)
    assert np.linalg.norm(target.weight) < 3 * np.linalg.norm(WEIGHT)


def test_the_moment_is_that_of_what_the_layer_gets():
    actual, wanted = drifted()
    moment = actual_moment(joint_of(actual, wanted))
    np.testing.assert_allclose(moment.second, (actual[100:].T @ actual[100:]) / 300, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(moment.held_out, actual[:100])

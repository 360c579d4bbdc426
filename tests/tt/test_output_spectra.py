from dataclasses import replace

import numpy as np
import pytest

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.moment import moment_of
from lrf_dse.tt.output_spectra import MOST_INPUTS, can_predict, predicted_output_errors
from lrf_dse.tt.svd import get_decomposer


def weights_and_inputs(outs=12, ins=24, rows=400):
    """Weights, and inputs that are correlated and of different sizes."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((rows, ins)) @ rng.standard_normal((ins, ins)) / np.arange(1, ins + 1)
    return rng.standard_normal((outs, ins)).astype(np.float32), inputs


@pytest.mark.parametrize("rank", [1, 3, 7, 12])
def test_of_low_rank_it_is_what_the_best_fit_leaves(rank):
    """The best T of rank r for the outputs on these inputs: the leading left singular vectors of W X^T."""
    weight, inputs = weights_and_inputs()
    shape = TTShape((12, 1), (1, 24), (1, rank, 1))
    (predicted,) = predicted_output_errors(weight, moment_of(inputs), [shape])
    outputs = weight @ inputs.T
    left = np.linalg.svd(outputs)[0][:, :rank]
    best = np.linalg.norm(outputs - left @ left.T @ outputs) / np.linalg.norm(outputs)
    assert predicted == pytest.approx(best, abs=1e-5)


def test_of_plain_inputs_it_is_the_bound_of_tt_svd():
    weight, _ = weights_and_inputs()
    moment = replace(moment_of(np.ones((4, 24))), second=np.eye(24))
    shapes = [TTShape((4, 3), (4, 6), (1, rank, 1)) for rank in (2, 8, 16)]
    for shape, predicted in zip(shapes, predicted_output_errors(weight, moment, shapes), strict=True):
        cores = get_decomposer("tt_svd", seed=0).decompose(weight, shape)
        assert np.linalg.norm(weight - to_matrix(cores)) / np.linalg.norm(weight) == pytest.approx(predicted, abs=1e-5)


def test_cuts_add_up():
    weight, inputs = weights_and_inputs()
    both = TTShape((4, 3, 1), (4, 3, 2), (1, 2, 1, 1))
    single = [TTShape((4, 3), (4, 6), (1, 2, 1)), TTShape((12, 1), (12, 2), (1, 1, 1))]
    errors = predicted_output_errors(weight, moment_of(inputs), [both, *single])
    assert errors[0] ** 2 == pytest.approx(errors[1] ** 2 + errors[2] ** 2)


def test_wide_layers_are_not_predicted():
    ins = MOST_INPUTS + 1
    moment = moment_of(np.ones((2, ins)))
    assert not can_predict(moment)
    with pytest.raises(ValueError, match="not computed"):
        predicted_output_errors(np.ones((2, ins), np.float32), moment, [])

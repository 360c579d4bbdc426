"""What every registered decomposer promises, whatever W, the shape and the calibration data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.moment import moment_of
from lrf_dse.tt.svd import DATA_AWARE, DECOMPOSERS, get_decomposer
from tests import strategies

# TensorFlow's own import uses what newer Pythons and libraries deprecate; nothing of ours is silenced.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.parametrize("name", sorted(DECOMPOSERS)),
]

SHAPES = [
    TTShape((24, 1), (1, 20), (1, 5, 1)),
    TTShape((1, 24), (20, 1), (1, 5, 1)),
    TTShape((6, 4), (4, 5), (1, 5, 1)),
    TTShape((24, 1), (4, 5), (1, 3, 1)),
    TTShape((4, 3, 2), (2, 2, 5), (1, 5, 4, 1)),
    TTShape((2, 3, 1, 4), (2, 1, 5, 2), (1, 3, 3, 2, 1)),
    TTShape((2, 2, 1, 3, 2), (2, 1, 2, 1, 5), (1, 2, 3, 3, 2, 1)),
    TTShape((2, 1, 2, 1, 3, 2), (1, 2, 1, 2, 1, 5), (1, 2, 3, 4, 3, 2, 1)),
]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(samples, in_features, *, seed=1):
    return np.maximum(noise(samples, in_features, seed=seed) @ noise(in_features, in_features, seed=seed + 1), 0)


MOMENT = moment_of(correlated(100, 20)[:80], held_out=correlated(100, 20)[80:])


def wide(cores):
    return to_matrix([core.astype(np.float64) for core in cores])


def relative_error(weight, cores):
    norm = np.linalg.norm(weight.astype(np.float64))
    return np.linalg.norm(weight.astype(np.float64) - wide(cores)) / (norm or 1.0)


@settings(max_examples=40)
@given(st.data())
def test_cores_have_the_shape_that_was_asked_for_and_are_finite(name, data):
    shape = data.draw(strategies.tt_shapes(max_d=6, max_dim=3, max_features=48))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    moment = data.draw(strategies.moments(shape.in_features))
    cores = get_decomposer(name).decompose(weight, shape, moment)
    assert [core.shape for core in cores] == list(shape.core_shapes)
    assert {core.dtype for core in cores} == {np.dtype(np.float32)}
    assert all(np.isfinite(core).all() for core in cores)
    # The ridge holds T near W's own size even where the data says nothing.
    assert np.linalg.norm(wide(cores)) <= 10 * np.linalg.norm(weight.astype(np.float64))


@settings(max_examples=30)
@given(st.data())
def test_full_rank_reproduces_the_weight(name, data):
    shape = data.draw(strategies.tt_shapes(max_d=4, max_features=48, full_rank=True))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    moment = data.draw(strategies.moments(shape.in_features))
    assert relative_error(weight, get_decomposer(name).decompose(weight, shape, moment)) < 5e-6


@settings(max_examples=30)
@given(st.data())
def test_what_fits_the_shape_is_reproduced(name, data):
    shape = data.draw(strategies.tt_shapes(max_d=4, max_features=48))
    weight = to_matrix(data.draw(strategies.cores(shape)))
    moment = data.draw(strategies.moments(shape.in_features))
    assert relative_error(weight, get_decomposer(name).decompose(weight, shape, moment)) < 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_seed_same_cores_and_nothing_is_written_to(name, shape):
    weight = noise(24, 20)
    weight.flags.writeable = False
    first, second = (get_decomposer(name, seed=3).decompose(weight, shape, MOMENT) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("exponent", [-100, 60])
def test_the_scale_of_the_weights_does_not_matter(name, shape, exponent):
    weight = noise(24, 20)
    scaled = wide(get_decomposer(name).decompose(np.ldexp(weight, exponent), shape, MOMENT))
    plain = wide(get_decomposer(name).decompose(weight, shape, MOMENT))
    np.testing.assert_allclose(np.ldexp(scaled, -exponent), plain, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_zero_weights_and_zero_columns(name, shape):
    weight = noise(24, 20)
    assert not wide(get_decomposer(name).decompose(0 * weight, shape, MOMENT)).any()
    weight[:, ::3] = 0
    weight[5] = 0
    cores = get_decomposer(name).decompose(weight, shape, MOMENT)
    assert relative_error(weight, cores) < 2


@pytest.mark.parametrize("size", [(1, 12), (12, 1), (1, 1), (7, 13)])
def test_unit_and_prime_sizes(name, size):
    shape = TTShape((size[0], 1), (1, size[1]), (1, min(size), 1))
    weight = noise(*size)
    assert relative_error(weight, get_decomposer(name).decompose(weight, shape, moment_of(noise(9, size[1])))) < 2e-6


def test_a_shape_that_does_not_fit_is_refused(name):
    decomposer = get_decomposer(name)
    with pytest.raises(ValueError, match="W is"):
        decomposer.decompose(noise(24, 21), SHAPES[0], MOMENT)
    with pytest.raises(ValueError, match="above the 20"):
        decomposer.decompose(noise(24, 20), TTShape((24, 1), (1, 20), (1, 21, 1)), MOMENT)


def test_data_is_asked_for_where_it_is_needed(name):
    decomposer, weight = get_decomposer(name), noise(24, 20)
    if name in DATA_AWARE:
        with pytest.raises(UsageError, match=f"decomposer '{name}' needs calibration data"):
            decomposer.decompose(weight, SHAPES[0])
        with pytest.raises(ValueError, match="moment is of 19 inputs"):
            decomposer.decompose(weight, SHAPES[0], moment_of(noise(50, 19)))
    else:
        without, given_one = (decomposer.decompose(weight, SHAPES[0], m) for m in (None, MOMENT))
        assert all(np.array_equal(a, b) for a, b in zip(without, given_one, strict=True))

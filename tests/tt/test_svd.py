import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.spectra import error_bound, layer_spectra, unfolding_spectra, unfoldings_of
from lrf_dse.tt.svd import get_decomposer
from tests import strategies

ROUNDING = 2e-6


def relative_error(weight, cores):
    norm = np.linalg.norm(weight.astype(np.float64))
    return np.linalg.norm(weight.astype(np.float64) - to_matrix([c.astype(np.float64) for c in cores])) / (norm or 1.0)


@settings(deadline=None)
@given(st.data())
def test_full_rank_reproduces_the_weight(data):
    shape = data.draw(strategies.tt_shapes(max_d=5, full_rank=True))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    cores = NumpyTtSvd().decompose(weight, shape)
    assert [c.shape for c in cores] == list(shape.core_shapes)
    assert {c.dtype for c in cores} == {np.dtype(np.float32)}
    assert relative_error(weight, cores) < ROUNDING


@settings(deadline=None)
@given(st.data())
def test_error_is_within_the_bound_of_the_spectra(data):
    shape = data.draw(strategies.tt_shapes(max_d=4))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    spectra = unfolding_spectra(weight, unfoldings_of(shape.out_dims, shape.in_dims))
    bound = error_bound(spectra, shape)
    assert 0 <= bound <= 1
    assert relative_error(weight, NumpyTtSvd().decompose(weight, shape)) <= bound + ROUNDING


def test_two_cores_reach_the_bound_exactly_by_lapack():
    weight = np.random.default_rng(2).standard_normal((300, 784)).astype(np.float32)
    shape = TTShape((25, 12), (28, 28), (1, 40, 1))
    unfolded = weight.astype(np.float64).reshape(25, 12, 28, 28).transpose(0, 2, 1, 3).reshape(700, 336)
    sigma = np.linalg.svd(unfolded, compute_uv=False)
    optimum = np.sqrt((sigma[40:] ** 2).sum() / (sigma**2).sum())
    assert error_bound(layer_spectra(weight), shape) == pytest.approx(optimum, rel=1e-9)
    assert relative_error(weight, NumpyTtSvd().decompose(weight, shape)) == pytest.approx(optimum, rel=1e-5)


@pytest.mark.parametrize(("m", "n"), [((1200, 1), (1, 1100)), ((40, 30), (5, 220)), ((40, 30), (110, 10))])
@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_the_sketch_is_near_the_optimum_and_bounded(monkeypatch, m, n, noise):
    # A small sketch and a low limit, so that a layer of a fraction of a second takes the way of the 4096 x 4096 ones.
    monkeypatch.setattr("lrf_dse.tt.subspace.SKETCH_SIZE", 64)
    rng = np.random.default_rng(3)
    signal = rng.standard_normal((1200, 12)) @ rng.standard_normal((12, 1100)) / 12**0.5
    weight = (signal + noise * rng.standard_normal((1200, 1100))).astype(np.float32)
    shape = TTShape(m, n, (1, 16, 1))
    unfoldings = unfoldings_of(m, n)
    exact = error_bound(unfolding_spectra(weight, unfoldings), shape)
    sketched = unfolding_spectra(weight, unfoldings, exact_side=100, sketch_size=64)
    error = relative_error(weight, NumpyTtSvd(exact_side=100).decompose(weight, shape))
    assert exact - 1e-6 <= error <= error_bound(sketched, shape) + 1e-5
    assert error_bound(sketched, shape) <= 1.01 * exact
    tail = sketched.tails[unfoldings[0]]
    assert (np.diff(tail) <= 0).all()
    assert tail[-1] == 0
    assert (tail >= unfolding_spectra(weight, unfoldings).tails[unfoldings[0]] - 1e-7).all()


def test_same_seed_same_cores():
    weight = np.random.default_rng(4).standard_normal((700, 700)).astype(np.float32)
    shape = TTShape((700, 1), (1, 700), (1, 4, 1))
    first, second = (NumpyTtSvd(seed=5, exact_side=64).decompose(weight, shape) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_zero_weights_have_no_error():
    weight = np.zeros((12, 20), dtype=np.float32)
    shape = TTShape((4, 3), (4, 5), (1, 3, 1))
    assert error_bound(layer_spectra(weight), shape) == 0
    assert not to_matrix(NumpyTtSvd().decompose(weight, shape)).any()


@pytest.mark.parametrize("size", [(1, 12), (12, 1), (1, 1), (7, 13)])
def test_unit_and_prime_sizes(size):
    weight = np.random.default_rng(5).standard_normal(size).astype(np.float32)
    shape = TTShape((size[0], 1), (1, size[1]), (1, min(size), 1))
    assert error_bound(layer_spectra(weight), shape) == 0
    assert relative_error(weight, NumpyTtSvd().decompose(weight, shape)) < ROUNDING


def test_spectra_that_do_not_cover_a_shape_are_refused():
    spectra = unfolding_spectra(np.ones((12, 12), np.float32), [(12, 1)], seed=0)
    with pytest.raises(ValueError, match=r"no unfolding \(2, 6\)"):
        error_bound(spectra, TTShape((2, 6), (6, 2), (1, 2, 1)))


def test_unknown_decomposer_names_the_valid_ones():
    with pytest.raises(UsageError, match="use one of als, t3f, tt_svd, whitened"):
        get_decomposer("svd")
    assert get_decomposer("tt_svd", seed=3) == NumpyTtSvd(seed=3)


# TensorFlow's own import uses what newer Pythons and libraries deprecate; nothing of ours is silenced.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_t3f_agrees_with_numpy_and_leaves_numpy_as_it_was():
    had_int = hasattr(np, "int")
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((24, 60)).astype(np.float32)
    for shape in (
        TTShape((6, 4), (6, 10), (1, 9, 1)),
        TTShape((4, 3, 2), (3, 4, 5), (1, 5, 4, 1)),
        TTShape((24, 1), (1, 60), (1, 7, 1)),
        TTShape((4, 3, 2), (3, 4, 5), (1, 12, 10, 1)),
    ):
        theirs = get_decomposer("t3f").decompose(weight, shape)
        ours = get_decomposer("tt_svd").decompose(weight, shape)
        assert [c.shape for c in theirs] == list(shape.core_shapes)
        np.testing.assert_allclose(to_matrix(theirs), to_matrix(ours), atol=3e-5)
    with pytest.raises(ValueError, match="above"):
        get_decomposer("t3f").decompose(weight, TTShape((6, 4), (6, 10), (1, 37, 1)))
    assert hasattr(np, "int") == had_int

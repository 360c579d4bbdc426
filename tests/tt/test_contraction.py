import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.cost.counts import stage_counts
from lrf_dse.tt.contraction import apply, shape_of, stage_matrices, to_matrix
from tests import strategies


def einsum_rows(cores, x):
    """y = x W^T by one einsum over all cores: the independent oracle."""
    d = len(cores)
    letters = iter(string.ascii_letters)
    batch = next(letters)
    m, n = [next(letters) for _ in range(d)], [next(letters) for _ in range(d)]
    r = [next(letters) for _ in range(d + 1)]
    terms = [f"{r[k]}{m[k]}{n[k]}{r[k + 1]}" for k in range(d)]
    spec = ",".join([batch + "".join(n), *terms]) + "->" + batch + "".join(m)
    state = x.reshape([x.shape[0], *[core.shape[2] for core in cores]])
    return np.einsum(spec, state, *cores, optimize="greedy").reshape(x.shape[0], -1)


@settings(deadline=None)
@given(st.data(), st.integers(1, 5), strategies.orders)
def test_transpose_free_equals_einsum_equals_dense(data, batch, order):
    shape = data.draw(strategies.tt_shapes(max_d=6, max_dim=3, feasible=False))
    cores = [core.astype(np.float64) for core in data.draw(strategies.cores(shape))]
    x = np.random.default_rng(0).standard_normal((batch, shape.in_features))
    expected = x @ to_matrix(cores).T
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(apply(cores, x, order=order) / size, expected / size, atol=1e-12)
    np.testing.assert_allclose(einsum_rows(cores, x) / size, expected / size, atol=1e-12)
    assert shape_of(cores) == shape


@given(st.data(), strategies.orders)
def test_stage_matrices_are_those_of_the_counts(data, order):
    shape = data.draw(strategies.tt_shapes(max_d=5, feasible=False))
    matrices = stage_matrices(data.draw(strategies.cores(shape)), order)
    assert [a.shape for a in matrices] == [(s.rows, s.k) for s in stage_counts(shape, order)]
    assert all(a.flags.c_contiguous for a in matrices)


def test_one_matrix_element_is_the_product_of_core_slices():
    rng = np.random.default_rng(1)
    g1, g2 = rng.standard_normal((1, 2, 3, 4)), rng.standard_normal((4, 5, 7, 1))
    assert to_matrix([g1, g2])[1 * 5 + 3, 2 * 7 + 6] == pytest.approx((g1[:, 1, 2, :] @ g2[:, 3, 6, :]).item())


def test_neighbouring_ranks_must_agree():
    with pytest.raises(ValueError, match="different ranks"):
        shape_of([np.zeros((1, 2, 2, 3), np.float32), np.zeros((2, 2, 2, 1), np.float32)])

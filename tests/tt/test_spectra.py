import numpy as np
import pytest

from lrf_dse.tt.spectra import unfolding_spectra
from lrf_dse.tt.subspace import unfold


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e30])
@pytest.mark.parametrize("unfolding", [(1, 2), (4, 3), (20, 1), (1, 30), (20, 15)])
def test_tails_are_those_of_lapack(scale, unfolding):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((20, 30)) * 0.7 ** np.arange(30) * scale).astype(np.float32)
    sigma = np.linalg.svd(unfold(weight, *unfolding).astype(np.float64), compute_uv=False)
    energy = (sigma / sigma[0]) ** 2
    expected = np.append(np.cumsum(energy[::-1])[::-1], 0) / energy.sum()
    tail = unfolding_spectra(weight, [unfolding]).tails[unfolding]
    np.testing.assert_allclose(tail, expected, rtol=0, atol=1e-13)
    assert not tail.flags.writeable


def test_an_unfolding_groups_leading_modes_of_both_sides():
    weight = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
    row, column = 1 * 3 + 2, 1 * 2 + 0  # (i_1, j_1) = (1, 2), (i_2, j_2) = (1, 0)
    assert unfold(weight, 2, 3)[row, column] == weight[1 * 2 + 1, 2 * 2 + 0]

import pytest
import scipy.linalg  # noqa: F401  its BLAS is one of those that are limited
from threadpoolctl import threadpool_info, threadpool_limits

from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.schema import FcLayer


def blas_threads():
    found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert found
    return set(found)


@pytest.mark.parametrize(("inputs", "outputs", "inside"), [(784, 300, {1}), (4096, 4096, {2})])
def test_small_layers_are_fitted_on_one_thread_and_large_ones_on_all(inputs, outputs, inside):
    layers = [FcLayer(f"{m}x{n}", n, m, batch=1, has_bias=True) for m, n in ((10, 100), (outputs, inputs))]
    with threadpool_limits(2, user_api="blas"):
        with few_blas_threads(layers):
            assert blas_threads() == inside
        assert blas_threads() == {2}

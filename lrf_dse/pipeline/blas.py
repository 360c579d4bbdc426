"""How many threads linear algebra may use while the layers of a model are fitted.

Fits of all but large layers are thousands of small products and factorisations. Shared out over threads they do not get
faster, and threads that wait for each other spin: TT-ALS of 512 x 784 took 0.5 s of processor time on one thread
and 5 s on two, on two cores with other work; and a machine that explores has compilers and simulators to run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lrf_dse.schema import FcLayer

MANY_WEIGHTS = 1 << 22
"""A layer with more weights than this is worth the threads: 2048 x 2048."""


@contextmanager
def few_blas_threads(layers: Sequence[FcLayer]) -> Iterator[None]:
    """One thread for numpy's and scipy's BLAS in this process, unless one of `layers` is large; as before at the end.

    The limit is the process's, not the caller's alone. onnxruntime and TensorFlow have threads of their own.
    """
    import scipy.linalg  # noqa: F401  its BLAS is another copy, which cannot be limited before it is loaded
    from threadpoolctl import threadpool_limits

    large = any(layer.out_features * layer.in_features > MANY_WEIGHTS for layer in layers)
    with threadpool_limits(None if large else 1, user_api="blas"):
        yield

"""TT-SVD by the t3f library (with TensorFlow): the established implementation, slow on large layers.

Contains t3f's one incompatibility with NumPy 2 and TensorFlow's messages at import; nothing else may import t3f.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import Core, Cores
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.shapes import require_decomposable


@dataclass(frozen=True)
class T3fTtSvd:
    """`t3f.to_tt_matrix`: full LAPACK SVDs in float32. `seed` is not used: nothing in it is random."""

    seed: int = 0

    def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
        """The cores of W [out, in] in `shape`; `moment` is not used.

        Raises ValueError where the shape does not fit W or a rank cannot be filled (t3f would return a smaller one
        without a word), ImportError where t3f or TensorFlow is not installed.
        """
        require_decomposable(weight.shape, shape)
        with _numpy_int():
            t3f = _import_t3f()
            tt_matrix = t3f.to_tt_matrix(
                np.asarray(weight, dtype=np.float32),
                shape=[list(shape.out_dims), list(shape.in_dims)],
                # t3f takes the ranks with the ones at both ends.
                max_tt_rank=list(shape.ranks),
            )
        return [np.asarray(core.numpy(), dtype=np.float32) for core in tt_matrix.tt_cores]


@contextmanager
def _numpy_int() -> Iterator[None]:
    """`numpy.int` for as long as t3f runs: t3f 1.2 uses the alias, which NumPy removed in 1.24."""
    if hasattr(np, "int"):
        yield
        return
    np.int = int  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del np.int  # type: ignore[attr-defined]


@contextmanager
def silent_start() -> Iterator[None]:
    """TensorFlow's start-up messages (written by C++ to standard error) switched off unless asked for."""
    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]


def _import_t3f() -> Any:
    with silent_start():
        import t3f  # 4 s: it imports TensorFlow
    return t3f

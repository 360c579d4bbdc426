"""TT-SVD in numpy: the fast engine for plain weight error, with no data.

Owns the left-to-right truncation; the subspaces of single steps are `lrf_dse.tt.subspace`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import Core, Cores
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.monarch import block_svd
from lrf_dse.tt.shapes import require_decomposable
from lrf_dse.tt.subspace import EXACT_SIDE, dominant_basis, unfold


@dataclass(frozen=True)
class NumpyTtSvd:
    """TT-SVD (Oseledets, SIAM J. Sci. Comput. 33, 2011, algorithm 1), left to right, each step by a fast subspace.

    Steps whose smaller side is at most `exact_side` are exact to float32 rounding; larger ones with a small rank are
    randomised from `seed` (see `lrf_dse.tt.subspace`). All cores but the last are left-orthonormal.
    """

    seed: int = 0
    exact_side: int = EXACT_SIDE

    def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
        """The cores of W [out, in]; the squared error is at most the sum of the discarded squared singular values.

        Blocks of a Monarch matrix are decomposed each by itself. `moment` is not used. Raises ValueError where the
        shape does not fit W, or a rank is above what any decomposition can fill.
        """
        require_decomposable(weight.shape, shape)
        if shape.is_monarch:
            wide = block_svd(np.asarray(weight, np.float64), shape, seed=self.seed)
            return [np.asarray(core, dtype=np.float32) for core in wide]
        # All modes interleaved, [m_1, n_1, m_2, n_2, ...], so that every unfolding is a plain reshape.
        modes = np.asarray(weight, dtype=np.float32).reshape(shape.out_dims + shape.in_dims)
        remainder = modes.transpose([axis for k in range(shape.d) for axis in (k, shape.d + k)])
        if shape.d == 2:  # one blocked copy instead of a generic one: the large case
            remainder = unfold(np.asarray(weight, dtype=np.float32), shape.out_dims[0], shape.in_dims[0])
        cores = []
        for left, m, n, right in shape.core_shapes[:-1]:
            matrix = np.ascontiguousarray(remainder).reshape(left * m * n, -1)
            basis = dominant_basis(matrix, right, seed=self.seed, exact_side=self.exact_side)
            cores.append(basis.reshape(left, m, n, right))
            # Projected, not divided by singular values: the last core carries the norm, and the error stays that of
            # projections.
            remainder = basis.T @ matrix
        cores.append(np.ascontiguousarray(remainder).reshape(shape.core_shapes[-1]))
        return cores

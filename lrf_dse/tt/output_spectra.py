"""What shapes lose of a layer's outputs, predicted from spectra before anything is fitted.

The squared output error of T in the place of W is ||(W - T) C^1/2||_F^2, C the second moment of the inputs. Of plain
low rank the tail of the singular values of W C^1/2 is exactly what the best fit leaves. Of other shapes the tails of
its unfoldings say what TT-SVD would leave of W C^1/2; a fit in the norm of C does better, by two or three times where
inputs are cut (LeNet-300-100), and by bounds of W alone it does better still. So this tells the hopeless and the
exact from the rest; shapes near each other are better ranked by the spectra of W.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import TTShape
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.spectra import block_tails, unfolding_spectra, unfoldings_of
from lrf_dse.tt.subspace import FloatArray, Matrix

MOST_INPUTS = 2048
"""Inputs up to which C^1/2 is computed: some seconds on one core."""


def can_predict(moment: Moment) -> bool:
    """Whether C is known as a matrix that is small enough."""
    return moment.second is not None and moment.in_features <= MOST_INPUTS


def predicted_output_errors(weight: Matrix, moment: Moment, shapes: Sequence[TTShape], *, seed: int = 0) -> FloatArray:
    """Relative output errors of `shapes` in the place of W [out, in], predicted; above 1 where cuts add up to more.

    Raises ValueError where `can_predict` says no.
    """
    if moment.second is None or not can_predict(moment):
        raise ValueError(f"the root of the moment of {moment.in_features} inputs is not computed")
    # ||(W - T) C^1/2||: the spectra of W C^1/2 take the place of those of W.
    weighed = (weight @ _symmetric_root(moment.second)).astype(np.float32)
    blocks = {(shape.out_dims[0], shape.in_dims[0]) for shape in shapes if shape.is_monarch}
    of_blocks = block_tails(weighed, blocks)
    cuts = [() if shape.is_monarch else unfoldings_of(shape.out_dims, shape.in_dims) for shape in shapes]
    tails = unfolding_spectra(weighed, sorted({cut for each in cuts for cut in each}), seed=seed).tails
    energies = [
        float(of_blocks[shape.out_dims[0], shape.in_dims[0]][shape.ranks[1]])
        if shape.is_monarch
        else sum(float(tails[cut][rank]) for cut, rank in zip(each, shape.ranks[1:-1], strict=True))
        for each, shape in zip(cuts, shapes, strict=True)
    ]
    return np.sqrt(np.array(energies, dtype=np.float64))


def _symmetric_root(second: NDArray[np.float64]) -> FloatArray:
    """C^1/2: of all roots the nearest to the identity, so that inputs stay where they are and cuts mean the same."""
    values, vectors = np.linalg.eigh(second)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)

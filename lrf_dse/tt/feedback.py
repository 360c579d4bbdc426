"""Rounding a matrix to its grid so that its outputs change least, not its elements.

With inputs of second moment H, A [rows, K] becomes Q on the grid with a small tr((A - Q) H (A - Q)^T). Two passes:

1. Error feedback: columns are rounded one after the other, and what each loses is made good by those that are still
   to come (Frantar et al., GPTQ, arXiv 2210.17323: optimal brain surgery, row by row, with one Cholesky factor).
2. Coordinate descent: every column in turn is rounded to the best codes while all others stand. The objective never
   grows, and what the first pass could not know (columns that came later) is used.

All rows count alike. A chain of factors sees to that by its gauge (`lrf_dse.tt.few_bits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Storage
from lrf_dse.tt.grid import CODES, GROUP, Stored, codes_of, nearest, scales_of, spread, to_half

FloatArray = NDArray[np.float64]

BLOCK = 128
"""Columns after which the rest of the matrix is brought up to date: one product instead of many thin ones."""

DAMPING = 1e-4
"""Added to H's diagonal, relative to its mean: an input that never varies leaves H singular."""

SWEEPS = 3
"""Sweeps of coordinate descent, at most; most of the gain is in the first."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The second moment H [K, K] of a stage's inputs. Its factor is made once: every rank and storage needs it."""

    second: FloatArray

    @cached_property
    def damped(self) -> FloatArray:
        """H with DAMPING on its diagonal."""
        damped = self.second.copy()
        damped.flat[:: len(damped) + 1] += DAMPING * (float(np.trace(self.second)) / len(damped) or 1.0)
        return damped

    @cached_property
    def factor(self) -> FloatArray:
        """U, upper triangular, with H^-1 = U^T U: how a column's loss is best spread over those to come."""
        return np.asarray(np.linalg.cholesky(np.linalg.inv(self.damped)).T)


def rounded(matrix: FloatArray, storage: Storage, inputs: Inputs, *, sweeps: int = SWEEPS) -> Stored:
    """A [rows, K] on the grid of `storage` with about the least error on `inputs`.

    Scales are those of the rounding to nearest, and of what error feedback leaves of each group where a group of
    columns has scales of its own. Never worse than rounding to nearest.
    """
    plain = nearest(matrix, storage, np.diag(inputs.second))
    if storage == "fp32":
        return plain
    fed_back = _descended(matrix, _fed_back(matrix, storage, inputs), inputs.damped, sweeps)
    return min((plain, fed_back), key=lambda stored: squared_error(matrix, stored, inputs.second))


def squared_error(matrix: FloatArray, stored: Stored, second: FloatArray) -> float:
    """tr((A - Q) H (A - Q)^T)."""
    difference = matrix - stored.values
    return float(np.vdot(difference, difference @ second))


def _fed_back(matrix: FloatArray, storage: Storage, inputs: Inputs) -> Stored:
    """The first pass."""
    factor = inputs.factor
    left = np.array(matrix, np.float64)  # what is still to be rounded
    rows, columns = left.shape
    importance = np.diag(inputs.damped)
    codes = np.zeros(left.shape, np.float16 if storage == "fp16" else np.int8)
    scales = None if storage == "fp16" else scales_of(left, storage, importance)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        losses = np.zeros((rows, end - start))
        for k in range(start, end):
            if storage == "int4" and k % GROUP == 0:
                group = slice(k, min(k + GROUP, columns))
                assert scales is not None
                scales[:, k // GROUP] = scales_of(left[:, group], storage, importance[group])[:, 0]
            codes[:, k], values = _column(left[:, k], storage, scales, k)
            losses[:, k - start] = (left[:, k] - values) / factor[k, k]
            left[:, k + 1 : end] -= np.outer(losses[:, k - start], factor[k, k + 1 : end])
        left[:, end:] -= losses @ factor[start:end, end:]
    return Stored(storage, codes, scales)


def _column(
    column: FloatArray, storage: Storage, scales: NDArray[np.floating] | None, k: int
) -> tuple[NDArray[np.generic], FloatArray]:
    """The codes of column `k`, and the values that they stand for."""
    if scales is None:
        half = to_half(column)
        return half, half.astype(np.float64)
    own = scales[:, k // GROUP if storage == "int4" else 0].astype(np.float64)
    codes = codes_of(column, own, storage)
    return codes, codes * own


def _descended(matrix: FloatArray, start: Stored, second: FloatArray, sweeps: int) -> Stored:
    """The second pass, in codes: scales stand."""
    if start.scales is None:
        return start
    limits = CODES[start.storage]
    scales = spread(start.scales.astype(np.float32), matrix.shape[1]).astype(np.float64)
    codes = start.codes.astype(np.float64)
    error = matrix - codes * scales
    before = inf
    for _ in range(sweeps):
        objective = float(np.vdot(error, error @ second))
        if objective >= before * (1 - 1e-3):
            break
        before = objective
        for first in range(0, matrix.shape[1], BLOCK):
            block = slice(first, min(first + BLOCK, matrix.shape[1]))
            _descend(codes, error, scales, second=second, block=block, limits=limits)
    return Stored(start.storage, codes.astype(np.int8), start.scales)


def _descend(
    codes: FloatArray,
    error: FloatArray,
    scales: FloatArray,
    *,
    second: FloatArray,
    block: slice,
    limits: tuple[int, int],
) -> None:
    """One visit of every column in `block`; `codes` and `error` = A - Q change in place."""
    gradient = error @ second[:, block]
    for j in range(gradient.shape[1]):
        k = block.start + j
        own = scales[:, k]
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = codes[:, k] + np.where(own == 0, 0.0, gradient[:, j] / (second[k, k] * own))
        new = np.clip(np.rint(wanted), *limits)
        change = (codes[:, k] - new) * own  # what the error of this column gains
        codes[:, k] = new
        error[:, k] += change
        gradient += np.outer(change, second[k, block])

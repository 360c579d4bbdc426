"""Rounding a matrix to its grid so that its outputs change least, not its elements.

With inputs of second moment H, A [rows, K] becomes Q on the grid with a small tr((A - Q) H (A - Q)^T). Two passes:

1. Error feedback: columns are rounded one after the other, and what each loses is made good by those that are still
   to come (Frantar et al., GPTQ, arXiv 2210.17323: optimal brain surgery, row by row, with one Cholesky factor).
2. Coordinate descent: every column in turn is rounded to the best codes while all others stand. The objective never
   grows, and what the first pass could not know (columns that came later) is used.

All rows count alike. A chain of factors sees to that by its gauge (`lrf_dse.tt.few_bits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Storage
from lrf_dse.tt.grid import CODES, GROUP, Stored, nearest, scales_of, spread, to_half

FloatArray = NDArray[np.float64]

BLOCK = 128
"""Columns after which the rest of the matrix is brought up to date: one product instead of many thin ones."""

DAMPING = 1e-4
"""Added to H's diagonal, relative to its mean: an input that never varies leaves H singular."""

INNER = 16
"""Columns within a block that are brought up to date one by one; it divides GROUP, as GROUP divides BLOCK."""

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
        """U, upper triangular, with H^-1 = U^T U: how a column's loss is best spread over those to come.

        Cholesky of H with its inputs in reverse order gives H = R R^T, R upper triangular, and U = R^-1: a quarter of
        the operations of inverting H first. Raises LinAlgError where H is singular to rounding.
        """
        from scipy.linalg.lapack import dtrtri

        # Reversing rows and columns turns the lower factor of the reversed H into an upper factor of H.
        upper = np.linalg.cholesky(self.damped[::-1, ::-1])[::-1, ::-1]
        inverse, failed = dtrtri(np.asfortranarray(upper))
        if failed:
            raise np.linalg.LinAlgError("the second moment of a stage's inputs is singular")
        return np.ascontiguousarray(inverse)


def rounded(matrix: FloatArray, storage: Storage, inputs: Inputs, *, sweeps: int = SWEEPS) -> Stored:
    """A [rows, K] on the grid of `storage` with about the least error on `inputs`.

    Scales are those of the rounding to nearest, and of what error feedback leaves of each group where a group of
    columns has scales of its own. Never worse than rounding to nearest.
    """
    plain = nearest(matrix, storage, np.diag(inputs.second))
    if storage == "fp32":
        return plain
    fed_back = _descended(matrix, _fed_back(matrix, storage, inputs), inputs.damped, sweeps)
    # The objective is that of the data, without damping: by it nothing worse than rounding to nearest is returned.
    return min((plain, fed_back), key=lambda stored: squared_error(matrix, stored, inputs.second))


def squared_error(matrix: FloatArray, stored: Stored, second: FloatArray) -> float:
    """tr((A - Q) H (A - Q)^T)."""
    difference = matrix - stored.values
    return float(np.vdot(difference, difference @ second))


def _fed_back(matrix: FloatArray, storage: Storage, inputs: Inputs) -> Stored:
    """The first pass. What is left to be rounded lies as [K, rows]: a column is read and written as one piece."""
    factor, importance = inputs.factor, np.diag(inputs.damped)
    left = np.array(matrix.T, np.float64, order="C")
    columns, rows = left.shape
    codes = np.zeros(left.shape, np.float16 if storage == "fp16" else np.int8)
    scales = None if storage == "fp16" else scales_of(matrix, storage, importance)
    steps = None if scales is None else _Steps.of(scales[:, 0])
    losses = np.empty((BLOCK, rows))
    with np.errstate(invalid="ignore"):
        for start, end in _runs(0, columns, BLOCK):
            for first, last in _runs(start, end, INNER):
                for k in range(first, last):
                    if storage == "int4" and k % GROUP == 0:
                        group = slice(k, min(k + GROUP, columns))
                        assert scales is not None
                        # A group's scales are chosen when its turn comes: by then feedback has changed its columns.
                        scales[:, k // GROUP] = scales_of(left[group].T, storage, importance[group])[:, 0]
                        steps = _Steps.of(scales[:, k // GROUP])
                    loss = _round_column(left[k], codes[k], steps, CODES.get(storage), out=losses[k - start])
                    # GPTQ's update: the loss of column k, over U_kk, times row k of U is taken off the columns to come.
                    loss /= factor[k, k]
                    left[k + 1 : last] -= factor[k, k + 1 : last, None] * loss
                left[last:end] -= factor[first:last, last:end].T @ losses[first - start : last - start]
            # Lazily: columns beyond the block see its losses in one product of matrices.
            left[end:] -= factor[start:end, end:].T @ losses[: end - start]
    return Stored(storage, np.ascontiguousarray(codes.T), scales)


def _runs(start: int, end: int, step: int) -> list[tuple[int, int]]:
    """start..end in parts of `step`, the last one shorter."""
    return [(first, min(first + step, end)) for first in range(start, end, step)]


@dataclass(frozen=True, eq=False)
class _Steps:
    """The scales of a column's elements; `divisor` gives code 0 where a scale is 0."""

    own: FloatArray
    divisor: FloatArray

    @staticmethod
    def of(scales: NDArray[np.floating]) -> _Steps:
        own = scales.astype(np.float64)
        return _Steps(own, np.where(own == 0, inf, own))


def _round_column(
    column: FloatArray,
    codes: NDArray[np.generic],
    steps: _Steps | None,
    limits: tuple[int, int] | None,
    *,
    out: FloatArray,
) -> FloatArray:
    """Put the nearest codes of `column` into `codes`, and what the rounding loses into `out`."""
    if steps is None or limits is None:
        codes[:] = to_half(column)
        np.subtract(column, codes, out=out)
        return out
    _clip(np.rint(np.divide(column, steps.divisor, out=out), out=out), limits)
    codes[:] = out
    out *= steps.own
    np.subtract(column, out, out=out)
    return out


def _clip(codes: FloatArray, limits: tuple[int, int]) -> FloatArray:
    """`codes` within `limits`, in place: np.clip takes several times as long on a short array."""
    np.maximum(codes, limits[0], out=codes)
    np.minimum(codes, limits[1], out=codes)
    return codes


def _descended(matrix: FloatArray, start: Stored, second: FloatArray, sweeps: int) -> Stored:
    """The second pass, in codes: scales stand. Arrays lie as [K, rows], as in the first pass."""
    if start.scales is None:
        return start
    # int8 has one scale for a row, which is a group of all columns.
    size = GROUP if start.storage == "int4" else len(second)
    steps = [_Steps.of(scales) for scales in start.scales.T]
    codes = start.codes.T.astype(np.float64, order="C")
    error = matrix.T - codes * spread(start.scales.astype(np.float32), len(codes)).T.astype(np.float64)
    gradient = second @ error
    before = inf
    for _ in range(sweeps):
        objective = float(np.vdot(error, gradient))
        if objective >= before * (1 - 1e-3):
            break
        before = objective
        for first, last in _runs(0, len(codes), BLOCK):
            block = slice(first, last)
            changed = error[block].copy()
            _descend(
                codes[block],
                error[block],
                gradient[block].copy(),
                [steps[k // size] for k in range(first, last)],
                second=second[block, block],
                limits=CODES[start.storage],
            )
            changed -= error[block]
            gradient -= second[:, block] @ changed
    return Stored(start.storage, np.ascontiguousarray(codes.T.astype(np.int8)), start.scales)


def _descend(
    codes: FloatArray,
    error: FloatArray,
    gradient: FloatArray,
    steps: Sequence[_Steps],
    *,
    second: FloatArray,
    limits: tuple[int, int],
) -> None:
    """One visit of every column of a block, all arrays its own; `codes` and `error` = A - Q change in place."""
    new, changes = np.empty(codes.shape[1]), np.empty((INNER, codes.shape[1]))
    for first, last in _runs(0, len(codes), INNER):
        for k in range(first, last):
            change = changes[k - first]
            # The minimum over one column: gradient over curvature, in units of the scale.
            np.divide(gradient[k], second[k, k] * steps[k].divisor, out=new)
            new += codes[k]
            _clip(np.rint(new, out=new), limits)
            np.subtract(codes[k], new, out=change)  # what the error of this column gains, in codes
            # Most columns stay in later sweeps: their products are saved.
            if not change.any():
                continue
            change *= steps[k].own
            codes[k] = new
            error[k] += change
            gradient[k + 1 : last] += second[k, k + 1 : last, None] * change
        gradient[last:] += second[first:last, last:].T @ changes[: last - first]

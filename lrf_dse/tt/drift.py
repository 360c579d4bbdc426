"""What to fit a layer to when its inputs have drifted: earlier layers are compressed, and its outputs should not show.

The layer gets x_a and should give W x_d, as it did before. In the least squares sense the best matrix is
    W' = (W E[x_d x_a^T] + ridge W) (E[x_a x_a^T] + ridge I)^-1
and E ||W x_d - T x_a||^2 + ridge ||W - T||^2 = ||(W' - T) (E[x_a x_a^T] + ridge I)^1/2||^2 + what no T can change: so
W' takes the place of W in any decomposer, with the moment of x_a. Both inputs are one row [x_a, x_d] of a `Moment` of
twice the size, which keeps them paired. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.data_aware import DEFAULT_RIDGE, RIDGES
from lrf_dse.tt.moment import MATRIX_SIDE, FloatArray, Moment, solved

MOST_INPUTS = MATRIX_SIDE // 2
"""Layers with more inputs are left to their own fits: the joint moment would take gigabytes."""


@dataclass(frozen=True, eq=False)
class FitGoal:
    """What a layer is fitted to: `weight` [out, in] in the place of W, in the metric of `moment`.

    With T in the place of W the bias is shifted by `offset` [out], the mean output that is wanted, minus T E[x_a];
    `mean` is E[x_a] over all rows, those held out included.
    """

    weight: NDArray[np.float32]
    moment: Moment
    offset: FloatArray
    mean: FloatArray

    def bias_shift(self, approximation: NDArray[np.floating]) -> FloatArray:
        """What to add to the bias [out] so that the mean output is that of W before."""
        return np.asarray(self.offset - approximation.astype(np.float64) @ self.mean)


def target_of(weight: NDArray[np.float32], joint: Moment, *, centred: bool) -> FitGoal:
    """The target of W [out, in] for `joint` rows [x_a, x_d], the ridge chosen on those held out.

    `centred`: the layer's bias will be shifted, so only what varies has to be fitted. No drift leaves W as it is.
    """
    wide, n = weight.astype(np.float64), weight.shape[1]
    ridge = DEFAULT_RIDGE
    if len(joint.held_out):
        ridge = _chosen_ridge(wide, joint, centred)
    everything = joint.with_held_out()
    corrected = _Normal.of(wide, everything, centred).solved(ridge).astype(np.float32)
    return FitGoal(corrected, actual_moment(joint), wide @ everything.mean[n:], everything.mean[:n])


def actual_moment(joint: Moment) -> Moment:
    """The moment of x_a alone."""
    n = joint.in_features // 2
    assert joint.second is not None
    return Moment(joint.samples, joint.mean[:n], joint.second[:n, :n], None, joint.held_out[:, :n], joint.units)


@dataclass(frozen=True, eq=False)
class _Normal:
    """The normal equations of W' without a ridge: `actual` is E[x_a x_a^T], `drift` is W (E[x_d x_a^T] - `actual`)."""

    weight: FloatArray
    actual: FloatArray
    drift: FloatArray

    @staticmethod
    def of(weight: FloatArray, joint: Moment, centred: bool) -> _Normal:
        n = weight.shape[1]
        assert joint.second is not None
        actual, cross = joint.second[:n, :n], joint.second[n:, :n]
        if centred:
            mean = joint.mean[:n]
            # With a bias that will be shifted, means are free: moments become covariances.
            actual, cross = actual - np.outer(mean, mean), cross - np.outer(joint.mean[n:], mean)
        return _Normal(weight, actual, weight @ (cross - actual))

    def solved(self, ridge: float) -> FloatArray:
        """W', which is W where nothing drifted, whatever the ridge."""
        if ridge == inf:
            return self.weight
        shifted = self.actual.copy()
        # `or 1.0`: inputs that are all 0 would leave nothing to scale the ridge by.
        shifted.flat[:: len(shifted) + 1] += ridge * (float(np.trace(self.actual)) / len(shifted) or 1.0)
        # W plus what the drift asks for: exactly W where nothing drifted, which W' from its own formula would only be
        # to rounding.
        return np.asarray(self.weight + solved(shifted, self.drift.T).T)


def _chosen_ridge(weight: FloatArray, joint: Moment, centred: bool) -> float:
    """The ridge with the least error on the rows held out."""
    n, normal = weight.shape[1], _Normal.of(weight, joint, centred)
    # Single precision is enough to compare by, and twice as fast; scaled, because values may be of any size.
    scale, size = float(np.abs(weight).max()) or 1.0, float(np.abs(joint.held_out).max()) or 1.0
    rows = joint.held_out / np.float32(size)

    def outputs(matrix: FloatArray, columns: slice) -> NDArray[np.float32]:
        scaled = matrix / scale
        found = rows[:, columns] @ scaled.T.astype(np.float32)
        return found - (scaled @ joint.mean[columns] / size).astype(np.float32) if centred else found

    wanted, errors = outputs(weight, slice(n, None)), {}
    # inf leaves W as it is: a correction that does not help on held-out rows is not made.
    for ridge in (inf, *RIDGES):
        errors[ridge] = float(np.linalg.norm(wanted - outputs(normal.solved(ridge), slice(n))))
    return min(errors, key=errors.__getitem__)

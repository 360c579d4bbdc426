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
class Target:
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


def target_of(weight: NDArray[np.float32], joint: Moment, *, centred: bool) -> Target:
    """The target of W [out, in] for `joint` rows [x_a, x_d], the ridge chosen on those held out.

    `centred`: the layer's bias will be shifted, so only what varies has to be fitted. No drift leaves W as it is.
    """
    wide = weight.astype(np.float64)
    ridge = DEFAULT_RIDGE
    if len(joint.held_out):
        errors = {r: _held_out_error(wide, joint, r, centred) for r in (inf, *RIDGES)}
        ridge = min(errors, key=errors.__getitem__)
    everything, n = joint.with_held_out(), weight.shape[1]
    corrected = _solved(wide, everything, ridge, centred).astype(np.float32)
    return Target(corrected, actual_moment(joint), wide @ everything.mean[n:], everything.mean[:n])


def actual_moment(joint: Moment) -> Moment:
    """The moment of x_a alone."""
    n = joint.in_features // 2
    assert joint.second is not None
    return Moment(joint.samples, joint.mean[:n], joint.second[:n, :n], None, joint.held_out[:, :n], joint.units)


def _solved(weight: FloatArray, joint: Moment, ridge: float, centred: bool) -> FloatArray:
    if ridge == inf:
        return weight
    n = weight.shape[1]
    assert joint.second is not None
    second = joint.second - np.outer(joint.mean, joint.mean) if centred else joint.second
    actual, cross = second[:n, :n], second[n:, :n]
    lift = ridge * (float(np.trace(actual)) / n or 1.0)
    shifted = actual + lift * np.eye(n)
    # W plus what the drift takes: exact where nothing drifted, whatever the ridge.
    return np.asarray(weight + solved(shifted, (weight @ (cross - actual)).T).T)


def _held_out_error(weight: FloatArray, joint: Moment, ridge: float, centred: bool) -> float:
    n = weight.shape[1]
    corrected = _solved(weight, joint, ridge, centred)
    shift = weight @ joint.mean[n:] - corrected @ joint.mean[:n] if centred else np.zeros(len(weight))
    actual, wanted = joint.held_out[:, :n], joint.held_out[:, n:]
    return float(np.linalg.norm(wanted @ weight.T - actual @ corrected.T - shift))

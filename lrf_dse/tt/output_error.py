"""The error that a fit makes in a layer's outputs on data it has not seen: measured, corrected, with an interval.

A fit is judged on rows that were held out of it. The weights that are shipped are fitted again with those rows among
the others, so they are a little better than what was measured; `output_error` corrects for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.moment import FloatArray, Moment, metric_of

CONFIDENCE = 0.95
"""Share of fresh data whose error should lie in the interval."""


@dataclass(frozen=True)
class OutputError:
    """||(W - T) x - s|| / ||W x|| on fresh rows: the estimate, and its 95% interval (None: nothing was held out)."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def held_out_error(
    moment: Moment,
    weight: NDArray[np.floating],
    approximation: NDArray[np.floating],
    *,
    shift: NDArray[np.floating] | None = None,
) -> float:
    """||(W - T) x - s|| / ||W x|| over the rows held out (over C where there are none); 0 where W x is 0 throughout.

    s [out] is what is added to the bias together with T: nothing by default.
    """
    if not len(moment.held_out):
        return sqrt(_seen(moment, weight, approximation, shift))
    missed, wanted = _squares(moment, weight, approximation, shift)
    return sqrt(missed.sum() / wanted.sum()) if wanted.any() else 0.0


def output_error(
    moment: Moment,
    weight: NDArray[np.floating],
    approximation: NDArray[np.floating],
    *,
    shift: NDArray[np.floating] | None = None,
    fitted: bool = True,
) -> OutputError:
    """The error to expect on fresh rows of the fit to all rows; T is the fit to those that are not held out.

    `fitted`: whether T depends on the data. The squared error of a fit to n rows is about E + a/n on fresh rows and
    E - a/n on its own (the symmetry behind Akaike's criterion), so half of the difference of the two is a/n, of which a
    fit to all rows saves the share held out. The interval is Student's on the logarithm, from the linearised ratio over
    units of rows that belong together (Cochran, Sampling Techniques, 1977, section 6.3).
    """
    if not len(moment.held_out):
        return OutputError(sqrt(_seen(moment, weight, approximation, shift)))
    missed, wanted = _squares(moment, weight, approximation, shift)
    if not wanted.any():
        return OutputError(0.0, 0.0, 0.0)
    if moment.units is not None:
        _, unit = np.unique(moment.units, return_inverse=True)
        # Rows of one unit (an image's places, a person's samples) are not independent: units are what is counted.
        missed, wanted = (np.bincount(unit, weights=part).astype(np.float64) for part in (missed, wanted))
    ratio, held = missed.sum() / wanted.sum(), len(moment.held_out)
    gain = 0.0
    if fitted:
        # Held-out rows see E + a/n and the fitted ones E - a/n: their difference is 2 a/n.
        optimism = max(0.0, ratio - _seen(moment, weight, approximation, shift))
        gain = optimism / 2 * held / (moment.samples + held)
    value = sqrt(max(0.0, ratio - gain))
    if len(missed) < 2 or not ratio:
        return OutputError(value)
    from scipy.stats import t

    # Linearised ratio estimator: the deviation of sum(missed) / sum(wanted) is that of these residuals.
    residuals = missed - ratio * wanted
    deviation = sqrt(float(residuals @ residuals) * len(missed) / (len(missed) - 1)) / wanted.sum()
    # On the logarithm of the root: half of the relative deviation of the square. The correction is as uncertain as
    # it is large.
    spread = sqrt((deviation / ratio / 2) ** 2 + (gain / ratio / 2) ** 2)
    # On the logarithm the interval is never below 0, and as many times above as below.
    factor = exp(float(t.ppf((1 + CONFIDENCE) / 2, len(missed) - 1)) * spread)
    return OutputError(value, value / factor, value * factor)


def _squares(
    moment: Moment,
    weight: NDArray[np.floating],
    approximation: NDArray[np.floating],
    shift: NDArray[np.floating] | None,
) -> tuple[FloatArray, FloatArray]:
    """||(W - T) x - s||^2 and ||W x||^2 of every row held out, both in the same unit."""
    scale = float(np.abs(weight).max()) or 1.0
    wanted = (weight.astype(np.float64) / scale).astype(np.float32)
    difference = ((weight.astype(np.float64) - approximation) / scale).astype(np.float32)
    # Single precision is enough to compare, and twice as fast; scaled, because values may be of any size.
    size = float(np.abs(moment.held_out).max()) or 1.0
    rows = (moment.held_out / size).astype(np.float32).T
    missed = difference @ rows
    if shift is not None:
        missed -= (shift.astype(np.float64) / scale / size).astype(np.float32)[:, None]
    squares = (np.einsum("ij,ij->j", part, part, dtype=np.float64) for part in (missed, wanted @ rows))
    return next(squares), next(squares)


def _seen(
    moment: Moment,
    weight: NDArray[np.floating],
    approximation: NDArray[np.floating],
    shift: NDArray[np.floating] | None,
) -> float:
    """||(W - T) x - s||^2 / ||W x||^2 over the rows that made C."""
    scale = float(np.abs(weight).max()) or 1.0
    wanted = weight.astype(np.float64) / scale
    difference = wanted - approximation.astype(np.float64) / scale
    metric, size = metric_of(moment, 0.0, by_rows=True), sqrt(moment.mean_square) or 1.0
    offset = np.zeros(len(weight)) if shift is None else shift.astype(np.float64) / scale / size
    # ||D x - s||^2 in the mean, multiplied out; C and the mean are all that is known of the rows.
    squared = metric.squared(difference) - 2 * offset @ (difference @ moment.mean) / size + offset @ offset
    norm = metric.squared(wanted)
    return max(0.0, float(squared)) / norm if norm else 0.0

"""Compare a program's outputs with an independent reference. The result is figures, or the reason why one is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrf_dse.runners.job import Array

ROUNDING = 2.0**-23
"""The rounding of a float32 of 1, below which every error is right. It matters where all outputs are tiny, such as
those of a single sigmoid whose class is absent: an error of 2e-8 in 9e-5 was seen, and is no mistake."""


@dataclass(frozen=True)
class Errors:
    """Largest error over all outputs: absolute, and relative to max |y| of the reference."""

    max_abs: float
    max_rel: float


def compare(outputs: Sequence[Array], expected: Sequence[Array], *, tolerance: float) -> Errors | str:
    """The errors if every output is right, else one line that says what is wrong.

    max |y| is taken over all floating-point outputs together; if it is 0 the error counts as it is. Errors up to
    ROUNDING are right in any case.
    Integer and boolean outputs must be equal. A value that is not finite is wrong on either side.
    """
    for index, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        if got.shape != want.shape:
            return f"output {index} has shape {got.shape}, expected {want.shape}"
        if not _is_float(want) and not np.array_equal(got, want):
            wrong = int(np.flatnonzero(got.ravel() != want.ravel())[0])
            return f"output {index}: element {wrong} is {got.flat[wrong]}, expected {want.flat[wrong]} exactly"
        for side, array in (("the reference of output", want), ("output", got)):
            if _is_float(array) and (bad := int(np.size(array) - np.count_nonzero(np.isfinite(array)))):
                return f"{side} {index} holds {bad} values that are not finite (of {array.size})"
    return _compare_floats(outputs, expected, tolerance)


def _compare_floats(outputs: Sequence[Array], expected: Sequence[Array], tolerance: float) -> Errors | str:
    """`compare` for outputs of the right shapes, all finite."""
    floats = [i for i, want in enumerate(expected) if _is_float(want) and want.size]
    scale = max((float(np.abs(expected[i]).max()) for i in floats), default=0.0) or 1.0
    worst, where = 0.0, (0, 0)
    for i in floats:
        # In float64: the difference of two float32 near the tolerance would itself be rounded.
        error = np.abs(outputs[i].astype(np.float64) - expected[i].astype(np.float64)).ravel()
        at = int(error.argmax())
        if error[at] > worst:
            worst, where = float(error[at]), (i, at)
    if worst <= max(tolerance * scale, ROUNDING):
        return Errors(worst, worst / scale)
    output, element = where
    got, want = float(outputs[output].flat[element]), float(expected[output].flat[element])
    return (
        f"output {output}: element {element} is {got:g}, expected {want:g}: "
        f"off by {worst / scale:.2g} of max |y|, tolerance {tolerance:g}"
    )


def _is_float(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))

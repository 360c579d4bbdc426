"""Axes of the charts, the same for every drawing library: limits beyond the values, round ticks and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10
from typing import Literal

Unit = Literal["count", "bytes", "plain"]
"""How tick texts are written: 20k, 64 KiB, or as they are."""

Ticks = tuple[tuple[float, str], ...]

# Of the span of the values: so much is free beyond the first and the last one, for their marks.
_AIR = 0.08
_MOST_TICKS = 8
_FARTHEST = 0.5
"""A budget line farther from the values than this share of their span would squeeze them: it is not shown."""

# Per cent of error. Where errors get large the steps are smaller than 1-2-5: accuracies of 90, 80, 70, 50 are expected.
_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0, 70.0, 90.0)


@dataclass(frozen=True)
class Axis:
    """One axis from `low` to `high`; `inverted` puts the low end up or right. `ticks` are (position, text)."""

    label: str
    low: float
    high: float
    log: bool
    inverted: bool
    ticks: Ticks

    def fraction(self, value: float) -> float:
        """Where a value lies: 0 is the left or lower end of the drawing, 1 the right or upper one."""
        low, high, at = (log10(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low)
        return 1.0 - share if self.inverted else share


def make_axis(label: str, values: Sequence[float], *, line: float | None, log: bool, unit: Unit) -> Axis:
    """An axis that holds `values` with air, and `line` (a budget) unless that would squeeze them.

    Without values it is an axis from 0 to 1, so that an empty chart can be drawn. A log axis needs values above 0.
    """
    low, high = _limits(values or (0.0, 1.0), line, log)
    ticks = _log_ticks(low, high, unit) if log else _linear_ticks(low, high, unit)
    return Axis(label, low, high, log, False, ticks)


def error_axis(label: str, errors: Sequence[float], *, line: float | None) -> Axis:
    """An accuracy axis that is logarithmic in the error rate: `errors` are 100 - accuracy, ticks say the accuracy."""
    low, high = _limits(errors, line, True)
    ticks = tuple((error, f"{100 - error:g}") for error in _ERRORS if low <= error <= high)
    return Axis(label, low, high, True, True, ticks)


def _limits(values: Sequence[float], line: float | None, log: bool) -> tuple[float, float]:
    scaled = [log10(v) if log else v for v in values]
    low, high = min(scaled), max(scaled)
    # A single value still needs a span: a factor of 2 on a logarithmic axis, a fifth of the value on a linear one.
    span = (high - low) or (0.3 if log else abs(high) * 0.2) or 1.0
    if line is not None and (not log or line > 0):
        at = log10(line) if log else line
        # `at` is a budget line, which only then stretches the axis.
        if low - _FARTHEST * span <= at <= high + _FARTHEST * span:
            low, high = min(low, at), max(high, at)
    span = max(span, high - low)
    low, high = low - _AIR * span, high + _AIR * span
    return (10**low, 10**high) if log else (low, high)


def _log_ticks(low: float, high: float, unit: Unit) -> Ticks:
    if unit == "bytes":
        # Powers of two: 64 KiB and 128 KiB, where powers of ten would be odd numbers of bytes.
        first, last = ceil(log2(low)), floor(log2(high))
        step = max(1, ceil((last - first + 1) / _MOST_TICKS))
        return tuple((float(2**k), tick_text(2**k, unit)) for k in range(first, last + 1, step))
    first, last = floor(log10(low)), ceil(log10(high))
    sparse = max(1, ceil((last - first) / _MOST_TICKS))  # more decades than ticks: every second one, every third, ...
    # From fine to coarse, the first that has few enough ticks.
    for steps, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), sparse)):
        places = [m * 10.0**k for k in range(first, last + 1, stride) for m in steps if low <= m * 10.0**k <= high]
        if len(places) <= _MOST_TICKS:
            break
    return tuple((place, tick_text(place, unit)) for place in places)


def _linear_ticks(low: float, high: float, unit: Unit) -> Ticks:
    """At most `_MOST_TICKS` multiples of a round step: 1, 2 or 5 times a power of ten, or a power of two for bytes."""
    least = (high - low) / _MOST_TICKS
    if unit == "bytes":
        step = 2.0 ** ceil(log2(least))
    else:
        decade = 10.0 ** floor(log10(least))
        step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= least)
    # k times 0.1 is 0.30000000000000004 for k = 3.
    places = [round(k * step, 12) for k in range(ceil(low / step), floor(high / step) + 1)]
    return tuple((place, tick_text(place, unit)) for place in places)


def tick_text(value: float, unit: Unit) -> str:
    """A value as short as a tick can bear.

    >>> tick_text(20000, "count"), tick_text(65536, "bytes"), tick_text(0.25, "plain")
    ('20k', '64 KiB', '0.25')
    """
    if unit == "plain":
        return f"{value:g}"
    suffixes, base = ((" B", " KiB", " MiB", " GiB"), 1024.0) if unit == "bytes" else (("", "k", "M", "G"), 1000.0)
    power = 0
    while abs(value) >= base and power < len(suffixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.4g}{suffixes[power]}"

"""What "accuracy" means: metrics of a model's first output, sample by sample, and the drop from the dense model's.

    top1, top5    percent of labels that are at the largest score, or among the five largest
    balanced      top1 of every class by itself, averaged over the classes
    agreement     percent of largest scores at the same place as the dense model's: needs no labels
                  (of outputs that are integers or truth values, percent of equal ones)
    mse           mean squared error against y, or against the dense model's output
    cosine        cosine similarity, in percent, with y or with the dense model's output

A sample's share of a metric is a pair (gained, possible); the metric is sum(gained) / sum(possible). So tokens, padding
and classes of unequal size are but weights, and resampling samples is enough for an interval. Reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError, UsageError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Needed = Literal["labels", "values", "anything"]

METRICS_VERSION = 2
"""To be raised whenever a metric or its interval changes for the same outputs and targets."""

RESAMPLES = 1000
"""Bootstrap samples of an interval."""

MOST_UNITS = 2000
"""Samples beyond this are joined at random into so many units before they are resampled: it changes no interval."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The shares of a metric, one a sample: the value is sum(gained) / sum(possible)."""

    gained: Floats
    possible: Floats

    @property
    def value(self) -> float:
        """The metric over all samples."""
        return float(self.gained.sum() / (self.possible.sum() or 1.0))


WORST_POINTS, WORST_PERCENT = 5.0, 50.0
"""What a plan may lose to be of use, where the user sets no limit: points of accuracy, or percent of an error.

An image whose squared error grows by a quarter looks the same to most; a classifier that loses five points does not."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric: `shares` makes its Scores of the first output, the targets y (or None), and the dense model's output.

    `unit` is that of a value, `drop_unit` that of a drop: how much worse a plan is than the dense model. `needs` is
    what y has to hold. `source` tells two functions of one name apart.
    """

    name: str
    unit: str
    drop_unit: str
    needs: Needed
    shares: Callable[[Array, Array | None, Array], Scores]
    relative: bool = False
    smaller_is_better: bool = False
    source: str = ""

    @property
    def worst_drop(self) -> float:
        """The largest drop, in the metric's drop unit, of a plan that is of use where the user sets no limit."""
        return WORST_PERCENT if self.relative else WORST_POINTS

    @property
    def version(self) -> str:
        """What a figure in this metric depends on."""
        return f"{self.name} {METRICS_VERSION} {self.source}".strip()


@dataclass(frozen=True)
class Drop:
    """How much worse than the dense model, in the metric's drop unit, and its 95% interval by a paired bootstrap."""

    value: float
    low: float
    high: float


def drop_between(
    dense: Scores,
    other: Scores,
    metric: Metric,
    *,
    seed: int,
    scale: float | None = None,
    units: NDArray[np.integer] | None = None,
) -> Drop:
    """The drop from `dense` to `other`, both over the same samples; below 0 where `other` is better.

    In points: a difference. Relative: percent of |`scale`|, by default the dense model's value. The interval resamples
    samples, the same for both (Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13); with
    `units`, one a sample, those that belong together are drawn together.
    """
    sign = -1.0 if metric.smaller_is_better else 1.0
    if metric.relative:
        sign *= 100.0 / (abs(dense.value if scale is None else scale) or 1.0)
    columns = np.stack([dense.gained, dense.possible, other.gained, other.possible], axis=1)
    drawn = _units(columns if units is None else summed(columns, units), seed)
    # One product gives the sums of all resamples: its first factor says how often each draws every unit.
    sums = _resampling(len(drawn), seed) @ drawn
    # A resample may hold nothing that counts, such as padding alone; nothing was gained there either.
    possible = np.where(sums[:, [1, 3]] > 0, sums[:, [1, 3]], 1.0)
    drops = sign * (sums[:, 0] / possible[:, 0] - sums[:, 2] / possible[:, 1])
    # The percentile interval. It is shown beside a drop; whether a budget holds is decided by `bounds`.
    low, high = np.quantile(drops, [0.025, 0.975])
    return Drop(sign * (dense.value - other.value), float(low), float(high))


def summed(columns: Floats, units: NDArray[np.integer]) -> Floats:
    """The sums of rows [samples, columns] over every unit."""
    _, unit = np.unique(units, return_inverse=True)
    return np.stack([np.bincount(unit, weights=column) for column in columns.T], axis=1)


def _units(columns: Floats, seed: int) -> Floats:
    """The rows, or at most `MOST_UNITS` sums of random groups of about equal size."""
    if len(columns) <= MOST_UNITS:
        return columns
    # [resamples, units] numbers are held at a time: 16 MB for the largest.
    group = np.random.default_rng(seed).permutation(np.arange(len(columns)) % MOST_UNITS)
    return np.stack([np.bincount(group, weights=column) for column in columns.T], axis=1)


@lru_cache(maxsize=4)
def _resampling(units: int, seed: int) -> Floats:
    """How often each unit is drawn [resamples, units]."""
    draws = np.random.default_rng(seed).integers(0, units, size=(RESAMPLES, units))
    return np.stack([np.bincount(row, minlength=units) for row in draws]).astype(np.float64)


def class_axis(output_shape: tuple[int, ...], labels_shape: tuple[int, ...] | None) -> int | None:
    """The axis of scores in an output [samples, ...] whose other axes hold one label each; None if there is none.

    Axes of size 1 do not count; of several, the last is taken. Without labels it is the only axis longer than 1, or the
    last one.
    """
    # From the last axis to the first: where several could hold scores, frameworks put classes last.
    candidates = range(len(output_shape) - 1, 0, -1)
    if labels_shape is None:
        long = [axis for axis in candidates if output_shape[axis] > 1]
        return long[0] if long else None
    wanted = _without_ones(labels_shape)
    fitting = [a for a in candidates if _without_ones((*output_shape[:a], *output_shape[a + 1 :])) == wanted]
    return next((axis for axis in fitting if output_shape[axis] > 1), fitting[0] if fitting else None)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *(size for size in shape[1:] if size != 1))


def _class_rows(output: Array, labels: Array | None) -> Floats:
    """`output` as [samples, labels a sample, classes]."""
    axis = class_axis(output.shape, None if labels is None else labels.shape)
    if axis is None:
        wanted = "one per class" if labels is None else f"one per class for labels {list(labels.shape[1:])}"
        raise DataError(f"the first output has shape {list(output.shape[1:])} per sample; accuracy needs {wanted}")
    moved = np.moveaxis(output, axis, -1)
    return moved.reshape(len(output), -1, output.shape[axis])


def _among(output: Array, labels: Array | None, best: int) -> tuple[NDArray[np.bool_], Array]:
    """Whether each label [samples, labels a sample] is among the `best` largest scores, and the labels."""
    if labels is None:
        raise DataError(
            "there are no labels y, so there is no accuracy to measure; add them, or use --metric agreement"
        )
    rows, wanted = _class_rows(output, labels), labels.reshape(len(labels), -1)
    scores = np.take_along_axis(rows, np.maximum(wanted, 0)[..., None], axis=2)
    # Equal scores count for the class that comes first, as argmax does.
    first = np.arange(rows.shape[2]) < wanted[..., None]
    return ((rows > scores) | ((rows == scores) & first)).sum(axis=2) < best, wanted


def _top(best: int) -> Callable[[Array, Array | None, Array], Scores]:
    def shares(output: Array, labels: Array | None, _dense: Array) -> Scores:
        right, wanted = _among(output, labels, best)
        counted = wanted >= 0  # padding of sequences
        return Scores(100.0 * (right & counted).sum(axis=1), counted.sum(axis=1).astype(np.float64))

    return shares


def _balanced(output: Array, labels: Array | None, _dense: Array) -> Scores:
    right, wanted = _among(output, labels, 1)
    counted = wanted >= 0
    # Each class that occurs has the same share in all; within it each of its labels the same.
    sizes = np.bincount(wanted[counted])
    share = np.where(counted, 1.0 / sizes[np.maximum(wanted, 0)].clip(1) / np.count_nonzero(sizes), 0.0)
    return Scores(100.0 * (right * share).sum(axis=1), share.sum(axis=1))


def _agreement(output: Array, _labels: Array | None, dense: Array) -> Scores:
    if output.dtype.kind in "iub":
        same = (output == dense).reshape(len(output), -1)
    else:
        same = _class_rows(output, None).argmax(axis=2) == _class_rows(dense, None).argmax(axis=2)
    return Scores(100.0 * same.sum(axis=1), np.full(len(same), float(same.shape[1])))


def _mse(output: Array, values: Array | None, dense: Array) -> Scores:
    wanted = _like(output, dense if values is None else values)
    error = (output.astype(np.float64) - wanted).reshape(len(output), -1) ** 2
    return Scores(error.sum(axis=1), np.full(len(error), float(error.shape[1])))


def _cosine(output: Array, values: Array | None, dense: Array) -> Scores:
    wanted = _like(output, dense if values is None else values)
    axis = class_axis(output.shape, None)
    found, wanted = (np.moveaxis(a.astype(np.float64), -1 if axis is None else axis, -1) for a in (output, wanted))
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    # The cosine with a vector of zeros is not defined; 0 is the answer that flatters nobody.
    cosine = np.divide((found * wanted).sum(axis=-1), norms, out=np.zeros_like(norms), where=norms > 0)
    rows = cosine.reshape(len(output), -1)
    return Scores(100.0 * rows.sum(axis=1), np.full(len(rows), float(rows.shape[1])))


def _like(output: Array, values: Array) -> Array:
    if values.size != output.size or len(values) != len(output):
        raise DataError(
            f"y has shape {list(values.shape[1:])} per sample, the first output {list(output.shape[1:])}; "
            "this metric compares them number by number"
        )
    return values.reshape(output.shape).astype(np.float64)


def custom_metric(name: str, function: Callable[[Array, Array | None], Any], *, source: str = "") -> Metric:
    """A metric of one's own: `function(output, y)` gives one score a sample, larger is better; drops are differences.

    `output` is the model's first output [samples, ...], y the targets as the data holds them, or None. `source` is the
    function's text: other text is another metric.
    """

    def shares(output: Array, targets: Array | None, _dense: Array) -> Scores:
        found = np.asarray(function(output, targets), np.float64)
        if found.shape != (len(output),) or not np.isfinite(found).all():
            raise DataError(f"metric {name}: gave shape {list(found.shape)}, wanted is one number a sample")
        return Scores(found, np.ones(len(found)))

    return Metric(name, "", "(own unit)", "anything", shares, source=sha256(source.encode()).hexdigest()[:16])


def get_metric(name: str) -> Metric:
    """The metric `name`. Raises UsageError, which lists the valid names."""
    if name not in METRICS:
        raise UsageError(f"unknown metric {name!r}: use one of {', '.join(METRICS)}, or module:function")
    return METRICS[name]


def dense_scale(metric: Metric, targets: Array | None, dense: Array) -> float | None:
    """What relative drops are divided by, where that is not the dense model's value; else None.

    Without targets the dense model is compared with itself and has no squared error: the variance of its output is
    taken.
    """
    return float(dense.astype(np.float64).var()) if metric.name == "mse" and targets is None else None


def default_metric(targets: Array | None, output_shape: tuple[int, ...], *, kind: str = "f") -> str:
    """The metric where the user named none, for outputs of `output_shape` [per sample] and numpy's `kind` of number.

    top1 with labels, mse with numbers of the output's shape, agreement without y. A single score has no largest place:
    it is compared as a number, with y or with the dense model's. Integers and truth values are equal or not.
    """
    if kind != "f":
        return "agreement"
    if prod(output_shape) == 1:
        return "mse"
    if targets is None:
        return "agreement"
    numbers = targets.dtype.kind == "f" and prod(targets.shape[1:]) == prod(output_shape)
    one_hot = numbers and bool(np.isin(targets, (0.0, 1.0)).all())
    return "mse" if numbers and not one_hot else "top1"


def why_unfit(metric: Metric, output_shape: tuple[int, ...], *, kind: str = "f") -> str | None:
    """Why `metric` says nothing of outputs of `output_shape` [per sample] and `kind` of number; None where it fits."""
    if kind not in "fiub":
        return "it is no number; choose another output as the first"
    if metric.needs == "labels" and kind != "f":
        return "it holds no scores of classes; use agreement, or a metric of your own"
    places = max((size for size in output_shape), default=1)
    least = {"top1": 2, "balanced": 2, "cosine": 2, "top5": 6, "agreement": 2 if kind == "f" else 1}.get(metric.name, 1)
    if places < least:
        what = "one number" if prod(output_shape) == 1 else f"{list(output_shape)}"
        return f"it is {what} per sample, and {metric.name} needs at least {least} scores; use mse"
    return None


# A drop of a percentage is a difference in points; one of an error has no scale of its own and is relative.
_POINTS: Mapping[str, Any] = {"unit": "%", "drop_unit": "points"}
_RELATIVE: Mapping[str, Any] = {"drop_unit": "% of the dense model's", "relative": True, "needs": "values"}

METRICS: dict[str, Metric] = {
    "top1": Metric("top1", **_POINTS, needs="labels", shares=_top(1)),
    "top5": Metric("top5", **_POINTS, needs="labels", shares=_top(5)),
    "balanced": Metric("balanced", **_POINTS, needs="labels", shares=_balanced),
    "agreement": Metric("agreement", **_POINTS, needs="anything", shares=_agreement),
    "mse": Metric("mse", "", **_RELATIVE, shares=_mse, smaller_is_better=True),
    "cosine": Metric("cosine", "%", **_RELATIVE, shares=_cosine),
}
"""Name to metric."""

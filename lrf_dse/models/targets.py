"""The targets y of a data set, checked against the model's first output and what the metric needs of them.

    labels   one whole number per sample, or one per token or pixel; below 0 among several is padding and not counted
    values   numbers in the shape of the output

Owns what is refused and the words for it.
"""

from __future__ import annotations

from inspect import getsource
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError
from lrf_dse.models.metrics import METRICS, Metric, class_axis, custom_metric, get_metric
from lrf_dse.models.model import Model, sample_shape
from lrf_dse.models.sources import is_function, load_function, naming

Array = NDArray[Any]


def load_metric(name: str) -> Metric:
    """The metric `name`, which may be module:function. Raises UsageError or DataError."""
    if name in METRICS or not is_function(Path(name)):
        return get_metric(name)
    function = load_function(name)
    try:
        source = getsource(function)
    except (OSError, TypeError):  # a builtin, or a callable object: its name has to do
        source = name

    def scored(output: Array, y: Array | None) -> Any:
        with naming(name):
            return function(output, y)

    return custom_metric(name, scored, source=source)


def checked_targets(y: Array, samples: int, model: Model, *, metric: Metric, path: Path) -> Array:
    """`y` as `metric` wants it: labels as int64, values as float32. Raises DataError."""
    if metric.needs == "labels":
        return _labels(y, samples, model, path)
    if y.ndim == 0 or len(y) != samples:
        raise DataError(f"{path}: y has shape {list(y.shape)}, wanted is one entry for each of {samples} samples")
    if metric.needs == "anything":
        return y
    shape = sample_shape(model.outputs[0], model.batch)
    if y.dtype.kind not in "fiub" or prod(y.shape[1:]) != prod(shape):
        raise DataError(
            f"{path}: y is {y.dtype} {list(y.shape)}; metric {metric.name} compares it with the first output, "
            f"{list(shape)} per sample"
        )
    values = y.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: y holds NaN or Inf")
    return values


def _labels(y: Array, samples: int, model: Model, path: Path) -> Array:
    shape = sample_shape(model.outputs[0], model.batch)
    # Keras and scikit-learn often hold labels as one column.
    if y.ndim == 2 and y.shape[1] == 1 and sum(size > 1 for size in shape) == 1:
        y = y[:, 0]
    if y.ndim == 0 or len(y) != samples:
        raise DataError(
            f"{path}: y has {len(y) if y.ndim else 'no'} labels for {samples} samples, shape {list(y.shape)}"
        )
    # Labels out of a table of numbers are floats that hold whole numbers.
    if y.dtype.kind == "f" and bool(np.all(np.isfinite(y) & (y == np.floor(y)))):
        y = y.astype(np.int64)
    axis = class_axis((samples, *shape), y.shape)
    if axis is None and y.ndim > 1:
        raise DataError(
            f"{path}: y has shape {list(y.shape)}; wanted is one label per sample, [{samples}], or one for every place "
            f"of the first output {list(shape)} (one-hot labels: y.argmax(axis=1))"
        )
    if axis is None:
        raise DataError(
            f"{path}: has labels y, but the model's first output {model.outputs[0].name!r} has shape {list(shape)} per "
            "sample, not one score per class; leave y out, or choose another --metric"
        )
    if y.dtype.kind not in "iu":
        raise DataError(f"{path}: y is {y.dtype}; labels must be whole numbers")
    _check_range(y, shape[axis - 1], path)
    return y.astype(np.int64)


def _check_range(y: Array, classes: int, path: Path) -> None:
    # A sample without a label has no place in accuracy, so that one label a sample must be in range; of several a
    # negative one is padding, as in sequences of unequal length.
    counted = y if y.ndim == 1 else y[y >= 0]
    bad = np.flatnonzero((counted < 0) | (counted >= classes))
    if len(bad):
        at = f" of sample {bad[0]}" if y.ndim == 1 else ""
        raise DataError(
            f"{path}: label {counted[bad[0]]}{at} is out of range; the model has classes 0 to {classes - 1}"
        )
    if len(np.unique(counted)) <= 1:
        what = f"all labels are {counted[0]}" if len(counted) else "all labels are padding"
        raise DataError(f"{path}: {what}; accuracy on one class says nothing: give data of several classes")

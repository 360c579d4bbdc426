"""Data of a model: samples for each input and targets, checked against the model, and split into parts.

    x   samples along axis 0, each of the shape of one sample of the model's input (several inputs: one array
        per input name instead; the input's name may also replace x)
    y   targets, one per sample, as the metric needs them (`targets`); optional
    groups   which samples belong together (the same speaker, the same film), one number or name a sample; optional

Owns what is refused of x and of groups, and the words for it, and the names of the parts. Nothing is rescaled or
reshaped: a silent guess would only show as bad accuracy. float64 and float16 become float32, integers the integer
type of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError
from lrf_dse.models.metrics import METRICS, Metric, default_metric, get_metric, why_unfit
from lrf_dse.models.model import Model, TensorSpec, sample_shape
from lrf_dse.models.parts import Units, deal, one_label_each, units_of
from lrf_dse.models.sources import read_arrays
from lrf_dse.models.targets import checked_targets

SHARES = {"calibration": 0.4, "validation": 0.18, "confirmation": 0.3, "test": 0.12}
"""How one file of data is split. What confirms decides whether a budget holds, so it gets most of what judges."""

JUDGING_SHARES = {"validation": 0.3, "confirmation": 0.5, "test": 0.2}
"""How it is split where calibration data comes from a file of its own."""


@dataclass(frozen=True)
class Dataset:
    """Samples for each model input (axis 0 is the sample), targets [samples, ...] or None, and where they come from.

    `metric` is what they are judged by. `part` names the piece of the source this is: "all", or a key of `split`.
    `sha256` is of the whole source. `groups` are the user's, one a sample; `runs` the units of a part, as they were in
    the source.
    """

    path: Path
    x: Mapping[str, NDArray[Any]]
    y: NDArray[Any] | None
    sha256: str
    metric: Metric = METRICS["top1"]
    part: str = "all"
    groups: NDArray[Any] | None = None
    runs: Units | None = None

    @property
    def units(self) -> Units:
        """Which samples belong together (see `parts`)."""
        if self.runs is not None:
            return self.runs
        return units_of(self.samples, groups=self.groups, labels=one_label_each(self.y))

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(next(iter(self.x.values())))


def load_data(path: Path, model: Model, metric: Metric | None = None, *, judges: bool = True) -> Dataset:
    """The data in `path` (see `sources`), as `model` wants it, to be judged by `metric`.

    Without a metric the targets decide (`default_metric`). Data that never `judges` needs no targets, and what it has
    is not looked at. Raises DataError naming the source, the array and what to do.
    """
    path = Path(path)
    arrays, digest = read_arrays(path)
    names = _input_keys(arrays, model, path)
    x = {
        spec.name: _inputs(arrays[names[spec.name]], spec, model, f"{path}: {names[spec.name]}")
        for spec in model.inputs
    }
    counts = {names[name]: len(values) for name, values in x.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: the arrays have different numbers of samples: {counts}")
    samples = next(iter(counts.values()))
    if samples == 0:
        raise DataError(f"{path}: holds no samples")
    if not judges:
        return Dataset(path, x, None, digest)
    y = arrays.get("y")
    judged = metric or _default_metric(y, model)
    _check_fits(judged, model, path)
    if y is not None:
        y = checked_targets(y, samples, model, metric=judged, path=path)
    elif judged.needs == "labels":
        raise DataError(f"{path}: has no labels y, which metric {judged.name} needs; add them, or use agreement")
    # A model's input may have this name; its array is then that input.
    groups = None if "groups" in x else _groups(arrays.get("groups"), samples, path)
    return Dataset(path, x, y, digest, judged, groups=groups)


def _default_metric(y: NDArray[Any] | None, model: Model) -> Metric:
    first = model.outputs[0]
    return get_metric(default_metric(y, sample_shape(first, model.batch), kind=np.dtype(first.dtype).kind))


def _check_fits(metric: Metric, model: Model, path: Path) -> None:
    """Raise DataError where `metric` cannot say anything of the model's first output."""
    first = model.outputs[0]
    reason = why_unfit(metric, sample_shape(first, model.batch), kind=np.dtype(first.dtype).kind)
    if reason is not None:
        raise DataError(f"{path}: metric {metric.name} does not fit the model's first output {first.name!r}: {reason}")


def split(dataset: Dataset, seed: int, shares: Mapping[str, float] = SHARES) -> dict[str, Dataset]:
    """Disjoint parts of `dataset`, dealt out with `seed`, of about the given shares; units stay whole (see `parts`).

    Fits see "calibration" only, the search sees "validation", at most five frozen plans see "confirmation", and nothing
    but the report sees "test". Raises DataError where there are fewer groups than parts.
    """
    return {name: part_of(dataset, name, rows) for name, rows in split_rows(dataset, seed, shares).items()}


def split_rows(dataset: Dataset, seed: int, shares: Mapping[str, float] = SHARES) -> dict[str, NDArray[np.intp]]:
    """Which samples `split` gives to each part."""
    try:
        return deal(dataset.units, shares, seed=seed, labels=one_label_each(dataset.y))
    except ValueError as error:
        names, held = ", ".join(shares), f"{dataset.samples} samples"
        if dataset.groups is not None:
            held += f" in {len(np.unique(dataset.groups))} groups"
        raise DataError(f"{dataset.path}: {held} cannot be split into {names}; give more") from error


def part_of(dataset: Dataset, name: str, rows: NDArray[np.integer]) -> Dataset:
    """Some rows of `dataset` as a part with a name."""
    return replace(
        dataset,
        x={key: values[rows] for key, values in dataset.x.items()},
        y=None if dataset.y is None else dataset.y[rows],
        part=name,
        groups=None if dataset.groups is None else dataset.groups[rows],
        # Units are those of the source: neighbours in a part need not have been neighbours there.
        runs=dataset.units[rows],
    )


def _input_keys(arrays: Mapping[str, NDArray[Any]], model: Model, path: Path) -> dict[str, str]:
    """Which array feeds which model input. Raises DataError for a missing or unknown key."""
    names = [spec.name for spec in model.inputs]
    if len(names) == 1:
        keys = {names[0]: "x" if "x" in arrays or names[0] not in arrays or names[0] == "y" else names[0]}
    else:
        keys = {name: name for name in names}
        if "y" in names:
            raise DataError(
                f"{path}: the model has an input named 'y', which is the key of the labels; rename the input"
            )
    wanted = ", ".join(keys.values())
    missing = [key for key in keys.values() if key not in arrays]
    unknown = sorted(set(arrays) - set(keys.values()) - {"y", "groups"})
    if missing or unknown:
        found = ", ".join(sorted(arrays)) or "none"
        raise DataError(f"{path}: has the arrays {found}; wanted are {wanted}, y for labels, groups, and no others")
    return keys


def _groups(groups: NDArray[Any] | None, samples: int, path: Path) -> NDArray[Any] | None:
    """The user's groups, checked: whole numbers or names, one a sample."""
    if groups is None:
        return None
    if groups.shape != (samples,) or groups.dtype.kind not in "iuUSb":
        raise DataError(
            f"{path}: groups is {groups.dtype} {list(groups.shape)}; wanted is one whole number or name for each of "
            f"{samples} samples, the same for those that belong together"
        )
    if len(np.unique(groups)) == 1:
        raise DataError(f"{path}: groups holds one group only, which cannot be split; leave groups out")
    return groups


def _inputs(values: NDArray[Any], spec: TensorSpec, model: Model, where: str) -> NDArray[Any]:
    """`values` in the type and shape of the model's input, checked."""
    shape = sample_shape(spec, model.batch)
    if values.ndim == 0 or values.shape[1:] != shape:
        wanted_shape = "[" + ", ".join(["n", *map(str, shape)]) + "]"
        raise DataError(
            f"{where}: has shape {list(values.shape)}, the model's input {spec.name!r} wants {wanted_shape}; "
            f"{_way_out(values.shape, shape)}"
        )
    wanted = np.dtype(spec.dtype)
    # numpy's kinds that are taken for each kind of input. Integers are none for a float: pixels of 0 to 255, which most
    # networks want scaled, would pass without a word.
    safe = {"f": "f", "i": "iu", "u": "iu", "b": "b"}.get(wanted.kind, "")
    if values.dtype.kind not in safe:
        hint = (
            "scale it as in training, for instance x.astype('float32') / 255"
            if values.dtype.kind in "iu"
            else "convert it"
        )
        raise DataError(f"{where}: is {values.dtype}, the model's input {spec.name!r} is {wanted}; {hint}")
    if wanted.kind == "f":
        return _finite(values, wanted, where)
    if wanted.kind in "iu" and values.size:
        limits = np.iinfo(wanted)
        if values.min() < limits.min or values.max() > limits.max:
            raise DataError(f"{where}: holds values that do not fit the model's {wanted}")
    return values.astype(wanted, copy=False)


def _way_out(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What makes an array of shape `given` samples of shape `wanted`: another order of axes, never a reshape."""
    # For instance images with the channels last, for a model that wants them first.
    if sorted(given[1:]) == sorted(wanted) and len(given) == len(wanted) + 1:
        orders = [
            order for order in permutations(range(1, len(given))) if tuple(given[axis] for axis in order) == wanted
        ]
        # Axes of one size may be swapped: the order that keeps them as they are is the usual one.
        order = ", ".join(map(str, (0, *min(orders))))
        return f"its axes are in another order: use numpy.transpose(array, ({order})), no reshape"
    if given == wanted:
        return "it holds one sample: array[numpy.newaxis]"
    if len(wanted) > 1 and wanted[0] == 1 and given[1:] == wanted[1:]:
        return "each sample has an axis of one in front: array[:, numpy.newaxis]"
    if len(wanted) > 1 and given[1:] == wanted[1:]:
        return f"one sample is a whole inference, which takes {wanted[0]} such rows that belong together"
    return "is it data of another model?"


def _finite(values: NDArray[Any], wanted: np.dtype[Any], where: str) -> NDArray[Any]:
    # A float64 beyond float32 becomes Inf, which is refused below with the sample's number.
    with np.errstate(over="ignore"):
        converted = values.astype(wanted, copy=False)
    bad = np.unique(np.nonzero(~np.isfinite(converted))[0])
    if len(bad):
        raise DataError(f"{where}: NaN or Inf in {len(bad)} of {len(converted)} samples, first in sample {bad[0]}")
    return converted


def few_rows(calibration: Dataset, model: Model) -> tuple[str, ...]:
    """A warning where the calibration data has fewer rows than a layer has inputs; fits then lean on the weights."""
    inferences = calibration.samples // (model.batch or 1)
    short = [layer for layer in model.fc_layers if inferences * layer.batch < layer.in_features]
    if not short:
        return ()
    widest = max(short, key=lambda layer: layer.in_features)
    return (
        f"{calibration.path}: {calibration.samples} samples for calibration give fewer rows than {len(short)} of "
        f"{len(model.fc_layers)} FC layers have inputs ({widest.name} has {widest.in_features}); more of them "
        "(--calibration) would make better fits",
    )

"""What the FC layers of a model get to see: the moment of every layer's input, by onnxruntime.

Owns how a layer's input becomes rows, and which rows are held out. Activations are streamed: those of one inference at
a time, and a block of rows per layer. It reads no file and fits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError
from lrf_dse.models.evaluate import run_slice, session_of
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.parts import Units, units_of
from lrf_dse.models.site import FcSite, FcUse
from lrf_dse.tt.moment import Moment, MomentSum

if TYPE_CHECKING:
    import onnx

HELD_OUT = 0.2
"""Share of the inferences that moments do not count in, kept to judge fits and to choose how far to trust moments."""

FEWEST = 5
"""Fewer units than this are too coarse to hold one out: runs of rows are held out instead."""

FEWEST_HELD_OUT = 4
"""At least so many units are held out, or a third of them all: of fewer no interval says anything (Student's t with 1
degree of freedom is 12.7 deviations wide, with 3 it is 3.2)."""

RUNS = 20
"""Runs of neighbouring rows that one inference is cut into where inferences are too few."""

Source = tuple[str, int, int]
"""The value a layer reads, and that it lies as [outer, in, columns] there. Layers may share one."""


def layer_moments(
    model: Model,
    inputs: Mapping[str, NDArray[Any]],
    *,
    seed: int,
    layers: Collection[str] | None = None,
    units: Units | None = None,
) -> dict[str, Moment]:
    """The moment of the input of every FC layer, or of those in `layers`, by layer name.

    `inputs` holds one array per model input, samples along axis 0 (`Dataset.x`). Every vector that the layer is
    applied to is a row, in all its uses. Of the units of samples (`parts`; None: runs of neighbours) about a
    fifth, drawn with `seed`, is held out whole: their rows resemble each other. Where the samples do not fill the
    model's last batch, it is filled from the first ones, which then count twice. Raises DataError for activations that
    are NaN or Inf, ModelError if onnxruntime refuses the model, UsageError for an unknown layer.
    """
    sites = [model.site(name) for name in (model.sites if layers is None else layers)]
    sums = {_sources(site): MomentSum(site.layer.in_features, seed=seed) for site in sites}
    if not sums:
        return {}
    reader = _Reader(to_onnx(model), sites, inputs)
    for feed, start, counting in _inferences(model, inputs, seed, units):
        rows = reader.rows(feed, start)
        for sources, total in sums.items():
            counting(total, _together(rows, sources))
    moments = {sources: total.moment() for sources, total in sums.items()}
    return {site.layer.name: moments[_sources(site)] for site in sites}


def joint_moment(
    model: Model,
    changed: onnx.ModelProto,
    inputs: Mapping[str, NDArray[Any]],
    *,
    layer: str,
    seed: int,
    units: Units | None = None,
) -> Moment:
    """The moment of rows [x_a, x_d]: what `layer` reads in `changed`, a rewritten `model`, and what it read before.

    `changed` still holds the value that the layer reads, by its name. See `layer_moments` for the rest.
    """
    site = model.site(layer)
    total = MomentSum(2 * site.layer.in_features, seed=seed)
    actual, wanted = (_Reader(proto, [site], inputs) for proto in (changed, to_onnx(model)))
    for feed, start, counting in _inferences(model, inputs, seed, units):
        rows = [_together(reader.rows(feed, start), _sources(site)) for reader in (actual, wanted)]
        counting(total, np.concatenate(rows, axis=1))
    return total.moment()


class _Reader:
    """Runs a model as far as the values that some layers read."""

    def __init__(self, proto: onnx.ModelProto, sites: Collection[FcSite], inputs: Mapping[str, NDArray[Any]]) -> None:
        self._uses = {_source(use): use for site in sites for use in site.uses}
        self._values = list(dict.fromkeys(name for name, *_ in self._uses if name not in inputs))
        self._session = session_of(_exposing(proto, self._uses.values(), self._values)) if self._values else None

    def rows(self, feed: dict[str, NDArray[Any]], start: int) -> dict[Source, NDArray[Any]]:
        """The rows that each source holds in one inference, that of sample `start`."""
        found: dict[str, NDArray[Any]] = {}
        if self._session is not None:
            found = dict(zip(self._values, run_slice(self._session, feed, start), strict=True))
        return {
            source: _rows(use, found[source[0]] if source[0] in found else feed[source[0]])
            for source, use in self._uses.items()
        }


Counting = Callable[[MomentSum, NDArray[Any]], None]
"""Adds the rows of one inference to a sum, or holds them out."""


def _inferences(
    model: Model, inputs: Mapping[str, NDArray[Any]], seed: int, units: Units | None
) -> Iterator[tuple[dict[str, NDArray[Any]], int, Counting]]:
    """The feed of every inference, its first sample, and how its rows are counted."""
    random = np.random.default_rng(seed)
    samples, step = len(next(iter(inputs.values()))), model.batch or 1
    inferences = ceil(samples / step)
    # Samples of one inference go the same way; where units are mixed in it, the first sample's counts.
    unit = (units_of(samples) if units is None else units)[np.arange(inferences) * step]
    apart = _held_out(unit, random)
    for k in range(inferences):
        feed = {name: _slice(array, k * step, model.batch) for name, array in inputs.items()}
        held = None if apart is None else int(unit[k]) in apart
        yield feed, k * step, partial(_count, held_out=held, unit=int(unit[k]), random=random)


def _held_out(unit: Units, random: np.random.Generator) -> set[int] | None:
    """The units that are held out, of those of all inferences; None where there are too few."""
    known, sizes = np.unique(unit, return_counts=True)
    if len(known) < FEWEST:
        return None
    wanted, chosen, taken = HELD_OUT * len(unit), set[int](), 0
    least = min(FEWEST_HELD_OUT, len(known) // 3)
    for k in random.permutation(len(known)):
        # A group that is much too large is not held out: little would be left to fit to.
        most = 1.5 * wanted if len(chosen) >= least else 0.5 * len(unit)
        if taken + sizes[k] <= most:
            chosen.add(int(known[k]))
            taken += int(sizes[k])
        if taken >= wanted and len(chosen) >= least:
            break
    return chosen or None


def _source(use: FcUse) -> Source:
    return str(use.x.name), use.outer, use.columns


def _sources(site: FcSite) -> tuple[Source, ...]:
    return tuple(map(_source, site.uses))


def _together(rows: Mapping[Source, NDArray[Any]], sources: tuple[Source, ...]) -> NDArray[Any]:
    """The rows of all uses of a layer, one after the other."""
    return rows[sources[0]] if len(sources) == 1 else np.concatenate([rows[source] for source in sources])


def _exposing(proto: onnx.ModelProto, uses: Iterable[FcUse], values: Collection[str]) -> onnx.ModelProto:
    """`proto` with these inputs of layers as its only outputs: what comes after the last is not computed."""
    from onnx import TensorProto, helper

    ranks = {use.x.name: len(use.x.shape or ()) for use in uses}
    del proto.graph.output[:]
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * ranks[name]) for name in values
    )
    return proto


def _slice(array: NDArray[Any], start: int, batch: int | None) -> NDArray[Any]:
    """The samples of one inference; after the last sample comes the first again."""
    if batch is None:
        sample: NDArray[Any] = array[start]
        return sample
    return array[np.arange(start, start + batch) % len(array)]


def _rows(use: FcUse, value: NDArray[Any]) -> NDArray[Any]:
    """A layer's input as rows [rows, in]."""
    rows = use.rows_of(value)
    if not np.isfinite(rows).all():
        name = use.x.name
        raise DataError(f"the calibration data makes NaN or Inf in {name!r}, the input of an FC layer; check its scale")
    return rows


def _count(
    total: MomentSum, rows: NDArray[Any], *, held_out: bool | None, unit: int, random: np.random.Generator
) -> None:
    """Add rows to the moment or to what is held out; None: hold out some runs of them, but never all."""
    if held_out is None:
        run = np.arange(len(rows)) // max(1, len(rows) // RUNS)
        chosen = random.permutation(run[-1] + 1)[: int(HELD_OUT * (run[-1] + 1))] if len(rows) else run
        apart = np.isin(run, chosen)
        total.hold_out(rows[apart], unit * RUNS * 2 + run[apart])
        total.add(rows[~apart])
    elif held_out:
        total.hold_out(rows, np.full(len(rows), unit))
    else:
        total.add(rows)

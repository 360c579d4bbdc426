"""What the FC layers of a model get to see: the moment of every layer's input, by onnxruntime.

Owns how a layer's input becomes rows, and which rows are held out. Activations are streamed: those of one inference at
a time, and a block of rows per layer. It reads no file and fits nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError
from lrf_dse.models.fed import FedModel
from lrf_dse.models.model import Model
from lrf_dse.models.parts import Units, units_of
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.site import FcSite, FcUse
from lrf_dse.tt.moment import Moment, MomentSum

HELD_OUT = 0.2
"""Share of the inferences that moments do not count in, kept to judge fits and to choose how far to trust moments."""

FEWEST = 5
"""Fewer units than this are too coarse to hold one out: runs of rows are held out instead."""

FEWEST_HELD_OUT = 4
"""At least so many units are held out, or a third of them all: of fewer no interval says anything (Student's t with 1
degree of freedom is 12.7 deviations wide, with 3 it is 3.2)."""

FEWEST_ROWS, ROWS_PER_INPUT, MOST_ROWS = 4096, 16, 16384
"""A joint moment is of about so many rows, or so many for each input of its layer, but of no more than the last: more
hardly change a least-squares fit, and each of a whole model's layers has a moment of its own, for every plan."""

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
    fed: FedModel | None = None,
) -> dict[str, Moment]:
    """The moment of the input of every FC layer, or of those in `layers`, by layer name.

    `inputs` holds one array per model input, samples along axis 0 (`Dataset.x`). Every vector that the layer is
    applied to is a row, in all its uses. Of the units of samples (`parts`; None: runs of neighbours) about a
    fifth, drawn with `seed`, is held out whole: their rows resemble each other. Where the samples do not fill the
    model's last batch, it is filled from the first ones, which then count twice. `fed` is the model as it runs, where
    that is known. Raises DataError for activations that are NaN or Inf, ModelError if onnxruntime refuses the model,
    UsageError for an unknown layer.
    """
    sites = [model.site(name) for name in (model.sites if layers is None else layers)]
    # Layers that read the same value (queries, keys and values of attention) share one sum.
    sums = {_sources(site): MomentSum(site.layer.in_features, seed=seed) for site in sites}
    if not sums:
        return {}
    uses = {_source(use): use for site in sites for use in site.uses}
    dealt = _Dealt(model, inputs, seed, units)
    for first, found in (fed or FedModel(model, inputs)).layer_inputs({}, inputs, [name for name, *_ in uses]):
        rows = {source: _rows(use, found[source[0]]) for source, use in uses.items()}
        for sources, total in sums.items():
            dealt.count(total, [rows[source] for source in sources], [uses[source].rows for source in sources], first)
    moments = {sources: total.moment() for sources, total in sums.items()}
    return {site.layer.name: moments[_sources(site)] for site in sites}


def joint_moment(
    fed: FedModel,
    replacements: Mapping[str, Replacement],
    *,
    layer: str,
    seed: int,
    units: Units | None = None,
) -> Moment:
    """The moment of rows [x_a, x_d]: what `layer` reads with `replacements` in place, and what it read before.

    The samples are those of `fed`. Where they make many more rows than the layer has inputs, only every k-th inference
    is taken. See `layer_moments` for `seed`, `units` and the errors.
    """
    site = fed.model.site(layer)
    total = MomentSum(2 * site.layer.in_features, seed=seed)
    names = [str(use.x.name) for use in site.uses]
    enough = min(max(FEWEST_ROWS, ROWS_PER_INPUT * site.layer.in_features), MOST_ROWS)
    fed = fed.thinned(max(1, site.rows * len(fed.chosen) // (fed.model.batch or 1) // enough))
    known = None if units is None else units[fed.chosen]
    dealt = _Dealt(fed.model, fed.inputs, seed, known)
    runs = fed.layer_inputs(replacements, fed.inputs, names)
    for (first, actual), (_, wanted) in zip(runs, fed.inputs_before(names), strict=True):
        rows = [
            # Its blocks E[x_a x_a'] and E[x_d x_a'] are the normal equations of the correction (see `tt.drift`).
            np.concatenate([_rows(use, values[str(use.x.name)]) for values in (actual, wanted)], axis=1)
            for use in site.uses
        ]
        dealt.count(total, rows, [use.rows for use in site.uses], first)
    return total.moment()


class _Dealt:
    """Which inferences count in moments, and which are held out: by the unit of their first sample."""

    def __init__(self, model: Model, inputs: Mapping[str, NDArray[Any]], seed: int, units: Units | None) -> None:
        self._random = np.random.default_rng(seed)
        samples, step = len(next(iter(inputs.values()))), model.batch or 1
        inferences = ceil(samples / step)
        self._unit = (units_of(samples) if units is None else units)[np.arange(inferences) * step]
        self._apart = _held_out(self._unit, self._random)

    def count(self, total: MomentSum, rows: Sequence[NDArray[Any]], per_inference: Sequence[int], first: int) -> None:
        """Count in, or hold out, the rows of every use of a layer of the inferences from `first` on."""
        for mine, size in zip(rows, per_inference, strict=True):
            units = np.repeat(self._unit[first : first + len(mine) // size], size)
            if self._apart is None:
                for start in range(0, len(mine), size):
                    _count_runs(total, mine[start : start + size], int(units[start]), self._random)
                continue
            held = np.isin(units, list(self._apart))
            if held.any():
                total.hold_out(mine[held], units[held])
            if not held.all():
                total.add(mine[~held])


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


def _rows(use: FcUse, value: NDArray[Any]) -> NDArray[Any]:
    """A layer's input as rows [rows, in]."""
    rows = use.rows_of(value)
    if not np.isfinite(rows).all():
        name = use.x.name
        raise DataError(f"the calibration data makes NaN or Inf in {name!r}, the input of an FC layer; check its scale")
    return rows


def _count_runs(total: MomentSum, rows: NDArray[Any], unit: int, random: np.random.Generator) -> None:
    """Of an inference that stands for too few units: hold out some runs of its rows, but never all."""
    # Rounding down makes more runs than RUNS, but fewer than twice as many: the numbers below are unique over
    # inferences.
    run = np.arange(len(rows)) // max(1, len(rows) // RUNS)
    chosen = random.permutation(run[-1] + 1)[: int(HELD_OUT * (run[-1] + 1))] if len(rows) else run
    apart = np.isin(run, chosen)
    total.hold_out(rows[apart], unit * RUNS * 2 + run[apart])
    total.add(rows[~apart])

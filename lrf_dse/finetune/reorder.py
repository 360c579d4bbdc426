"""Hidden units in the order in which the layers on both sides of them fit best.

Owns the step from choices to a compressor of the reordered model, and back to weights for the model as it was read.
The search is `tt.reorder`'s; where units may move, `models.hidden` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256

import numpy as np

from lrf_dse.models.compress import Compressor
from lrf_dse.models.hidden import Hidden, hidden_units, reordered
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import KEPT, Replacement
from lrf_dse.process.spending import spent_on
from lrf_dse.schema import Candidate
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.reorder import UnitSide, best_order, can_order

REORDER_VERSION = 2
"""To be raised whenever orders change for the same choices, data and seed."""

LEAST_GAIN = 0.05
"""The share of the squared error that another order has to take off, to be worth judging by whole models."""


def can_reorder(model: Model, choices: Sequence[Candidate]) -> bool:
    """Whether a chosen TT shape sees the order of units that may be moved, and there are not too many of them."""
    chosen = {choice.layer.name: choice for choice in choices}
    return any(can_order(_sides(model, hidden, chosen, {})) for hidden in hidden_units(model))


@spent_on("fit")
def reordering(compressor: Compressor, choices: Sequence[Candidate]) -> Compressor:
    """A compressor of the same model with its hidden units in better orders; the one given where there are none.

    Weights count by the size of the inputs that they meet, as far as calibration data tells.
    """
    model, moments, orders = compressor.model, dict(compressor.moments), dict(compressor.orders)
    chosen = {choice.layer.name: choice for choice in choices}
    for hidden in hidden_units(model):
        sides = _sides(model, hidden, chosen, moments)
        names = (hidden.writer, *hidden.readers)
        # The orders so far belong to the key: a layer between two groups of units is moved twice, its columns and its
        # rows.
        key = tuple((name, orders.get(name, b""), chosen[name].tt_shape if name in chosen else None) for name in names)
        order = compressor.found_orders.get(key, partial(best_order, sides, seed=compressor.seed))
        if order is not None:
            model = reordered(model, hidden, order)
            # Only the readers read the units; what the writer reads stands as before.
            moments |= {name: moments[name].reordered(order) for name in hidden.readers if name in moments}
            for name in names:
                side = b"rows" if name == hidden.writer else b"columns"
                orders[name] = sha256(orders.get(name, b"") + side + order.tobytes()).digest()
    if model is compressor.model:
        return compressor
    return compressor.reordered(model, moments, orders)


def fits_better(compressor: Compressor, other: Compressor, choices: Iterable[Candidate]) -> bool:
    """Whether the layers that stand in another order in `other` fit clearly better there, in sum.

    The order was found for plain TT-SVD. Fits that see data often gain nothing by it, and whole models need not be
    judged in it.
    """
    moved = [c for c in choices if c.layer.name in other.orders and c.tt_shape is not None]
    before, after = (sum(_squared(fits, choice) for choice in moved) for fits in (compressor, other))
    return after < (1.0 - LEAST_GAIN) * before


def _squared(compressor: Compressor, choice: Candidate) -> float:
    """The relative squared error of a layer's outputs on rows held out; without data that of its weights."""
    trial = compressor.trial(replace(choice, storage="fp32"))
    error = trial.relative_error if trial.output_error is None else trial.output_error.value
    return error**2


def _sides(
    model: Model, hidden: Hidden, chosen: Mapping[str, Candidate], moments: Mapping[str, Moment]
) -> list[UnitSide]:
    """The compressed layers around the units."""
    sides = []
    for name in (hidden.writer, *hidden.readers):
        shape = chosen[name].tt_shape if name in chosen else None
        if shape is None:
            continue
        weight, moment = model.weights(name)[0], moments.get(name)
        scale = np.ones(weight.shape[1]) if moment is None else moment.root_mean_squares
        sides.append(UnitSide(weight, shape, name == hidden.writer, scale))
    return sides


def as_read(model: Model, other: Model, replacements: Mapping[str, Replacement]) -> dict[str, Replacement]:
    """What takes the place of `model`'s weights so that it is `other`, which is reordered, with `replacements`."""
    found = dict(replacements)
    for name in model.sites if other is not model else ():
        (weight, bias), (moved, moved_bias) = model.weights(name), other.weights(name)
        made = found.get(name, KEPT)
        if made.cores is None and made.weight is None and not np.array_equal(weight, moved):
            made = replace(made, weight=np.ascontiguousarray(moved))
        if bias is not None and moved_bias is not None and not np.array_equal(bias, moved_bias):
            # A shift says what is added to the bias as it was read, so that the move of the bias is a shift too.
            own = 0.0 if made.bias_shift is None else made.bias_shift
            made = replace(made, bias_shift=np.asarray(moved_bias - bias + own, np.float32))
        if made is not KEPT:
            found[name] = made
    return found

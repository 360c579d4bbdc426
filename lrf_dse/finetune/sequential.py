"""Sequential correction: every layer after the first compressed one is fitted to the inputs that it really gets.

The earlier layers' errors then meet layers that expect them, in the least squares sense of `tt.drift`. A layer that
stays dense costs nothing to correct either: it takes the corrected weight itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from math import inf

import numpy as np

from lrf_dse.models.calibrate import joint_moment
from lrf_dse.models.compress import Compressor
from lrf_dse.models.layer_fit import get_method
from lrf_dse.models.rewrite import KEPT, Replacement
from lrf_dse.process.spending import spent_on
from lrf_dse.schema import Candidate
from lrf_dse.tt.contraction import Cores, to_matrix
from lrf_dse.tt.drift import MOST_INPUTS, FitGoal, target_of
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.stored_fit import factors_of, seen
from lrf_dse.tt.svd import DATA_AWARE, get_decomposer

SEQUENTIAL_VERSION = 4
"""To be raised whenever corrected weights change for the same choices, data and seed."""


def can_correct(choices: Sequence[Candidate]) -> bool:
    """Whether there is a layer after the first compressed one."""
    return any(not choice.is_dense for choice in choices[:-1])


@spent_on("fit")
def corrected(compressor: Compressor, choices: Sequence[Candidate]) -> dict[str, Replacement]:
    """What takes the place of every layer; `choices` are in the model's order.

    Layers up to the first compressed one, and those whose inputs do not depend on a compressed layer, are as
    `Compressor.replacements` has them. What was made for the same first choices is known. Raises ValueError without
    calibration data.
    """
    if compressor.calibration is None:
        raise ValueError("a sequential correction needs calibration data")
    done: dict[str, Replacement] = {}
    before: tuple[Hashable, ...] = ()
    for choice in choices:
        name = choice.layer.name
        if done and choice.layer.in_features <= MOST_INPUTS:
            found = _corrected(compressor, choice, done, before)
        else:
            found = compressor.replacements([choice]).get(name)
        if found is not None:
            done[name] = found
        # All choices so far decide what the next layer reads; the kernel that computes them does not.
        before = (*before, (compressor.orders.get(name, b""), choice.without_generated))
    return done


def _corrected(
    compressor: Compressor, choice: Candidate, done: dict[str, Replacement], before: tuple[Hashable, ...]
) -> Replacement | None:
    """`choice` fitted to what it reads with `done` in place, which `before` stands for."""
    name = choice.layer.name
    order = compressor.orders.get(name, b"")

    def make() -> Replacement:
        key = _joint_key(compressor, name, done) or (before, name, order)
        joint = compressor.joints.get(key, lambda: _joint(compressor, name, done))
        return _fitted(compressor, choice, joint) or KEPT

    found = compressor.corrections.get((before, order, choice.without_generated), make)
    return None if found is KEPT else found


def _joint_key(compressor: Compressor, name: str, done: dict[str, Replacement]) -> tuple[Hashable, ...] | None:
    """What the joint moment of a layer depends on: layers that read the same share it, as far as that is known."""
    site = compressor.model.site(name)
    sources = tuple((str(use.x.name), use.form, use.outer, use.columns, use.rows) for use in site.uses)
    mark = compressor.fed.mark_of(done, [source for source, *_ in sources])
    return None if mark is None else (mark, sources, site.layer.in_features, frozenset(compressor.orders.items()))


def _joint(compressor: Compressor, name: str, done: dict[str, Replacement]) -> Moment:
    """The moment of what the layer reads with `done` in place, and of what it read before."""
    data = compressor.calibration
    assert data is not None
    return joint_moment(compressor.fed, done, layer=name, seed=compressor.seed, units=data.units)


def _fitted(compressor: Compressor, choice: Candidate, joint: Moment) -> Replacement | None:
    """`choice` fitted to what it reads; its own fit where that is what it always read."""
    name, shape, n = choice.layer.name, choice.tt_shape, choice.layer.in_features
    # Where no compressed layer lies before this one, x_a and x_d are the same rows: their means tell, at no cost.
    if np.allclose(joint.mean[:n], joint.mean[n:], rtol=1e-9, atol=0):
        return compressor.replacements([choice]).get(name)
    centred = choice.layer.has_bias and (shape is None or get_method(choice.decomposer).needs_data)
    target = target_of(compressor.model.weights(name)[0], joint, centred=centred)
    moment = target.moment.centred() if centred else target.moment
    cores = None if shape is None else _cores(compressor, choice, target, moment)
    stored = None
    if choice.storage != "fp32":
        factors = factors_of(target.weight, cores, choice.storage, seen(moment.with_held_out()))
        cores, stored = [factor.core for factor in factors], tuple(factor.stored for factor in factors)
    matrix = target.weight if cores is None else to_matrix(cores)
    shift = target.bias_shift(matrix).astype(np.float32) if centred else None
    if shape is None:
        return Replacement(weight=matrix, bias_shift=shift, stored=stored)
    return Replacement(cores, choice.order, bias_shift=shift, stored=stored)


def _cores(compressor: Compressor, choice: Candidate, target: FitGoal, moment: Moment) -> Cores:
    """The cores fitted to the target on all rows, from the layer's own fit: the target is near, and so is its ridge."""
    method, shape, seed = get_method(choice.decomposer).decomposer, choice.tt_shape, compressor.seed
    assert shape is not None
    # Fits in few bits start from cores in fp32, whose trial knows the ridge.
    own = compressor.trial(replace(choice, storage="fp32")).trial
    if method not in DATA_AWARE or own.ridge == inf:
        name = method if method not in DATA_AWARE else "tt_svd"
        return get_decomposer(name, seed=seed).decompose(target.weight, shape)
    return DATA_AWARE[method](seed).refit(target.weight, shape, moment, replace(own, final=False))

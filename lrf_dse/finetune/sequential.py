"""Sequential correction: every layer after the first compressed one is fitted to the inputs that it really gets.

The earlier layers' errors then meet layers that expect them, in the least squares sense of `tt.drift`. A layer that
stays dense costs nothing to correct either: it takes the corrected weight itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lrf_dse.models.calibrate import joint_moment
from lrf_dse.models.compress import Compressor, get_method, replaced
from lrf_dse.models.rewrite import Replacement
from lrf_dse.schema import Candidate, TTShape
from lrf_dse.tt.contraction import Cores, to_matrix
from lrf_dse.tt.drift import MOST_INPUTS, Target, target_of
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.stored_fit import factors_of, seen
from lrf_dse.tt.svd import DATA_AWARE, get_decomposer

SEQUENTIAL_VERSION = 2
"""To be raised whenever corrected weights change for the same choices, data and seed."""


def can_correct(choices: Sequence[Candidate]) -> bool:
    """Whether there is a layer after the first compressed one."""
    return any(not choice.is_dense for choice in choices[:-1])


def corrected(compressor: Compressor, choices: Sequence[Candidate]) -> dict[str, Replacement]:
    """What takes the place of every layer; `choices` are in the model's order.

    Layers up to the first compressed one, and those whose inputs do not depend on a compressed layer, are as
    `Compressor.replacements` has them. Raises ValueError without calibration data.
    """
    if compressor.calibration is None:
        raise ValueError("a sequential correction needs calibration data")
    own = compressor.replacements(choices)
    done: dict[str, Replacement] = {}
    for choice in choices:
        name = choice.layer.name
        drifts = done and choice.layer.in_features <= MOST_INPUTS
        found = _fitted(compressor, choice, done) if drifts else own.get(name)
        if found is not None:
            done[name] = found
    return done


def _fitted(compressor: Compressor, choice: Candidate, done: dict[str, Replacement]) -> Replacement | None:
    """`choice` fitted to what it reads with `done` in place; its own fit where it reads what it always did."""
    model, data, seed = compressor.model, compressor.calibration, compressor.seed
    assert data is not None
    name, shape = choice.layer.name, choice.tt_shape
    joint = joint_moment(model, replaced(model, done), data.x, layer=name, seed=seed, units=data.units)
    n = choice.layer.in_features
    if np.allclose(joint.mean[:n], joint.mean[n:], rtol=1e-9, atol=0):
        return compressor.replacements([choice]).get(name)
    centred = choice.layer.has_bias and (shape is None or get_method(choice.decomposer).needs_data)
    target = target_of(model.weights(name)[0], joint, centred=centred)
    moment = target.moment.centred() if centred else target.moment
    cores = None if shape is None else _cores(choice.decomposer, shape, target, moment, seed=seed)
    stored = None
    if choice.storage != "fp32":
        factors = factors_of(target.weight, cores, choice.storage, seen(moment.with_held_out()))
        cores, stored = [factor.core for factor in factors], tuple(factor.stored for factor in factors)
    matrix = target.weight if cores is None else to_matrix(cores)
    shift = target.bias_shift(matrix).astype(np.float32) if centred else None
    if shape is None:
        return Replacement(weight=matrix, bias_shift=shift, stored=stored)
    return Replacement(cores, choice.order, bias_shift=shift, stored=stored)


def _cores(decomposer: str, shape: TTShape, target: Target, moment: Moment, *, seed: int) -> Cores:
    """The cores fitted to the target by a decomposer, on all rows."""
    method = get_method(decomposer).decomposer
    if method not in DATA_AWARE:
        return get_decomposer(method, seed=seed).decompose(target.weight, shape)
    fitter = DATA_AWARE[method](seed)
    trial = fitter.trial(target.tried, shape, moment)
    return fitter.refit(target.weight, shape, moment, replace(trial, final=False))

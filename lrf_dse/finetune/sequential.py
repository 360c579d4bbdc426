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
from lrf_dse.schema import Candidate
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.drift import MOST_INPUTS, target_of
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
    if shape is None:
        shift = target.bias_shift(target.weight).astype(np.float32) if centred else None
        return Replacement(weight=target.weight, bias_shift=shift)
    moment = target.moment.centred() if centred else target.moment
    method = get_method(choice.decomposer).decomposer
    if method in DATA_AWARE:
        fitter = DATA_AWARE[method](seed)
        trial = fitter.trial(target.tried, shape, moment)
        cores = fitter.refit(target.weight, shape, moment, replace(trial, final=False))
    else:
        cores = get_decomposer(method, seed=seed).decompose(target.weight, shape)
    shift = target.bias_shift(to_matrix(cores)).astype(np.float32) if centred else None
    return Replacement(cores, choice.order, bias_shift=shift)

"""How much of a model's accuracy each decomposer keeps when the whole model is compressed by a given ratio.

Every decomposer gets the same allocation: of each layer's options the ones that together stay within the parameters and
have the least error on calibration rows held out, where a layer counts by what its errors do to the model's output. So
a difference is the decomposer's, not the allocation's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import numpy as np

from lrf_dse.cost.counts import dense_parameters, parameters
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims, rank_caps

OutputError = Callable[[Candidate], float | None]
Depth = Literal[1, 2, 3]
"""Cores of a TT shape; 1 stands for plain low rank."""

SHAPES = 2
"""Shapes of each depth that are tried on a layer: the most balanced ones."""

RANKS = {1: 32, 2: 12, 3: 12}
"""Ranks tried on each shape, by depth, evenly spaced on a logarithmic scale."""


@dataclass(frozen=True)
class Family:
    """A method of `lrf_dse.models.compress` on TT shapes of one depth."""

    name: str
    method: str
    depth: Depth


FAMILIES = (
    Family("SVD", "tt_svd", 1),
    Family("whitened SVD", "whitened", 1),
    Family("whitened SVD, centred", "whitened_centred", 1),
    Family("t3f TT-SVD d=2", "t3f", 2),
    Family("t3f TT-SVD d=3", "t3f", 3),
    Family("TT-ALS d=2", "als_centred", 2),
    Family("TT-ALS d=3", "als_centred", 3),
)
"""What is compared. The last four are balanced tensor trains; the first three low-rank pairs."""

MIXED = "any, by layer"
"""The name of the row in which every layer takes the best option of all families."""

REFERENCES = ("SVD", "whitened SVD", "t3f TT-SVD d=2", "t3f TT-SVD d=3")
"""What a data-aware choice has to be as good as."""


@dataclass(frozen=True)
class Option:
    """One choice for a layer: its parameters, and what it adds to the squared error that is made small."""

    candidate: Candidate
    parameters: int
    error: float


def shapes_of(layer: FcLayer, depth: Depth) -> tuple[TTShape, ...]:
    """The TT shapes that are tried on `layer`: balanced ones with ranks up to where they stop being smaller than W."""
    if depth == 1:
        dims = [low_rank_dims(layer.out_features, layer.in_features)]
    else:
        dims = sorted(aligned_dims(layer.out_features, layer.in_features, depth), key=_imbalance)[:SHAPES]
    found = []
    for out_dims, in_dims in dims:
        caps = rank_caps(out_dims, in_dims)
        for rank in np.unique(np.geomspace(2, max(2, *caps), RANKS[depth]).round().astype(int)):
            shape = TTShape(out_dims, in_dims, (1, *(min(int(rank), cap) for cap in caps), 1))
            if parameters(shape) < layer.out_features * layer.in_features:
                found.append(shape)
    return tuple(dict.fromkeys(found))


def _imbalance(dims: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
    return sum(log(size) ** 2 for side in dims for size in side)


def layer_options(
    layer: FcLayer, family: Family, output_error: OutputError, *, weight: float = 1.0
) -> tuple[Option, ...]:
    """Every option of a family on one layer, the dense one first; without a bias a centred method is not centred.

    `output_error` gives the relative error of a candidate's outputs on calibration rows held out; its square counts
    `weight` times.
    """
    options = [Option(dense_candidate(layer), dense_parameters(layer), 0.0)]
    if family.method.endswith("_centred") and not layer.has_bias:
        family = replace(family, method=family.method.removesuffix("_centred"))
    for shape in shapes_of(layer, family.depth):
        candidate = Candidate(layer, shape, decomposer=family.method)
        error = output_error(candidate)
        assert error is not None, "there is calibration data"
        options.append(Option(candidate, parameters(shape, bias=layer.has_bias), weight * error**2))
    return tuple(options)


def allocate(layers: Sequence[Sequence[Option]], budget: int) -> tuple[Option, ...] | None:
    """One option a layer with at most `budget` parameters in all and about the least sum of errors; None if none fits.

    Lagrange multipliers, by bisection: an option is chosen for error + price x parameters. What the convex hull leaves
    of the budget is then spent greedily.
    """
    if sum(min(option.parameters for option in options) for options in layers) > budget:
        return None
    low, high = 0.0, 1.0
    while sum(o.parameters for o in _at_price(layers, high)) > budget:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if sum(o.parameters for o in _at_price(layers, middle)) > budget:
            low = middle
        else:
            high = middle
    chosen = list(_at_price(layers, high))
    while True:
        spare = budget - sum(option.parameters for option in chosen)
        gains = [
            (chosen[k].error - option.error, k, option)
            for k, options in enumerate(layers)
            for option in options
            if option.error < chosen[k].error and option.parameters - chosen[k].parameters <= spare
        ]
        if not gains:
            return tuple(chosen)
        _, k, option = max(gains, key=lambda gain: gain[0])
        chosen[k] = option


def _at_price(layers: Sequence[Sequence[Option]], price: float) -> tuple[Option, ...]:
    return tuple(
        min(options, key=lambda option: (option.error + price * option.parameters, option.parameters))
        for options in layers
    )

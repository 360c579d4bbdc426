"""How much of a model's accuracy each decomposer keeps when the whole model is compressed by a given ratio.

Every decomposer gets the same allocation, the pipeline's composition of layers: of each layer's options the ones that
together stay within the parameters and have the least error on rows that fits have not seen, where a layer counts by
what its errors do to the model's output. So a difference is the decomposer's, not the allocation's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import numpy as np

from benchmarks.kit.predicted import FLOAT_BYTES
from lrf_dse.cost.counts import dense_parameters, parameters
from lrf_dse.plan.options import Combination, LayerOption, Limits
from lrf_dse.plan.select import compose
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.tt.shapes import aligned_dims, low_rank_dims, rank_caps

OutputError = Callable[[Candidate], float]
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
) -> tuple[LayerOption, ...]:
    """Every option of a family on one layer, the dense one first; without a bias a centred method is not centred.

    An option takes the bytes of its parameters, and no time: parameters are what is compared. `output_error` gives the
    relative error of a candidate's outputs on rows that its fit has not seen; its square counts `weight` times as loss.
    """
    options = [_option(dense_candidate(layer), dense_parameters(layer), 0.0)]
    if family.method.endswith("_centred") and not layer.has_bias:
        family = replace(family, method=family.method.removesuffix("_centred"))
    for shape in shapes_of(layer, family.depth):
        candidate = Candidate(layer, shape, decomposer=family.method)
        options.append(
            _option(candidate, parameters(shape, bias=layer.has_bias), weight * output_error(candidate) ** 2)
        )
    return tuple(options)


def _option(candidate: Candidate, count: int, loss: float) -> LayerOption:
    return LayerOption(candidate, 0.0, FLOAT_BYTES * count, 0, loss)


def best_within(layers: Sequence[Sequence[LayerOption]], flash_bytes: float) -> Combination | None:
    """The combination of least loss that the pipeline's composition finds within so many bytes; None if none fits."""
    limits = Limits(flash_bytes=flash_bytes)
    found = [member for member in compose(layers, within=limits) if limits.admits(member)]
    return min(found, key=lambda member: (member.loss, member.flash_bytes), default=None)

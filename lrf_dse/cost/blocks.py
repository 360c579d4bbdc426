"""The Monarch matrices of a layer, through the steps that look at one shape: a few ten thousand, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

import numpy as np

from lrf_dse.cost.search import CycleBounds, ShapePoints, no_points, points_of
from lrf_dse.front.pareto import FloatArray, IntArray
from lrf_dse.schema import FcLayer
from lrf_dse.tt.error_bounds import ErrorBounds
from lrf_dse.tt.orders import ShapeBlock
from lrf_dse.tt.shapes import monarch_blocks


@dataclass(frozen=True)
class MonarchSpace:
    """What is left of them; how many have a known spectrum, how many of those are small, and are of whole vectors."""

    points: ShapePoints
    known: int
    below_dense: int
    whole_vectors: int


def monarch_space(
    layer: FcLayer,
    errors: ErrorBounds,
    bounds: CycleBounds | None,
    *,
    below: int,
    max_rank: int,
    lanes: int,
    small_ranks: int,
) -> MonarchSpace:
    """The Monarch matrices of `layer` with fewer parameters than `below`.

    Ranks above `small_ranks` fill vectors of `lanes` with the rows of a block of R. Each weight is used once, so
    parameters, FLOPs and the bound of cycles are those of so many weights.
    """
    found: list[tuple[int, int, IntArray, FloatArray]] = []
    known = below_dense = 0
    bias = layer.out_features if layer.has_bias else 0
    for m1, n1 in monarch_blocks(layer.out_features, layer.in_features):
        side = min(layer.out_features // m1, layer.in_features // n1)
        tail = errors.block_tail((m1, n1), side)
        ranks = np.arange(1, min(side, max_rank) + 1, dtype=np.int64)
        if tail is None:  # nobody computes spectra of what is too large at rank 1
            known += ranks.size * bool(_weights(layer, m1, n1, ranks[:1])[0] + bias >= below)
            continue
        known += ranks.size
        ranks = ranks[_weights(layer, m1, n1, ranks) + bias < below]
        below_dense += ranks.size
        # m_1 r rows of a block of R are whole vectors where r is a multiple of lanes / gcd(m_1, lanes).
        ranks = ranks[(ranks <= small_ranks) | (ranks % (lanes // gcd(m1, lanes)) == 0)]
        if ranks.size:
            found.append((m1, n1, ranks, np.sqrt(np.minimum(tail[ranks], 1.0))))
    count = sum(ranks.size for _, _, ranks, _ in found)
    points = _points(layer, found, bounds.at_least if bounds else None, bias) if found else no_points()
    return MonarchSpace(points, known, below_dense, count)


def _weights(layer: FcLayer, m1: int, n1: int, ranks: IntArray) -> IntArray:
    return np.asarray(ranks * (m1 * layer.in_features + n1 * layer.out_features))


def _points(
    layer: FcLayer,
    found: list[tuple[int, int, IntArray, FloatArray]],
    at_least: Callable[[IntArray, IntArray], FloatArray] | None,
    bias: int,
) -> ShapePoints:
    sizes = [ranks.size for _, _, ranks, _ in found]
    outs, ins = (np.repeat([entry[k] for entry in found], sizes) for k in (0, 1))
    ranks = np.concatenate([entry[2] for entry in found])
    # Parameters: R has n_1 blocks of m_1 r x n_2, which is r m_1 N; L has m_1 blocks of m_2 x n_1 r, which is r n_1 M.
    weights = ranks * (outs * layer.in_features + ins * layer.out_features)
    shapes = ShapeBlock(
        np.asfortranarray(np.stack([outs, layer.out_features // outs], axis=1)),
        np.asfortranarray(np.stack([ins, layer.in_features // ins], axis=1)),
    )
    cycles = np.zeros(ranks.size) if at_least is None else at_least(weights, weights)
    # Each weight is one multiply-add for each row of the batch, so weights stand for both.
    losses = weights + bias, layer.batch * (2 * weights + bias), cycles, np.concatenate([entry[3] for entry in found])
    return points_of(shapes, ranks[:, None], losses, monarch=True)

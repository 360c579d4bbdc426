"""Different ranks for different cuts: for points of a front, the cheapest tuples that are no worse in error.

One rank for all cuts wastes where spectra differ. Of every shape with three cores or more that stands near the front,
`lrf_dse.tt.rank_tuples` finds the tuples with the fewest parameters, FLOPs and predicted cycles at the error bound that
the point has.
"""

from __future__ import annotations

import numpy as np

from lrf_dse.cost.curves import tuple_counts
from lrf_dse.cost.search import FrontSearch, ShapePoints, joined, no_points
from lrf_dse.front.pareto import IntArray
from lrf_dse.front.spread import spread
from lrf_dse.schema import FcLayer
from lrf_dse.tt.error_bounds import ErrorBounds
from lrf_dse.tt.orders import ShapeBlock
from lrf_dse.tt.rank_tuples import cheapest_ranks

MOST_SHAPES = 32
"""Points that tuples are sought for; more of them found no better fronts (LeNet-300-100)."""


def tuples_near(
    points: ShapePoints, search: FrontSearch, layer: FcLayer, errors: ErrorBounds, *, steps: IntArray, max_rank: int
) -> ShapePoints:
    """Points with ranks of their own, each cheaper in some cost than one of `points` at its error bound.

    Every rank is a multiple of the step [points] of its shape.
    """
    # Two cores have one cut, and so one rank.
    deep = np.flatnonzero(points.depths > 2)
    if deep.size:
        losses = [points.errors[deep], points.flops[deep].astype(np.float64)]
        deep = deep[spread(points.params[deep], losses, MOST_SHAPES)]
    found: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    for i in deep.tolist():
        for ranks in _of_point(points, i, search, errors, step=int(steps[i]), max_rank=max_rank):
            found.setdefault(int(points.depths[i]), []).append((i, ranks))
    parts = []
    for d, chosen in found.items():
        block = block_of_points(points, np.array([i for i, _ in chosen]), d)
        inner = np.array([ranks for _, ranks in chosen], dtype=np.int64)
        bounds = errors.bounds(errors.cuts(block), inner)
        parts.append(search.with_losses(block, inner, *tuple_counts(block, inner, layer), bounds))
    return joined(parts) if parts else no_points()


def block_of_points(points: ShapePoints, chosen: IntArray, d: int) -> ShapeBlock:
    """The modes of points that all have d cores."""
    return ShapeBlock(*(np.asfortranarray(modes[chosen, :d]) for modes in (points.out_dims, points.in_dims)))


def _of_point(
    points: ShapePoints, i: int, search: FrontSearch, errors: ErrorBounds, *, step: int, max_rank: int
) -> set[tuple[int, ...]]:
    """The cheapest tuples of a point's shape at its error bound, without the one that it has."""
    shape = points.shape(i)
    block = block_of_points(points, np.array([i]), shape.d)
    tails = [errors.tail(cut) for cut in errors.cuts(block)[0].tolist()]
    caps = shape.rank_caps
    choices = [np.arange(step, min(cap, max_rank) + 1, step) for cap in caps]
    energy = sum(float(tail[rank]) for tail, rank in zip(tails, shape.ranks[1:-1], strict=True))
    sizes = block.sizes[0].tolist()
    found = {
        # Energies are sums of rounded numbers: the hair above lets the point's own tuple count as allowed.
        cheapest_ranks(tails, sizes, choices, cost, energy=energy * (1 + 1e-12))
        for cost in search.core_costs(shape, block)
    }
    return {ranks for ranks in found if ranks is not None and ranks != shape.ranks[1:-1]}

"""The search through all shapes and ranks of a layer: branch and bound over arrays, in bounded memory.

As the rank of a shape grows, parameters, FLOPs and the lower bound of cycles grow and the error bound falls. So a range
of ranks is dominated as a whole where some point beats its corner: the counts of its first rank with the error of its
last. Ranges that may hold a point of a front are cut into smaller ones until single ranks are left. Nothing that is on
a front of (FLOPs or bound of cycles, parameters, error bound) is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost.curves import (
    Polynomials,
    even_ranks,
    flop_curves,
    least_multiply_adds,
    least_weights,
    parameter_curves,
    tuple_counts,
)
from lrf_dse.cost.grid import LossGrid, Mask
from lrf_dse.front.pareto import FloatArray, IntArray, front_of_three
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.tt.error_bounds import ErrorBounds
from lrf_dse.tt.orders import ShapeBlock
from lrf_dse.tt.rank_tuples import CoreCost, weighted_cost

_WIDTHS = 32, 4, 1
"""Ranks of a range, from the first cut to the last."""
_POOL = 1 << 14
"""New points that are gathered before the fronts are found anew."""
_PENDING, _PIECE = 1 << 13, 1 << 11
"""ShapePoints whose bounds are found in one go, and at a time: the columns of a piece stay in a near cache."""
EVEN_ERRORS = 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9
"""Error bounds for which ranks are taken that discard as much at every cut."""
EVEN_DEPTHS = 3, 4
"""Numbers of cores for which they are taken: nine in ten shapes have more, and next to none of them is near a front."""
_WIDEST = 6
"""Cores of the deepest shape."""


@dataclass(frozen=True)
class CycleBounds:
    """Lower bounds of cycles: of shapes by out_dims, in_dims [shapes, d] and ranks [shapes, d + 1].

    `at_least` is quick: of the weights that are read, and of multiply-adds a row of the batch.

    `core_cost` predicts, core by core, the cycles of a shape's other ranks.
    """

    of: Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], FloatArray]
    at_least: Callable[[NDArray[np.int64], NDArray[np.int64]], FloatArray]
    core_cost: Callable[[TTShape], CoreCost]


@dataclass(frozen=True)
class ShapePoints:
    """Shapes with ranks and their losses, as columns; modes behind the last core are 1, ranks behind it 0."""

    depths: IntArray
    out_dims: IntArray
    in_dims: IntArray
    ranks: IntArray
    params: IntArray
    flops: IntArray
    bounds: FloatArray
    errors: FloatArray
    monarch: Mask

    def __len__(self) -> int:
        return self.depths.size

    def __getitem__(self, chosen: Mask | IntArray) -> ShapePoints:
        return ShapePoints(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def shape(self, i: int) -> TTShape:
        """The TT shape of a point."""
        d = int(self.depths[i])
        out_dims, in_dims, ranks = (
            tuple(row[i, :d].tolist()) for row in (self.out_dims, self.in_dims, self.ranks[:, : _WIDEST - 1])
        )
        return TTShape(out_dims, in_dims, (1, *ranks[: d - 1], 1), "monarch" if self.monarch[i] else "tt")


def no_points() -> ShapePoints:
    """No point at all."""
    none, empty = np.empty(0, dtype=np.int64), np.empty((0, _WIDEST), dtype=np.int64)
    return ShapePoints(none, empty, empty, empty[:, 1:], none, none, np.empty(0), np.empty(0), np.empty(0, np.bool_))


def joined(parts: Iterable[ShapePoints]) -> ShapePoints:
    """All points, one set after the other."""
    columns = zip(*([getattr(part, field.name) for field in fields(ShapePoints)] for part in parts), strict=True)
    return ShapePoints(*(np.concatenate(column) for column in columns))


def points_of(
    shapes: ShapeBlock,
    ranks: IntArray,
    losses: tuple[IntArray, IntArray, FloatArray, FloatArray],
    *,
    monarch: bool = False,
) -> ShapePoints:
    """Shapes with ranks [shapes, d - 1], and parameters, FLOPs, bounds of cycles and of errors."""
    count, d = shapes.out_dims.shape
    outs, ins = (np.ones((count, _WIDEST), dtype=np.int64) for _ in range(2))
    outs[:, :d], ins[:, :d] = shapes.out_dims, shapes.in_dims
    padded = np.zeros((count, _WIDEST - 1), dtype=np.int64)
    padded[:, : d - 1] = ranks
    return ShapePoints(np.full(count, d, dtype=np.int64), outs, ins, padded, *losses, np.full(count, monarch))


class FrontSearch:
    """The points of the fronts so far; `add` takes in shapes. Without bounds of cycles, FLOPs alone are the latency."""

    def __init__(self, layer: FcLayer, errors: ErrorBounds, bounds: CycleBounds | None) -> None:
        self._layer, self._errors, self._bounds = layer, errors, bounds
        self._grids = [LossGrid() for _ in range(1 if bounds is None else 2)]
        self._known: list[ShapePoints] = []
        self._new = 0
        self._pending: list[_Pending] = []
        self.evaluated = 0
        """Single points whose losses were looked at."""

    def core_costs(self, shape: TTShape, block: ShapeBlock) -> tuple[CoreCost, ...]:
        """The costs in which tuples of ranks of a shape may be cheap: bytes, FLOPs, cycles; `block` holds it alone."""
        found = [weighted_cost(block.sizes[0].tolist()), weighted_cost((block.ins_upto * block.outs_from)[0].tolist())]
        return (*found, *([] if self._bounds is None else [self._bounds.core_cost(shape)]))

    @property
    def points(self) -> ShapePoints:
        """What stands on a front."""
        self._bound_pending()
        self._settle()
        return self._known[0] if self._known else no_points()

    def add(self, shapes: ShapeBlock, cuts: IntArray, first: IntArray, last: IntArray, steps: IntArray) -> None:
        """Take in shapes with ranks of so many steps: first, first + 1, ... last of them, all [shapes], none empty.

        `cuts` [shapes, d - 1] are what the error bounds know of them.
        """
        curves = _Curves(shapes, cuts, self._layer, self._errors)
        index = np.arange(len(shapes))
        end = last
        # Wide ranges first: most are dropped as a whole, and few are ever cut down to single ranks.
        for width in _WIDTHS:
            index, first, end = _cut(index, first, end, width)
            stays = self._may_enter(curves, index, first * steps[index], end * steps[index])
            index, first, end = index[stays], first[stays], end[stays]
        if index.size:
            ranks = np.repeat((first * steps[index])[:, None], shapes.d - 1, axis=1)
            losses = curves.params.at(index, ranks[:, 0]), curves.flops.at(index, ranks[:, 0])
            self._take_in(shapes[index], ranks, *losses, curves.errors(index, ranks[:, 0]))

    def add_even(self, shapes: ShapeBlock, cuts: IntArray, steps: IntArray, *, below: int, max_rank: int) -> int:
        """Take in shapes of three or more cores whose cuts all discard about as much; how many of them there are.

        Each shape comes with a few errors. Ranks are multiples of the step [shapes] up to the caps, parameters fewer
        than `below`.
        """
        looked_at = 0
        for error in EVEN_ERRORS:
            inner = even_ranks(shapes, self._errors.ranks_for(cuts, error**2 / (shapes.d - 1)), steps, max_rank)
            params, flops = tuple_counts(shapes, inner, self._layer)
            some = np.flatnonzero((params < below) & (inner.min(axis=1) > 0))
            looked_at += some.size
            bounds = self._errors.bounds(cuts[some], inner[some])
            some_enter = self._grids[0].may_enter(flops[some], params[some], bounds)
            if self._bounds is not None:
                quick = self._bounds.at_least(params[some], np.zeros_like(some))
                some_enter |= self._grids[1].may_enter(quick, params[some], bounds)
            some, bounds = some[some_enter], bounds[some_enter]
            if some.size:
                self._take_in(shapes[some], inner[some], params[some], flops[some], bounds)
        return looked_at

    def add_points(self, points: ShapePoints) -> None:
        """Take in points as they are."""
        self._known.append(points)
        self._new += len(points)

    def _may_enter(self, curves: _Curves, index: IntArray, first: IntArray, last: IntArray) -> Mask:
        self.evaluated += index.size
        params, errors = curves.params.at(index, first), curves.errors(index, last)
        stays = self._grids[0].may_enter(curves.flops.at(index, first), params, errors)
        if self._bounds is not None:
            rest = np.flatnonzero(~stays)
            # The quick bound, at the first rank: no rank of the range takes less.
            quick = self._bounds.at_least(*curves.least_work(index[rest], first[rest]))
            stays[rest] = self._grids[1].may_enter(quick, params[rest], errors[rest])
        return stays

    def _take_in(
        self, shapes: ShapeBlock, inner: IntArray, params: IntArray, flops: IntArray, errors: FloatArray
    ) -> None:
        # Columns of one array belong to shapes of one number of cores.
        if self._pending and self._pending[0].shapes.d != shapes.d:
            self._bound_pending()
        self._pending.append(_Pending(shapes, inner, params, flops, errors))
        if sum(each.params.size for each in self._pending) > _PENDING:
            self._bound_pending()

    def _bound_pending(self) -> None:
        """Find the bounds of what was taken in: many at a time, as there are hundreds of ways to contract six cores."""
        if not self._pending:
            return
        parts, self._pending = self._pending, []
        outs, ins = ([getattr(part.shapes, name) for part in parts] for name in ("out_dims", "in_dims"))
        columns = ([getattr(part, name) for part in parts] for name in ("inner", "params", "flops", "errors"))
        shapes = ShapeBlock(np.concatenate(outs), np.concatenate(ins))
        self.add_points(self.with_losses(shapes, *map(np.concatenate, columns)))
        # Where the front is large, it is sought again less often: each time costs a pass over all that is known.
        if self._new > max(_POOL, len(self._known[0]) // 2):
            self._settle()

    def with_losses(
        self, shapes: ShapeBlock, inner: IntArray, params: IntArray, flops: IntArray, errors: FloatArray
    ) -> ShapePoints:
        """Shapes with inner ranks [shapes, d - 1] as points, with the bounds of their cycles."""
        bounds = np.zeros(len(shapes))
        if self._bounds is not None:
            ones = np.ones((len(shapes), 1), dtype=np.int64)
            ranks = np.concatenate([ones, inner, ones], axis=1)
            pieces = range(0, len(shapes), _PIECE)
            bounds = np.concatenate([self._bound(shapes, ranks, slice(i, i + _PIECE)) for i in pieces])
        return points_of(shapes, inner, (params, flops, bounds, errors))

    def _bound(self, shapes: ShapeBlock, ranks: IntArray, some: slice) -> FloatArray:
        assert self._bounds is not None
        return self._bounds.of(shapes.out_dims[some], shapes.in_dims[some], ranks[some])

    def _settle(self) -> None:
        """Find the fronts of all that is known."""
        if not self._new:
            return
        points = joined(self._known)
        latencies = [points.flops, points.bounds][: len(self._grids)]
        fronts = [front_of_three(latency, points.params, points.errors) for latency in latencies]
        for number, (latency, front) in enumerate(zip(latencies, fronts, strict=True)):
            self._grids[number] = LossGrid(latency[front], points.params[front], points.errors[front])
        # What is on any of the fronts stays: FLOPs and bounds of cycles may disagree.
        self._known, self._new = [points[np.unique(np.concatenate(fronts))]], 0


@dataclass(frozen=True)
class _Pending:
    """Shapes of one number of cores with inner ranks, whose bounds of cycles are not known yet."""

    shapes: ShapeBlock
    inner: IntArray
    params: IntArray
    flops: IntArray
    errors: FloatArray


class _Curves:
    """The losses of the shapes of one block by index and rank."""

    def __init__(self, shapes: ShapeBlock, cuts: IntArray, layer: FcLayer, errors: ErrorBounds) -> None:
        self.shapes = shapes
        self.params, self.flops = parameter_curves(shapes, layer), flop_curves(shapes, layer)
        self._weights: tuple[Polynomials, ...] = least_weights(shapes)
        self._errors, self._cuts = errors, cuts

    def least_work(self, index: IntArray, ranks: IntArray) -> tuple[IntArray, IntArray]:
        """The fewest weights that a contraction reads, and multiply-adds that its first and last stage take."""
        weights = np.asarray(np.minimum.reduce([curve.at(index, ranks) for curve in self._weights]))
        return weights, least_multiply_adds(self.shapes, index, ranks)

    def errors(self, index: IntArray, ranks: IntArray) -> FloatArray:
        """Error bounds."""
        return self._errors.bounds(self._cuts[index], ranks[:, None])


def _cut(index: IntArray, first: IntArray, last: IntArray, width: int) -> tuple[IntArray, IntArray, IntArray]:
    """Ranges first..last of shapes, cut into ranges of `width` or less."""
    counts = -(-(last - first + 1) // width)
    which = np.repeat(np.arange(index.size), counts)
    # The number of each piece within its own range.
    place = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = first[which] + place * width
    return index[which], starts, np.minimum(starts + width - 1, last[which])

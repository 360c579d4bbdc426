"""What stands near the front of a layer's space: the steps that look at one shape, then the search for fronts."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost import funnel
from lrf_dse.cost.blocks import MonarchSpace, monarch_space
from lrf_dse.cost.counts import dense_parameters
from lrf_dse.cost.curves import parameter_curves, rank_steps
from lrf_dse.cost.looked_at import LookedAt, looked_at, low_rank_block
from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.search import EVEN_DEPTHS, CycleBounds, FrontSearch, ShapePoints
from lrf_dse.cost.tuples import block_of_points, tuples_near
from lrf_dse.front.pareto import IntArray
from lrf_dse.schema import FcLayer
from lrf_dse.target import Target
from lrf_dse.tt.counting import monarch_size
from lrf_dse.tt.error_bounds import ErrorBounds
from lrf_dse.tt.orders import ShapeBlock

FULL_VECTORS = 2
"""Vectors up to which ranks may fill them in part."""


class Space:
    """A layer's space, block by block through the steps that look at one shape, into the search for fronts."""

    def __init__(
        self, layer: FcLayer, target: Target, errors: ErrorBounds, narrowing: Narrowing, bounds: CycleBounds | None
    ) -> None:
        self._layer, self._target, self._errors, self._narrowing = layer, target, errors, narrowing
        self._bounds = bounds
        self._counts: Counter[str] = Counter()
        self._below = dense_parameters(layer)
        self._tuples = 0
        most = narrowing.most if narrowing.does(funnel.SAMPLE) else None
        self.looked_at: LookedAt = looked_at(
            layer.out_features,
            layer.in_features,
            narrowing.depths,
            max_rank=narrowing.max_rank,
            most=most,
            seed=narrowing.seed,
        )

    def searched(self) -> list[ShapePoints]:
        """What stands near the front: TT shapes, plain low rank and Monarch each for themselves, or all together."""
        search = self._new_search()
        searches = [search, self._new_search()] if self._narrowing.by_kind else [search]
        sizes = self._layer.out_features, self._layer.in_features
        # A layer of one output or one input is of rank 1 already.
        if min(sizes) > 1:
            self._enter(low_rank_block(*sizes), searches[-1])
        for block in self.looked_at.blocks():
            self._enter(block, search)
        points = search.points
        # After all shapes: tuples are sought only for shapes that stand near the front.
        tuples = tuples_near(
            points,
            search,
            self._layer,
            self._errors,
            steps=self._steps_of(points),
            max_rank=self._narrowing.max_rank,
        )
        self._tuples += len(tuples)
        search.add_points(tuples)
        if self._narrowing.monarch:
            if self._narrowing.by_kind:
                searches.append(self._new_search())
            searches[-1].add_points(self._monarch.points)
        found = [each.points for each in searches]
        if self._narrowing.by_kind:
            # Only where kinds compete by themselves: else low rank stands on the same front and drops them anyway.
            found[0] = found[0][~self._refines_low_rank(found[0])]
        # Without the tuples, which `remaining` adds to every step.
        self._counts[funnel.NEAR] = sum(map(len, found)) - self._tuples
        return found

    def _refines_low_rank(self, points: ShapePoints) -> NDArray[np.bool_]:
        """Whether plain low rank of the rank of one of its cuts is no larger: it then fits all that a point can.

        Such a point cuts all inputs from all outputs, and has more cores on either side. In the norm of any data the
        best fit of low rank is no worse, and each of its weights is used once.
        """
        layer = self._layer
        outs, ins = np.cumprod(points.out_dims, axis=1)[:, :-1], np.cumprod(points.in_dims, axis=1)[:, :-1]
        cut = (outs == layer.out_features) & (ins == 1) | (outs == 1) & (ins == layer.in_features)
        rank = np.where(cut, points.ranks, 0).max(axis=1, initial=0)
        bias = layer.out_features if layer.has_bias else 0
        low_rank = rank * (layer.out_features + layer.in_features) + bias
        return np.asarray((rank > 0) & (low_rank <= points.params))

    @cached_property
    def _monarch(self) -> MonarchSpace:
        lanes = self._target.fp32_lanes if self._narrowing.does(funnel.VECTORS) else 1
        return monarch_space(
            self._layer,
            self._errors,
            self._bounds,
            below=self._below if self._narrowing.does(funnel.BELOW_DENSE) else np.iinfo(np.int64).max,
            max_rank=self._narrowing.max_rank,
            lanes=lanes,
            small_ranks=FULL_VECTORS * lanes,
        )

    @property
    def remaining(self) -> dict[str, int]:
        """What every step so far left; tuples that were found count in every step, as if there from the start."""
        low_rank = min(self._layer.out_features, self._layer.in_features, self._narrowing.max_rank)
        low_rank *= min(self._layer.out_features, self._layer.in_features) > 1
        counts = self._counts
        if 2 not in self._narrowing.depths:  # plain low rank is looked at in any case
            low_rank, extra = 0, low_rank
        else:
            extra = 0
        whole = self.looked_at.whole
        steps = {
            funnel.RANKS: whole.uniform + extra,
            funnel.SAMPLE: counts[funnel.MIRROR] + low_rank,
        }
        names = (funnel.MIRROR, funnel.SPECTRA, funnel.BELOW_DENSE, funnel.VECTORS, funnel.NEAR)
        steps |= {name: counts[name] for name in names}
        found = {funnel.WHOLE: whole.tuples + extra} | {name: count + self._tuples for name, count in steps.items()}
        return {name: count + self._of_monarch.get(name, 0) for name, count in found.items()}

    @property
    def _of_monarch(self) -> dict[str, int]:
        """How many of the steps' candidates are Monarch matrices; those near the front were counted there."""
        if not self._narrowing.monarch:
            return {}
        sizes, space = (self._layer.out_features, self._layer.in_features), self._monarch
        count = monarch_size(*sizes, max_rank=self._narrowing.max_rank).uniform
        return dict.fromkeys((funnel.WHOLE, funnel.RANKS, funnel.SAMPLE, funnel.MIRROR), count) | {
            funnel.SPECTRA: space.known,
            funnel.BELOW_DENSE: space.below_dense,
            funnel.VECTORS: space.whole_vectors,
        }

    def _new_search(self) -> FrontSearch:
        return FrontSearch(self._layer, self._errors, self._bounds)

    def _enter(self, block: ShapeBlock, search: FrontSearch) -> None:
        """Take one block through the steps that need no other shape."""
        # The cap of one rank for all cuts is that of the first or the last cut, whose sides are the end cores.
        caps = np.minimum(np.minimum(block.sizes[:, 0], block.sizes[:, -1]), self._narrowing.max_rank)
        self._counts[funnel.MIRROR] += int(caps.sum())
        cuts = self._errors.cuts(block)
        known = (cuts >= 0).all(axis=1)
        if not known.all():
            block, cuts, caps = block[np.flatnonzero(known)], cuts[known], caps[known]
        self._counts[funnel.SPECTRA] += int(caps.sum())
        if self._narrowing.does(funnel.BELOW_DENSE):
            caps = np.minimum(caps, parameter_curves(block, self._layer).largest_below(self._below))
        self._counts[funnel.BELOW_DENSE] += int(caps.sum())
        steps = self._steps(block)
        # Of few ranks every one counts, in bytes if not in cycles: whole vectors are asked for from here on.
        small = np.minimum(caps, FULL_VECTORS * self._target.fp32_lanes)
        ones = np.ones_like(caps)
        self._enter_ranks(block, cuts, search, (ones, small, ones))
        # From the first whole step above the small ranks, so that no rank is entered twice.
        self._enter_ranks(block, cuts, search, (small // steps + 1, caps // steps, steps))
        if block.d in EVEN_DEPTHS and len(block):
            self._tuples += search.add_even(block, cuts, steps, below=self._below, max_rank=self._narrowing.max_rank)

    def _enter_ranks(
        self, block: ShapeBlock, cuts: IntArray, search: FrontSearch, ranks: tuple[IntArray, IntArray, IntArray]
    ) -> None:
        first, last, steps = ranks
        some = np.flatnonzero(last >= first)
        self._counts[funnel.VECTORS] += int((last - first + 1)[some].sum())
        if some.size:
            search.add(block[some], cuts[some], first[some], last[some], steps[some])

    def _steps(self, block: ShapeBlock) -> IntArray:
        """The steps between the ranks of each shape that are looked at."""
        if self._narrowing.does(funnel.VECTORS) and self._target.fp32_lanes > 1 and len(block):
            return rank_steps(block, self._target.fp32_lanes)
        return np.ones(len(block), dtype=np.int64)

    def _steps_of(self, points: ShapePoints) -> IntArray:
        steps = np.ones(len(points), dtype=np.int64)
        for d in np.unique(points.depths).tolist():
            some = np.flatnonzero(points.depths == d)
            steps[some] = self._steps(block_of_points(points, some, d))
        return steps

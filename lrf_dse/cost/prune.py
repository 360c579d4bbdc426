"""From the whole space of a layer to the few candidates worth building, counting every step (`lrf_dse.cost.funnel`).

Counts and bounds are arithmetic over arrays; a TT shape becomes an object only where its latency is asked for. Dense
is never dropped. How long a shape takes is the caller's knowledge: a lower bound, which is quick, decides what stands
on a first front and what may be faster than dense; the estimate of a kernel, which searches a schedule, ranks the few
that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost import funnel
from lrf_dse.cost.counts import dense_flops, dense_parameters
from lrf_dse.cost.funnel import FunnelStep, Reasons
from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.near import Space
from lrf_dse.cost.search import CycleBounds, ShapePoints, joined
from lrf_dse.front.pareto import FloatArray, IntArray, front_of_three
from lrf_dse.front.spread import ladder, spread
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.error_bounds import ErrorBounds, OfAnyWeights, OfSpectra
from lrf_dse.tt.spectra import Spectra

ESTIMATED_OF_TOP = 6
"""Candidates that are given to the model of the kernel, for each that may survive."""


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate with its exact counts and the bound on its relative Frobenius error (0 for dense).

    `cycles` are estimated, of dense measured; None where they are not known.
    """

    candidate: Candidate
    params: int
    flops: int
    error_bound: float
    cycles: float | None = None


@dataclass(frozen=True)
class LayerLatency:
    """How long a layer takes on the target, in cycles.

    Two functions tell it of shapes: `bounds` what no program goes below, `estimate` what a kernel is expected to take.
    `dense` is what the layer takes as it is; None: not known, so nothing is dropped for being slower.
    """

    bounds: CycleBounds
    estimate: Callable[[Candidate], float]
    dense: float | None = None


PredictedErrors = Callable[[Sequence[TTShape]], FloatArray]
"""What fits to data are expected to lose of the layer's outputs, by shape."""


@dataclass(frozen=True)
class PruneResult:
    """The survivors by ascending parameters (none, where nothing is below dense), dense beside them, and the funnel."""

    survivors: tuple[RankedCandidate, ...]
    dense: RankedCandidate
    funnel: tuple[FunnelStep, ...]


def prune(
    layer: FcLayer,
    spectra: Spectra | None,
    target: Target,
    narrowing: Narrowing,
    *,
    latency: LayerLatency | None = None,
    predicted: PredictedErrors | None = None,
) -> PruneResult:
    """The candidates of `layer` that spread along its front in latency, parameters and error, and the funnel.

    Without `latency` FLOPs stand for it, without `spectra` error bounds are those of any weights. All shapes compete
    with each other, unless `by_kind`: error bounds are of the weights alone, and a fit that sees data may turn their
    order round (of two, a TT shape with the worse bound and a third of the parameters was seen to lose less of a
    layer's outputs). What is `predicted` of outputs tells the hopeless from the rest. Raises ValueError where the
    spectra belong to another layer.
    """
    sizes = (layer.out_features, layer.in_features)
    if spectra is not None and (spectra.out_features, spectra.in_features) != sizes:
        raise ValueError(f"layer {layer.name} is {sizes}, its spectra {spectra.out_features, spectra.in_features}")
    # Without spectra only the size of W is known: bounds that hold for every W.
    errors: ErrorBounds = OfAnyWeights() if spectra is None else OfSpectra(spectra)
    space = Space(layer, target, errors, narrowing, None if latency is None else latency.bounds)
    kinds = space.searched()
    chosen = _Choice(layer, latency, predicted, narrowing)
    survivors, remaining = chosen.of(kinds)
    dense = dense_candidate(layer)
    counts = {**space.remaining, **remaining}
    reasons = Reasons(
        lanes=target.fp32_lanes,
        cores=f"{min(narrowing.depths)} to {max(narrowing.depths)}",
        most=narrowing.most,
        sampled=space.looked_at.is_sample,
        by_kind=narrowing.by_kind,
        any_weights=spectra is None,
        dense_known=latency is not None and latency.dense is not None,
        cycles_known=latency is not None,
        predicted=predicted is not None,
        wanted=" and ".join(f"{n} {of}" for n, of in zip(narrowing.shares, KINDS, strict=False)),
    )
    return PruneResult(
        survivors=survivors,
        dense=RankedCandidate(
            dense, dense_parameters(layer), dense_flops(layer), 0.0, None if latency is None else latency.dense
        ),
        funnel=funnel.counted(counts, reasons),
    )


KINDS = "TT shapes", "of low rank", "Monarch matrices"
"""What competes each on a front of its own."""

_CHOICE_STEPS = (funnel.BOUNDED, funnel.FASTER, funnel.ESTIMATED, funnel.WORTH, funnel.FRONT, funnel.TOP)


class _Choice:
    """From points near the front to survivors: the steps that need cycles."""

    def __init__(
        self, layer: FcLayer, latency: LayerLatency | None, predicted: PredictedErrors | None, narrowing: Narrowing
    ) -> None:
        self._layer, self._latency, self._predicted, self._narrowing = layer, latency, predicted, narrowing

    def of(self, kinds: Sequence[ShapePoints]) -> tuple[tuple[RankedCandidate, ...], dict[str, int]]:
        """The survivors by ascending parameters, and what every step left."""
        left: Counter[str] = Counter()
        fronts, all_cycles = [], []
        for points, most in zip(kinds, self._narrowing.shares, strict=True):
            # The order of these steps matters: quick tests come first, and the estimate, which searches schedules, sees
            # the few that are left.
            bounded = self._kept(points, funnel.BOUNDED, self._promises_enough(points, most))
            fast = self._kept(bounded, funnel.FASTER, self._may_beat_dense(bounded))
            near = fast[self._estimated(fast, most)] if self._narrowing.does(funnel.ESTIMATED) else fast
            cycles = self._cycles(near)
            # Left out, the step keeps every point.
            worth = np.flatnonzero(self._is_worth_it(near, cycles) | (not self._narrowing.does(funnel.WORTH)))
            estimated, near, cycles = len(near), near[worth], cycles[worth]
            front = front_of_three(cycles, near.params, near.errors)
            latency = self._over_storages(near[front], cycles[front])
            chosen = front[ladder(near.params[front], latency, near.errors[front], most)]
            sizes = len(bounded), len(fast), estimated, len(near), front.size, chosen.size
            left.update(dict(zip(_CHOICE_STEPS, sizes, strict=True)))
            fronts.append(near[chosen])
            all_cycles.append(cycles[chosen])
        points, cycles = joined(fronts), np.concatenate(all_cycles)
        by_size = np.argsort(points.params, kind="stable").tolist()
        return tuple(self._ranked(points, i, float(cycles[i])) for i in by_size), dict(left)

    def _kept(self, points: ShapePoints, step: str, which: NDArray[np.bool_]) -> ShapePoints:
        return points[which] if self._narrowing.does(step) else points

    def _promises_enough(self, points: ShapePoints, most: int) -> NDArray[np.bool_]:
        """Whether a fit is worth its time by predicted output errors, or else by error bounds.

        If that leaves too few, those with the least errors. Beyond the smallest shape that is exact enough only what
        is faster than that is left.
        """
        errors, hopeless = points.errors, funnel.HOPELESS
        if self._predicted is not None and len(points):
            errors = self._predicted([points.shape(i) for i in range(len(points))])
            hopeless = funnel.HOPELESS_OUTPUTS
        below = errors < hopeless
        if below.sum() < most:
            # Ties in the order of points, so that the result does not depend on the sort.
            below[np.argsort(errors, kind="stable")[:most]] = True
        if self._predicted is not None:
            exact = np.flatnonzero(errors < funnel.EXACT_OUTPUTS)
            if exact.size:
                enough = exact[np.argmin(points.params[exact])]
                latency = points.flops if self._latency is None else points.bounds
                below &= (points.params < points.params[enough]) | (latency < latency[enough])
                below[enough] = True
        # A layer of zeros has an error of 100 %: where fits see no data, nothing that promises no more is kept.
        return np.asarray(below & (points.errors < 1.0) if not self._narrowing.by_kind else below)

    def _is_worth_it(self, points: ShapePoints, cycles: FloatArray) -> NDArray[np.bool_]:
        """Whether a point takes clearly fewer cycles than dense, or clearly fewer parameters."""
        small = points.params <= funnel.WORTH_PARAMS * dense_parameters(self._layer)
        if self._latency is None or self._latency.dense is None:
            return np.asarray(small)
        return np.asarray(small | (cycles <= funnel.WORTH_CYCLES * self._latency.dense))

    def _may_beat_dense(self, points: ShapePoints) -> NDArray[np.bool_]:
        """Whether a point's lower bound leaves it a chance against dense: FLOPs are no cycles, and drop nothing."""
        if self._latency is None or self._latency.dense is None:
            return np.ones(len(points), dtype=np.bool_)
        return np.asarray(points.bounds <= self._latency.dense)

    def _estimated(self, points: ShapePoints, most: int) -> IntArray:
        """The points that are worth a look at their schedules."""
        # FLOPs as well as bounds: a bound at the rate of memory is the same for many shapes.
        losses = [points.errors, points.flops.astype(np.float64)]
        losses += [] if self._latency is None else [points.bounds]
        return np.sort(spread(points.params, losses, ESTIMATED_OF_TOP * most)) if len(points) else np.arange(0)

    def _cycles(self, points: ShapePoints) -> FloatArray:
        if self._latency is None:
            return points.flops.astype(np.float64)
        return np.array([self._latency.estimate(self._candidate(points, i)) for i in range(len(points))], np.float64)

    def _over_storages(self, points: ShapePoints, cycles: FloatArray) -> FloatArray:
        """What a point's cycles come to over the storages explored: their geometric mean in fp32 and the smallest one.

        One fit serves a shape in all storages, so that the same shapes survive for all. Of two mirrored shapes, which
        take the same time in fp32, one takes a hundred times as long in few bits: its codes are those of the order that
        contracts the last core first, which for this one is the wrong end.
        """
        smallest = self._narrowing.smallest
        if self._latency is None or smallest == "fp32":
            return cycles
        stored = (replace(self._candidate(points, i), kernel="rvv", storage=smallest) for i in range(len(points)))
        return np.sqrt(cycles * np.array([self._latency.estimate(one) for one in stored], np.float64))

    def _candidate(self, points: ShapePoints, i: int) -> Candidate:
        """The candidate of a point, with the kernel that is explored first."""
        return Candidate(self._layer, points.shape(i))

    def _ranked(self, points: ShapePoints, i: int, cycles: float) -> RankedCandidate:
        counts = int(points.params[i]), int(points.flops[i]), float(points.errors[i])
        return RankedCandidate(self._candidate(points, i), *counts, None if self._latency is None else cycles)

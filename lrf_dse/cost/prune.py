"""The funnel: from the whole ordered space of a layer to the few candidates worth building, counting every step.

Counts and error bounds are arithmetic over arrays; a TT shape becomes an object only where its latency is asked for.
Dense is never dropped. How long a shape takes is the caller's knowledge: a lower bound, which is quick, decides what
may be faster than dense and what stands on a first front; the estimate of a kernel, which searches a schedule, ranks
what is left.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost.counts import dense_flops, dense_parameters, flops, parameters
from lrf_dse.cost.spread import spread
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import Target
from lrf_dse.tt.shapes import DEPTHS, MAX_RANK, explored_dims, low_rank_dims, ordered_space_size, uniform_rank_cap
from lrf_dse.tt.spectra import Spectra, error_bounds

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
DimsPair = tuple[tuple[int, ...], tuple[int, ...]]
"""Output modes and input modes."""


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
class FunnelStep:
    """What one step left and removed, and why."""

    name: str
    remaining: int
    removed: int
    reason: str


@dataclass(frozen=True)
class Latency:
    """How long a layer takes on the target, in cycles.

    Of shapes by functions: `bound` is what no program goes below, `estimate` what a kernel is expected to take. `dense`
    is what the layer takes as it is; None: not known, so nothing is dropped for being slower.
    """

    bound: Callable[[Candidate], float]
    estimate: Callable[[Candidate], float]
    dense: float | None = None


@dataclass(frozen=True)
class PruneResult:
    """The survivors by ascending parameters (none, where nothing is below dense), dense beside them, and the funnel."""

    survivors: tuple[RankedCandidate, ...]
    dense: RankedCandidate
    funnel: tuple[FunnelStep, ...]


@dataclass(frozen=True)
class _Points:
    """All (dims, uniform rank) points as columns; `dims` indexes the explored dims."""

    dims: IntArray
    ranks: IntArray
    params: IntArray
    flops: IntArray
    errors: FloatArray

    def __getitem__(self, chosen: NDArray[np.bool_] | IntArray) -> _Points:
        dims, ranks, params, flops = (c[chosen] for c in (self.dims, self.ranks, self.params, self.flops))
        return _Points(dims, ranks, params, flops, self.errors[chosen])


def prune(
    layer: FcLayer,
    spectra: Spectra,
    target: Target,
    *,
    latency: Latency | None = None,
    depths: Sequence[int] = DEPTHS,
    rank_multiple: int | None = None,
    top: int = 16,
    max_rank: int = MAX_RANK,
    by_kind: bool = False,
) -> PruneResult:
    """The `top` candidates of `layer` that spread along its front in latency, parameters and error, and the funnel.

    Without `latency` FLOPs stand for it. Aligned TT shapes of `depths` and plain low rank compete with each other,
    unless `by_kind`: then `top` are TT shapes, with half as many of low rank beside them. Error bounds are of the
    weights alone; a fit that sees data may turn their order round (of two, a TT shape with the worse bound and a third
    of the parameters was seen to lose less of a layer's outputs), so that with `by_kind` no bound drops a shape: 7 of
    the 29 winners of a demo had one above 100 %. Ranks are multiples of `rank_multiple`, by default the target's fp32
    lanes. Raises ValueError where the spectra belong to another layer, or `top` or `rank_multiple` is below 1.
    """
    multiple = target.fp32_lanes if rank_multiple is None else rank_multiple
    sizes = (layer.out_features, layer.in_features)
    if (spectra.out_features, spectra.in_features) != sizes:
        raise ValueError(f"layer {layer.name} is {sizes}, its spectra {spectra.out_features, spectra.in_features}")
    if min(top, multiple, max_rank) < 1:
        raise ValueError(f"top, rank_multiple and max_rank must be >= 1, got {top}, {multiple}, {max_rank}")
    dims = list(explored_dims(*sizes, depths))
    caps = [uniform_rank_cap(*pair, max_rank) for pair in dims]
    whole = ordered_space_size(*sizes, depths=depths, max_rank=max_rank)
    whole += uniform_rank_cap(*low_rank_dims(*sizes), max_rank)
    points = _all_points(layer, spectra, dims, caps, multiple)
    below = points[points.params < dense_parameters(layer)]
    bounded = below if by_kind else below[below.errors < 1.0]
    shapes = _Shapes(layer, bounded, dims, latency)
    fast = np.flatnonzero(shapes.may_beat_dense)
    most = [top, (top + 1) // 2] if by_kind else [top]
    kinds = [fast[kind] for kind in shapes.kinds(fast, by_kind=by_kind)]
    quick = [shapes.quick_front(kind) for kind in kinds]
    cycles = shapes.estimated(np.concatenate(quick))
    fronts = [front[non_dominated(cycles[front], bounded.params[front], bounded.errors[front])] for front in quick]
    chosen = _spread(bounded, cycles, fronts, most)
    remaining = whole, sum(caps), *(column.ranks.size for column in (points, below, bounded)), fast.size
    remaining = *remaining, sum(map(len, quick)), sum(map(len, fronts)), chosen.size
    dense = dense_candidate(layer)
    return PruneResult(
        survivors=tuple(shapes.ranked(i, None if latency is None else float(cycles[i])) for i in chosen.tolist()),
        dense=RankedCandidate(
            dense, dense_parameters(layer), dense_flops(layer), 0.0, None if latency is None else latency.dense
        ),
        funnel=_funnel(remaining, _reasons(multiple, most, latency)),
    )


class _Shapes:
    """Points as candidates, made where they are needed, with how long they take."""

    def __init__(self, layer: FcLayer, points: _Points, dims: Sequence[DimsPair], latency: Latency | None) -> None:
        self._layer, self._points, self._dims, self._latency = layer, points, dims, latency
        self._flops = points.flops.astype(np.float64)
        self._bounds = self._flops
        if latency is not None:
            self._bounds = np.array([latency.bound(self.candidate(i)) for i in range(len(points.ranks))], np.float64)

    @property
    def may_beat_dense(self) -> NDArray[np.bool_]:
        """Whether a point's lower bound leaves it a chance against dense; True wherever nobody knows how long it takes.

        FLOPs are no cycles: without a latency nothing is said to be slow.
        """
        if self._latency is None or self._latency.dense is None:
            return np.ones(self._bounds.size, dtype=np.bool_)
        return self._bounds <= self._latency.dense

    def quick_front(self, points: IntArray) -> IntArray:
        """Those of `points` that no other is as good as, by FLOPs or by the lower bound of cycles, ascending.

        Neither knows how well a kernel does; two fronts leave the estimate more to choose from.
        """
        params, errors = self._points.params[points], self._points.errors[points]
        fronts = [non_dominated(quick[points], params, errors) for quick in (self._flops, self._bounds)]
        return points[np.unique(np.concatenate(fronts))]

    def kinds(self, points: IntArray, *, by_kind: bool) -> list[IntArray]:
        """Places in `points` of those that compete: all, or TT shapes and plain low rank each for themselves."""
        if not by_kind:
            return [np.arange(points.size)]
        low_rank = np.array([self._shape(i).is_low_rank for i in points.tolist()], dtype=np.bool_)
        return [np.flatnonzero(~low_rank), np.flatnonzero(low_rank)]

    def estimated(self, points: IntArray) -> FloatArray:
        """Latencies of all points: estimated of `points`, of the others infinite."""
        found = np.full(self._bounds.size, np.inf)
        for i in points.tolist():
            found[i] = self._flops[i] if self._latency is None else self._latency.estimate(self.candidate(i))
        return found

    def candidate(self, i: int) -> Candidate:
        """The candidate of a point, with the kernel that is explored first."""
        return Candidate(self._layer, self._shape(i))

    def ranked(self, i: int, cycles: float | None) -> RankedCandidate:
        """A point with its counts."""
        points = self._points
        counts = int(points.params[i]), int(points.flops[i]), float(points.errors[i])
        return RankedCandidate(self.candidate(i), *counts, cycles)

    def _shape(self, i: int) -> TTShape:
        out_dims, in_dims = self._dims[int(self._points.dims[i])]
        return TTShape(out_dims, in_dims, (1, *[int(self._points.ranks[i])] * (len(out_dims) - 1), 1))


def _spread(points: _Points, cycles: FloatArray, fronts: Sequence[IntArray], most: Sequence[int]) -> IntArray:
    """At most `most` points of each front, together by ascending parameters."""
    chosen = [
        front[spread(points.params[front], [points.errors[front], cycles[front]], top)]
        for front, top in zip(fronts, most, strict=True)
    ]
    found = np.concatenate(chosen)
    return found[np.argsort(points.params[found], kind="stable")]


def non_dominated(latency: FloatArray | IntArray, params: IntArray, errors: FloatArray) -> IntArray:
    """Indices, ascending, of the points that no other is at least as good as in all three; one of each set of equals.

    A sweep by ascending latency over a staircase in (parameters, error): about 0.1 s for 100,000 points.
    """
    stair_params: list[int] = []  # ascending, with strictly descending errors beside them
    stair_errors: list[float] = []
    kept = []
    by_latency = np.lexsort((np.arange(latency.size), errors, params, latency))
    for i, p, e in zip(by_latency.tolist(), params[by_latency].tolist(), errors[by_latency].tolist(), strict=True):
        at = bisect_right(stair_params, p)
        if at and stair_errors[at - 1] <= e:
            continue
        kept.append(i)
        start = bisect_left(stair_params, p)
        end = start
        while end < len(stair_params) and stair_errors[end] >= e:
            end += 1
        stair_params[start:end], stair_errors[start:end] = [p], [e]
    return np.array(sorted(kept), dtype=np.int64)


def _all_points(
    layer: FcLayer,
    spectra: Spectra,
    dims: Sequence[DimsPair],
    caps: Sequence[int],
    multiple: int,
) -> _Points:
    """Every point whose rank is a multiple of `multiple` up to its cap."""
    columns: list[tuple[IntArray, ...]] = []
    errors: list[FloatArray] = []
    for index, ((out_dims, in_dims), cap) in enumerate(zip(dims, caps, strict=True)):
        ranks = np.arange(multiple, cap + 1, multiple, dtype=np.int64)
        if not ranks.size:
            continue
        n_params, n_flops = _counts_by_rank(layer, out_dims, in_dims, ranks)
        columns.append((np.full_like(ranks, index), ranks, n_params, n_flops))
        errors.append(error_bounds(spectra, out_dims, in_dims, ranks))
    if not columns:
        none = np.empty(0, dtype=np.int64)
        return _Points(none, none, none, none, np.empty(0))
    index_column, rank_column, params_column, flops_column = map(np.concatenate, zip(*columns, strict=True))
    return _Points(index_column, rank_column, params_column, flops_column, np.concatenate(errors))


def _counts_by_rank(
    layer: FcLayer, out_dims: tuple[int, ...], in_dims: tuple[int, ...], ranks: IntArray
) -> tuple[IntArray, IntArray]:
    """Parameters and FLOPs for each uniform rank r.

    Both are c_1 r + c_2 r^2 (the end cores are linear in r, the inner ones quadratic): the exact counts of r = 1 and
    r = 2 give both coefficients, so the formulas stay in `lrf_dse.cost.counts` alone.
    """
    one, two = (TTShape(out_dims, in_dims, (1, *[r] * (len(out_dims) - 1), 1)) for r in (1, 2))
    bias = layer.out_features if layer.has_bias else 0

    def polynomial(at_one: int, at_two: int) -> IntArray:
        square = (at_two - 2 * at_one) // 2
        return (at_one - square) * ranks + square * ranks * ranks

    return (
        polynomial(parameters(one), parameters(two)) + bias,
        layer.batch * (polynomial(flops(one), flops(two)) + bias),
    )


def _reasons(multiple: int, most: Sequence[int], latency: Latency | None) -> list[tuple[str, str]]:
    """The steps of the funnel, and why each removes what it does; of kinds there are as many as `most`."""
    by_kind = len(most) > 1
    rivals = "others of the kind" if by_kind else "others"
    wanted = f"{most[0]} TT shapes and {most[1]} of low rank" if by_kind else str(most[0])
    quick, ranked = ("FLOPs, or the lower bound of cycles", "estimated cycles") if latency else ("FLOPs", "FLOPs")
    slow = "even at peak rates it takes longer than the dense layer was measured to take"
    if latency is None or latency.dense is None:
        slow = "nothing: nobody knows how long dense takes, or a small program is wanted, be it slow"
    no_worse = f"{rivals} are no worse in parameters, error bound and"
    return [
        ("whole space", "every ordered shape pair with every uniform rank, and plain low rank"),
        ("aligned", "another order of the same factors has no more FLOPs (out descending, in ascending)"),
        ("rank multiple", f"rank is not a multiple of {multiple}"),
        ("below dense", "not fewer parameters than dense"),
        (
            "bounded",
            "nothing: fits see data" if by_kind else "error bound of 100%: as much as a layer of zeros promises",
        ),
        ("faster", slow),
        ("near the front", f"{no_worse} {quick}"),
        ("front", f"{no_worse} {ranked}"),
        ("top", f"beyond the {wanted} that spread along the front"),
    ]


def _funnel(remaining: Sequence[int], steps: Sequence[tuple[str, str]]) -> tuple[FunnelStep, ...]:
    before = [remaining[0], *remaining]
    return tuple(
        FunnelStep(name, left, previous - left, reason)
        for (name, reason), left, previous in zip(steps, remaining, before, strict=False)
    )

"""The funnel: from the whole ordered space of a layer to the few candidates worth building, counting every step.

Counts and error bounds are arithmetic over arrays; a TT shape becomes an object only where its latency is predicted.
Dense is never dropped.

A shape can be computed by IREE's kernel or by a generated one, and nobody knows yet which is faster. So it stays while
either needs it: IREE's is judged by predicted cycles, the generated one by FLOPs. It runs near the roofline, which is
FLOPs and bytes of parameters; its own closed form searches a schedule first, too long for a whole space. A shape that
no kernel can make faster than dense is of no use to anybody.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from lrf_dse.cost.closed_form import predicted_cycles
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

    `cycles` are predicted; None where the target has no closed form.
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
    depths: Sequence[int] = DEPTHS,
    rank_multiple: int | None = None,
    top: int = 16,
    max_rank: int = MAX_RANK,
    by_kind: bool = False,
) -> PruneResult:
    """The `top` candidates of `layer` that spread along its fronts in latency, parameters and error, and the funnel.

    Latency is FLOPs, and where the target has a closed form predicted cycles too: a front each. Aligned TT shapes of
    `depths` and plain low rank compete with each other, unless `by_kind`: then `top` are TT shapes, with half as many
    of low rank beside them. Error bounds are of the weights alone; a fit that sees data may turn their order round (of
    two, a TT shape with the worse bound and a third of the parameters was seen to lose less of a layer's outputs).
    Ranks are multiples of `rank_multiple`, by default the target's fp32 lanes. Raises ValueError where the spectra
    belong to another layer, or `top` or `rank_multiple` is below 1.
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
    bounded = below[below.errors < 1.0]
    fast = bounded[_may_beat_dense(bounded, dims, layer, target)]
    candidates = [_candidate(layer, fast, dims, i) for i in range(len(fast.ranks))]
    cycles = _predicted(candidates, target)
    most = [top, (top + 1) // 2] if by_kind else [top]
    on_fronts, chosen = _spread_on_fronts(fast, cycles, _kinds(candidates, by_kind=by_kind), most)
    rivals = "others of the kind" if by_kind else "others"
    wanted = f"{most[0]} TT shapes and {most[1]} of low rank" if by_kind else str(top)
    latency = "FLOPs" if cycles is None else "latency, be it FLOPs or predicted cycles"
    steps = (
        ("whole space", whole, "every ordered shape pair with every uniform rank, and plain low rank"),
        ("aligned", sum(caps), "another order of the same factors has no more FLOPs (out descending, in ascending)"),
        ("rank multiple", len(points.ranks), f"rank is not a multiple of {multiple}"),
        ("below dense", len(below.ranks), "not fewer parameters than dense"),
        ("bounded", len(bounded.ranks), "error bound of 100%: a layer of zeros promises as much, for nothing"),
        ("faster", len(fast.ranks), "even at the FMA peak it takes longer than dense is predicted to take"),
        ("front", on_fronts, f"{rivals} are no worse in parameters, error bound and {latency}"),
        ("top", chosen.size, f"beyond the {wanted} that spread along the front"),
    )
    dense = dense_candidate(layer)
    return PruneResult(
        survivors=tuple(_ranked(candidates[i], fast, i, cycles) for i in chosen.tolist()),
        dense=RankedCandidate(dense, dense_parameters(layer), dense_flops(layer), 0.0, predicted_cycles(dense, target)),
        funnel=_funnel(steps),
    )


def _kinds(candidates: Sequence[Candidate], *, by_kind: bool) -> list[IntArray]:
    """Indices of the candidates that compete: all, or TT shapes and plain low rank each for themselves."""
    if not by_kind:
        return [np.arange(len(candidates))]
    low_rank = np.array([c.tt_shape is not None and c.tt_shape.is_low_rank for c in candidates], dtype=np.bool_)
    return [np.flatnonzero(~low_rank), np.flatnonzero(low_rank)]


def _spread_on_fronts(
    points: _Points, cycles: FloatArray | None, kinds: Sequence[IntArray], most: Sequence[int]
) -> tuple[int, IntArray]:
    """How many points are on the fronts of their kind, one for each latency; and at most `most` of each kind."""
    latencies = [points.flops.astype(np.float64), *([] if cycles is None else [cycles])]
    on_fronts, chosen = 0, []
    for kind, top in zip(kinds, most, strict=True):
        fronts = [non_dominated(latency[kind], points.params[kind], points.errors[kind]) for latency in latencies]
        front = kind[np.unique(np.concatenate(fronts))]
        losses = [loss[front] for loss in (points.errors, *latencies)]
        chosen.append(front[spread(points.params[front], losses, top)])
        on_fronts += front.size
    found = np.concatenate(chosen)
    return on_fronts, found[np.argsort(points.params[found], kind="stable")]


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


def _may_beat_dense(points: _Points, dims: Sequence[DimsPair], layer: FcLayer, target: Target) -> NDArray[np.bool_]:
    """Whether a point's FLOPs, neighbouring cores merged as is cheapest, leave it a chance against dense.

    True wherever the target has no closed form: nobody knows how long dense takes.
    """
    dense, peak = predicted_cycles(dense_candidate(layer), target), target.core.fma_per_cycle
    if dense is None or peak is None:
        return np.ones(len(points.ranks), dtype=np.bool_)
    most_flops = 2 * peak.value * dense
    fits = np.asarray(points.flops <= most_flops)
    for index in np.unique(points.dims[~fits]).tolist():
        mine = np.flatnonzero((points.dims == index) & ~fits)
        for merged in _mergings(*dims[index]):
            fits[mine] |= _counts_by_rank(layer, *merged, points.ranks[mine])[1] <= most_flops
    return fits


def _mergings(out_dims: tuple[int, ...], in_dims: tuple[int, ...]) -> Iterator[DimsPair]:
    """The dims that a kernel may compute with instead: neighbouring cores merged, to two at least."""
    d = len(out_dims)
    for count in range(1, d - 1):
        for cuts in combinations(range(1, d), count):
            groups = list(pairwise((0, *cuts, d)))
            yield tuple(prod(out_dims[a:b]) for a, b in groups), tuple(prod(in_dims[a:b]) for a, b in groups)


def _funnel(steps: Sequence[tuple[str, int, str]]) -> tuple[FunnelStep, ...]:
    before = [steps[0][1]] + [remaining for _, remaining, _ in steps]
    return tuple(
        FunnelStep(name, remaining, previous - remaining, reason)
        for (name, remaining, reason), previous in zip(steps, before, strict=False)
    )


def _candidate(
    layer: FcLayer,
    points: _Points,
    dims: Sequence[DimsPair],
    i: int,
) -> Candidate:
    out_dims, in_dims = dims[int(points.dims[i])]
    shape = TTShape(out_dims, in_dims, (1, *[int(points.ranks[i])] * (len(out_dims) - 1), 1))
    return Candidate(layer, shape)


def _predicted(candidates: Sequence[Candidate], target: Target) -> FloatArray | None:
    """Cycles of every candidate, or None: a closed form knows all of one target, or none."""
    cycles = [predicted_cycles(candidate, target) for candidate in candidates]
    known = [each for each in cycles if each is not None]
    return np.array(known) if len(known) == len(cycles) and target.closed_form is not None else None


def _ranked(candidate: Candidate, points: _Points, i: int, cycles: FloatArray | None) -> RankedCandidate:
    params, flops, error = int(points.params[i]), int(points.flops[i]), float(points.errors[i])
    return RankedCandidate(candidate, params, flops, error, None if cycles is None else float(cycles[i]))

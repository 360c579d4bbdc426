"""Ranks between a layer's options, as the search of whole models asks for them: chosen by the kernel's estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.layers import results_of
from lrf_dse.plan.refine import Between
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate
from lrf_dse.target import Target

PAYS = 1.0
"""A smaller rank may take at most this share of the cycles that the larger one is expected to take."""


def refined(x: Exploration, wanted: Sequence[Between]) -> tuple[CandidateResult, ...]:
    """One rank for each pair, measured and judged as every candidate is; none where no rank between them pays."""
    candidates = dict.fromkeys(c for pair in wanted if (c := rank_between(pair, x.target)) is not None)
    return results_of(x, list(candidates), stage="measure ranks between", evaluations=x.settings.evaluations)


def rank_between(pair: Between, target: Target) -> Candidate | None:
    """The shape of a pair with ranks about the geometric mean of theirs, which the kernel computes best for their size.

    The mean itself competes with the nearest multiples of the lanes and of half the lanes: the winner has the fewest
    expected cycles for each rank. Below the smallest ranks, half of them. None where it is no faster than the
    larger ranks.
    """
    upper = pair.upper.candidate
    most = _ranks(upper)
    # The geometric mean of a rank and a quarter of it is half of it.
    least = tuple(max(1, rank // 4) for rank in most) if pair.lower is None else _ranks(pair.lower.candidate)
    # Ranks that fill vectors waste no lanes; half of the lanes is a shorter vector.
    steps = (1, max(1, target.fp32_lanes // 2), target.fp32_lanes)
    found = [candidate for step in steps if (candidate := _with_ranks(upper, least, most, step)) is not None]
    above = _cycles(upper, target)
    paying = [candidate for candidate in dict.fromkeys(found) if _cycles(candidate, target) <= PAYS * above]
    return min(paying, key=lambda candidate: _cycles(candidate, target) / sum(_ranks(candidate)), default=None)


def _with_ranks(upper: Candidate, least: tuple[int, ...], most: tuple[int, ...], step: int) -> Candidate | None:
    """The upper one with ranks that are multiples of `step`, nearest to the means; None where those are an end's."""
    shape = upper.tt_shape
    assert shape is not None
    ends = list(zip(least, most, strict=True))
    # Ranks at the ends of the chain are 1 on both sides and stay.
    ranks = tuple(a if a == b else step * round(sqrt(a * b) / step) for a, b in ends)
    if not all(a <= rank <= b for rank, (a, b) in zip(ranks, ends, strict=True)) or ranks in (least, most):
        return None
    return replace(upper, tt_shape=replace(shape, ranks=ranks))


def _ranks(candidate: Candidate) -> tuple[int, ...]:
    return () if candidate.tt_shape is None else candidate.tt_shape.ranks


def _cycles(candidate: Candidate, target: Target) -> float:
    """Expected cycles; operations, where nothing predicts them."""
    found = estimate(replace(candidate, kernel="rvv"), target)
    return float(found.flops if found.cycles is None else found.cycles)

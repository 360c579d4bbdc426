"""The compiler's version of what finalists choose: compiled late and seldom, but the faster kernel is what ships.

IREE's kernels have lost to ours on every shape so far, and compiling them for every candidate took most of an
exploration's time outside its fits. So only the TT shapes of finalists have them measured as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.layers import measure_candidates
from lrf_dse.pipeline.selecting import layer_option
from lrf_dse.plan.options import Combination, LayerOption
from lrf_dse.plan.search import Search
from lrf_dse.report.facts import CandidateResult
from lrf_dse.schema import Candidate, Failure, Measurement


def with_rivals(
    x: Exploration, found: Search, results: Sequence[CandidateResult]
) -> tuple[Search, tuple[CandidateResult, ...]]:
    """The finalists with the faster kernel of each shape, and the results with those of the rivals beside them."""
    if "iree" not in x.settings.kernels:
        return found, tuple(results)
    known = {result.candidate: result for result in results}
    chosen = dict.fromkeys(choice for finalist in found.finalists for choice in finalist.choices)
    # IREE turns weights in few bits into fp32, and dense layers have both kernels measured already.
    plain = [c for c in chosen if c.storage == "fp32" and not c.is_dense]
    ours = [c for c in plain if c.kernel == "rvv" and c.without_generated not in known]
    outcomes = measure_candidates(x, "measure finalists' layers with IREE's kernels", map(_compiled, ours))
    rivals = {candidate: _rival(x, known[candidate], outcomes[_compiled(candidate)]) for candidate in ours}
    faster = {candidate: option for candidate in ours if (option := _faster(x, known[candidate], rivals[candidate]))}
    finalists = tuple(_with_options(finalist, faster) for finalist in found.finalists)
    return replace(found, finalists=finalists), (*results, *rivals.values())


def _compiled(candidate: Candidate) -> Candidate:
    return candidate.without_generated


def _rival(x: Exploration, ours: CandidateResult, outcome: Measurement | Failure) -> CandidateResult:
    """The result of the same shape and weights with IREE's kernel; the loss of accuracy is that of `ours`."""
    candidate = ours.candidate.without_generated
    estimated = estimate(candidate, x.target)
    if isinstance(outcome, Failure):
        return CandidateResult(candidate, estimated, failure=outcome)
    return replace(ours, candidate=candidate, estimate=estimated, measurement=outcome)


def _faster(x: Exploration, ours: CandidateResult, rival: CandidateResult) -> LayerOption | None:
    """The rival as an option, if it beats ours."""
    if rival.measurement is None or ours.measurement is None or rival.measurement.time >= ours.measurement.time:
        return None
    return layer_option(x, rival, rival.measurement)


def _with_options(finalist: Combination, faster: dict[Candidate, LayerOption]) -> Combination:
    return replace(finalist, options=tuple(faster.get(option.candidate, option) for option in finalist.options))

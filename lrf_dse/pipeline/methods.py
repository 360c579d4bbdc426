"""Which methods compete for a candidate's TT shape, and which wins.

A timing knows no weights, so competitors share it. The winner is decided by measured validation accuracy, never by
weight error; calibration rows held out decide between equals.
"""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.models.compress import methods_for
from lrf_dse.pipeline.quality import Judge
from lrf_dse.schema import Candidate


def competitors(candidate: Candidate, judge: Judge) -> tuple[Candidate, ...]:
    """The candidate with every method that may win its shape; a dense one has no competitors."""
    if candidate.tt_shape is None:
        return (candidate,)
    names = methods_for(candidate.layer, candidate.tt_shape, with_data=judge.compressor.calibration is not None)
    return tuple(replace(candidate, decomposer=name) for name in names)


def best(candidate: Candidate, judge: Judge) -> Candidate:
    """The competitor with the smallest drop on the validation part."""
    found = competitors(candidate, judge)
    if len(found) == 1:
        return found[0]

    def loss(competitor: Candidate) -> tuple[float, float]:
        return judge.drop_points([competitor]) or 0.0, judge.output_error(competitor) or 0.0

    return min(found, key=loss)

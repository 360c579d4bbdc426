"""Which methods compete for a candidate's TT shape, which wins, and what replacing one layer alone costs.

A timing knows no weights, so competitors share it. The winner is decided by measured validation accuracy, never by
weight error; calibration rows held out decide between equals. Where evaluations are few, they are spent in this order:
every competitor; the competitor with the least output error of every shape; a few shapes a layer, the drops of the
others read off the layer's curve of drop against output error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrf_dse.farm import Farm
from lrf_dse.models.layer_fit import methods_for
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.fitting import fit_ahead, judge_ahead
from lrf_dse.progress import Progress, silent
from lrf_dse.schema import Candidate


@dataclass(frozen=True)
class Judged:
    """A shape's winner, and the drop with only this layer replaced: measured, or predicted from its output error."""

    candidate: Candidate
    drop: float | None
    measured: bool = True


def judge_layers(
    candidates: Sequence[Candidate],
    errors: FitErrors,
    accuracies: Accuracies,
    *,
    farm: Farm,
    evaluations: int,
    stage: str = "judge layers",
    progress: Progress = silent,
) -> dict[Candidate, Judged]:
    """What became of every candidate, with at most about `evaluations` evaluations (one a layer at the least)."""
    judging = _Judging(errors, accuracies, farm, evaluations, stage, progress)
    with_data = errors.compressor.calibration is not None
    rivals = {candidate: competitors(candidate, with_data=with_data) for candidate in candidates}
    fit_ahead(farm, errors, [one for found in rivals.values() for one in found], stage=stage, progress=progress)
    for done, found in enumerate(rivals.values()):
        progress(stage, done, len(rivals))
        for candidate in found:
            errors.output_error(candidate)  # its trial: what takes the time
    progress(stage, len(rivals), len(rivals))
    if not accuracies.known:
        return {candidate: Judged(found[0], None) for candidate, found in rivals.items()}
    # Too many for the evaluations: of each shape the competitor with the least output error stands for all.
    if sum(len(found) for found in rivals.values()) > evaluations:
        rivals = {candidate: (min(found, key=judging.output_error),) for candidate, found in rivals.items()}
    if len(rivals) <= evaluations:
        judging.ahead([one for found in rivals.values() for one in found])
        return {candidate: judging.best(found) for candidate, found in rivals.items()}
    return _from_curves(rivals, judging)


@dataclass(frozen=True)
class _Judging:
    """What the judging of layers needs, and how far it may go."""

    errors: FitErrors
    accuracies: Accuracies
    farm: Farm
    evaluations: int
    stage: str
    progress: Progress

    def output_error(self, candidate: Candidate) -> float:
        """The error that ranks candidates before any accuracy is measured; 0 where it is not known."""
        found = self.errors.output_error(candidate)
        return 0.0 if found is None else found.value

    def ahead(self, candidates: Sequence[Candidate]) -> None:
        """Let workers judge these layers, each replaced alone."""
        alone = [[candidate] for candidate in candidates]
        judge_ahead(
            self.farm, self.errors, self.accuracies, alone, "validation", stage=self.stage, progress=self.progress
        )

    def best(self, found: Sequence[Candidate]) -> Judged:
        """The competitor with the smallest drop on the validation part."""
        drops = {candidate: self.accuracies.drop_points([candidate]) or 0.0 for candidate in found}
        # Drops of small validation parts are often equal: the output error on held-out rows decides then.
        winner = min(found, key=lambda c: (drops[c], self.output_error(c)))
        return Judged(winner, drops[winner])


def competitors(candidate: Candidate, *, with_data: bool) -> tuple[Candidate, ...]:
    """The candidate with every method that may win its shape; a dense one has no competitors."""
    if candidate.tt_shape is None:
        return (candidate,)
    names = methods_for(candidate.layer, candidate.tt_shape, with_data=with_data)
    if candidate.storage != "fp32":
        # Rounding sees the data anyway: what fits by weights alone, or leaves the mean alone, only costs time here.
        names = names[-1:]
    return tuple(replace(candidate, decomposer=name) for name in names)


def _from_curves(rivals: Mapping[Candidate, Sequence[Candidate]], judging: _Judging) -> dict[Candidate, Judged]:
    """The shapes of every layer, a few of them measured; `rivals` has one method for each."""
    layers: dict[str, list[Candidate]] = {}
    for candidate in rivals:
        layers.setdefault(candidate.layer.name, []).append(candidate)
    # Layers share the evaluations equally; the largest layer need not be the most sensitive one.
    share = max(1, judging.evaluations // len(layers))
    judged: dict[Candidate, Judged] = {}
    spread = {name: _spread(shapes, rivals, judging, share) for name, shapes in layers.items()}
    judging.ahead([rivals[c][0] for _, chosen in spread.values() for c in chosen])
    for name, shapes in layers.items():
        ordered, chosen = spread[name]
        judged |= {c: judging.best(rivals[c]) for c in shapes if c.is_dense or c in chosen}
        curve = [(judging.output_error(judged[c].candidate), judged[c].drop or 0.0) for c in ordered if c in chosen]
        for candidate in ordered:
            if candidate not in chosen:
                winner = rivals[candidate][0]
                judged[candidate] = Judged(winner, drop_on(curve, judging.output_error(winner)), measured=False)
    return {candidate: judged[candidate] for candidate in rivals}


def _spread(
    shapes: Sequence[Candidate], rivals: Mapping[Candidate, Sequence[Candidate]], judging: _Judging, share: int
) -> tuple[list[Candidate], set[Candidate]]:
    """A layer's shapes by output error, and the `share` of them, spread over these, that are measured."""
    ordered = sorted((c for c in shapes if not c.is_dense), key=lambda c: judging.output_error(rivals[c][0]))
    if not ordered:
        return [], set()
    # From the largest error down, so that a share of one measures the worst shape.
    return ordered, {ordered[i] for i in np.linspace(len(ordered) - 1, 0, share).round().astype(int)}


def drop_on(curve: Sequence[tuple[float, float]], error: float) -> float:
    """The drop at an output `error`, from a layer's measured (error, drop): never falling, from no drop at no error.

    >>> drop_on([(0.25, 1.0), (0.75, 3.0)], 0.5), drop_on([(0.25, 1.0)], 0.125)
    (2.0, 0.5)
    """
    # The point (0, 0) is known: no error, no drop. A drop that falls again while the error grows is noise.
    errors, drops = zip((0.0, 0.0), *sorted(curve), strict=True)
    rising = np.maximum.accumulate(np.maximum(drops, 0.0))
    return float(np.interp(error, errors, rising))

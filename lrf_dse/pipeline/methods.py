"""Which methods compete for a candidate's TT shape, which wins, and what replacing one layer alone costs.

A timing knows no weights, so competitors share it. The winner is decided by measured validation accuracy, never by
weight error; calibration rows held out decide between equals. Where evaluations are few, they are spent in this order:
every competitor; the competitor with the least output error of every shape; a few shapes a layer, the drops of the
others read off the layer's curve of drop against output error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrf_dse.farm import Farm
from lrf_dse.models.layer_fit import methods_for
from lrf_dse.pipeline.fitting import fit_ahead, judge_ahead
from lrf_dse.pipeline.quality import Judge
from lrf_dse.schema import Candidate


@dataclass(frozen=True)
class Judged:
    """A shape's winner, and the drop with only this layer replaced: measured, or predicted from its output error."""

    candidate: Candidate
    drop: float | None
    measured: bool = True


def judge_layers(
    candidates: Sequence[Candidate],
    judge: Judge,
    *,
    farm: Farm,
    evaluations: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Candidate, Judged]:
    """What became of every candidate, with at most about `evaluations` evaluations (one a layer at the least)."""
    rivals = {candidate: competitors(candidate, judge) for candidate in candidates}
    fit_ahead(farm, judge, [one for found in rivals.values() for one in found], progress=progress)
    for done, found in enumerate(rivals.values()):
        progress(done, len(rivals))
        for candidate in found:
            judge.output_error(candidate)  # its trial: what takes the time
    progress(len(rivals), len(rivals))
    if not judge.knows_accuracy:
        return {candidate: Judged(found[0], None) for candidate, found in rivals.items()}
    if sum(len(found) for found in rivals.values()) > evaluations:
        rivals = {
            candidate: (min(found, key=lambda c: _output_error(c, judge)),) for candidate, found in rivals.items()
        }
    if len(rivals) <= evaluations:
        alone = [[one] for found in rivals.values() for one in found]
        judge_ahead(farm, judge, alone, "validation", progress=progress)
        return {candidate: _best(found, judge) for candidate, found in rivals.items()}
    return _from_curves(rivals, judge, evaluations, farm, progress)


def competitors(candidate: Candidate, judge: Judge) -> tuple[Candidate, ...]:
    """The candidate with every method that may win its shape; a dense one has no competitors."""
    if candidate.tt_shape is None:
        return (candidate,)
    names = methods_for(candidate.layer, candidate.tt_shape, with_data=judge.compressor.calibration is not None)
    if candidate.storage != "fp32":
        # Rounding sees the data anyway: what fits by weights alone, or leaves the mean alone, only costs time here.
        names = names[-1:]
    return tuple(replace(candidate, decomposer=name) for name in names)


def _best(found: Sequence[Candidate], judge: Judge) -> Judged:
    """The competitor with the smallest drop on the validation part."""
    drops = {candidate: judge.drop_points([candidate]) or 0.0 for candidate in found}
    winner = min(found, key=lambda c: (drops[c], _output_error(c, judge)))
    return Judged(winner, drops[winner])


def _from_curves(
    rivals: Mapping[Candidate, Sequence[Candidate]],
    judge: Judge,
    evaluations: int,
    farm: Farm,
    progress: Callable[[int, int], None],
) -> dict[Candidate, Judged]:
    """The shapes of every layer, a few of them measured; `rivals` has one method for each."""
    layers: dict[str, list[Candidate]] = {}
    for candidate in rivals:
        layers.setdefault(candidate.layer.name, []).append(candidate)
    share = max(1, evaluations // len(layers))
    judged: dict[Candidate, Judged] = {}
    spread = {name: _spread(shapes, rivals, judge, share) for name, shapes in layers.items()}
    alone = [[rivals[c][0]] for _, chosen in spread.values() for c in chosen]
    judge_ahead(farm, judge, alone, "validation", progress=progress)
    for name, shapes in layers.items():
        ordered, chosen = spread[name]
        judged |= {c: _best(rivals[c], judge) for c in shapes if c.is_dense or c in chosen}
        curve = [(_output_error(judged[c].candidate, judge), judged[c].drop or 0.0) for c in ordered if c in chosen]
        for candidate in ordered:
            if candidate not in chosen:
                winner = rivals[candidate][0]
                judged[candidate] = Judged(winner, drop_on(curve, _output_error(winner, judge)), measured=False)
    return {candidate: judged[candidate] for candidate in rivals}


def _spread(
    shapes: Sequence[Candidate], rivals: Mapping[Candidate, Sequence[Candidate]], judge: Judge, share: int
) -> tuple[list[Candidate], set[Candidate]]:
    """A layer's shapes by output error, and the `share` of them, spread over these, that are measured."""
    ordered = sorted((c for c in shapes if not c.is_dense), key=lambda c: _output_error(rivals[c][0], judge))
    if not ordered:
        return [], set()
    return ordered, {ordered[i] for i in np.linspace(len(ordered) - 1, 0, share).round().astype(int)}


def drop_on(curve: Sequence[tuple[float, float]], error: float) -> float:
    """The drop at an output `error`, from a layer's measured (error, drop): never falling, from no drop at no error.

    >>> drop_on([(0.25, 1.0), (0.75, 3.0)], 0.5), drop_on([(0.25, 1.0)], 0.125)
    (2.0, 0.5)
    """
    errors, drops = zip((0.0, 0.0), *sorted(curve), strict=True)
    rising = np.maximum.accumulate(np.maximum(drops, 0.0))
    return float(np.interp(error, errors, rising))


def _output_error(candidate: Candidate, judge: Judge) -> float:
    found = judge.output_error(candidate)
    return 0.0 if found is None else found.value

"""Whether two runners put the same kernels in the same order: the timing plugin's cycles against another simulator's.

Gives agreement, not truth: where they disagree, the kernels are named and a person must say why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.builders.program import BUILDERS
from lrf_dse.models.evaluate import run_once
from lrf_dse.runners.job import Array, Job
from lrf_dse.runners.runner import Runner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

MakeKernel = Callable[[], tuple["onnx.ModelProto", Sequence[Array]]]
"""Gives the model of one kernel and the inputs of one inference (`lrf_dse.pipeline.timing.layer_program`)."""


@dataclass(frozen=True)
class Entry:
    """One kernel that both could run: warm cycles and instructions of either."""

    name: str
    reference_cycles: float
    opinion_cycles: float
    reference_instructions: int | None = None
    opinion_instructions: int | None = None

    @property
    def ratio(self) -> float:
        """How many times as slow the second opinion finds it."""
        return self.opinion_cycles / self.reference_cycles


@dataclass(frozen=True)
class Disagreement:
    """Two kernels that the runners put in opposite order.

    `reference` says how many times as fast `faster` is than `slower` by the reference, `opinion` how many times as slow
    by the other; both are above 1.
    """

    faster: str
    slower: str
    reference: float
    opinion: float


@dataclass(frozen=True)
class SecondOpinion:
    """The kernels that both ran, and those that one of them did not, with the reason.

    `spearman` is the rank correlation of the cycles; None with fewer than two kernels or all alike. `disagreements` are
    the pairs in opposite order, the strongest first. Units: cycles of a warm pass.
    """

    reference_source: str
    opinion_source: str
    entries: tuple[Entry, ...]
    spearman: float | None
    disagreements: tuple[Disagreement, ...]
    left_out: Mapping[str, str]


def second_opinion(
    kernels: Mapping[str, MakeKernel],
    target: Target,
    work_dir: Path,
    *,
    reference: Runner,
    opinion: Runner,
    builder: str = "iree",
) -> SecondOpinion:
    """Build every kernel once, run it with both, and compare. Raises BuildError and what the runners raise."""
    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    sources = ("", "")
    for number, (name, make) in enumerate(kernels.items()):
        folder = work_dir / f"kernel{number}"
        folder.mkdir(parents=True, exist_ok=True)
        job = _job(make, target, folder, builder)
        first, second = reference.run(job), opinion.run(replace(job, work=folder / "opinion"))
        if reason := _unusable("reference", first) or _unusable("second opinion", second):
            left_out[name] = reason
            continue
        assert isinstance(first, Measurement) and isinstance(second, Measurement)
        assert first.cycles is not None and second.cycles is not None
        entries.append(Entry(name, first.cycles, second.cycles, first.instructions, second.instructions))
        sources = (first.source, second.source)
    return SecondOpinion(
        *sources, tuple(entries), spearman([(e.reference_cycles, e.opinion_cycles) for e in entries]),
        disagreements(entries), left_out,
    )  # fmt: skip


def _job(make: MakeKernel, target: Target, folder: Path, builder: str) -> Job:
    model, inputs = make()
    built = BUILDERS[builder](model, target, folder)
    expected = run_once(model, inputs)
    program = Path(built.program.path)
    return Job(program, target, tuple(inputs), expected, folder / "reference", schedule=built.schedule)


def _unusable(who: str, outcome: Measurement | Failure) -> str | None:
    if isinstance(outcome, Failure):
        return f"{who}, {outcome.stage}: {outcome.reason}"
    return None if outcome.cycles is not None else f"{who}: {outcome.source}, no cycles"


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Rank correlation of the two members, ties at their mean rank; None with fewer than two pairs or a constant side.

    >>> spearman([(1, 10), (2, 20), (3, 15), (4, 40)])
    0.8
    """
    if len(pairs) < 2:
        return None
    ranks = [_ranks([pair[side] for pair in pairs]) for side in (0, 1)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 12)


def _ranks(values: Sequence[float]) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks: Array = (ends - (counts - 1) / 2)[inverse]
    return mean_ranks


def disagreements(entries: Sequence[Entry]) -> tuple[Disagreement, ...]:
    """Pairs of kernels in opposite order, by the product of how far apart either runner puts them."""
    found = []
    for one, other in combinations(entries, 2):
        fast, slow = sorted((one, other), key=lambda entry: entry.reference_cycles)
        reference = slow.reference_cycles / fast.reference_cycles
        opinion = fast.opinion_cycles / slow.opinion_cycles
        if reference > 1 and opinion > 1:
            found.append(Disagreement(fast.name, slow.name, reference, opinion))
    return tuple(sorted(found, key=lambda pair: -log(pair.reference * pair.opinion)))

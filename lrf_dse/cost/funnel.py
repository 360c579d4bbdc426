"""The steps from the whole space of a layer to a few candidates: names, what each removes, whether it is safe.

A safe step loses no point of the front in (FLOPs or lower bound of cycles, bytes, error bound) of what came before
it, dense included. A heuristic step may; `benchmarks/space.py` shows how much it loses where brute force can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from lrf_dse.errors import UsageError

StepKind = Literal["safe", "heuristic"]

WHOLE, RANKS, SAMPLE, MIRROR, SPECTRA = "whole space", "ranks", "sample", "mirror", "known spectra"
BELOW_DENSE, VECTORS, NEAR, BOUNDED, FASTER = "below dense", "whole vectors", "near the front", "bounded", "faster"
ESTIMATED, WORTH, FRONT, TOP = "estimated", "worth it", "front", "top"

STEPS: Mapping[str, StepKind] = {
    WHOLE: "safe",
    RANKS: "heuristic",
    SAMPLE: "heuristic",
    MIRROR: "safe",
    SPECTRA: "heuristic",
    BELOW_DENSE: "safe",
    VECTORS: "heuristic",
    NEAR: "safe",
    BOUNDED: "heuristic",
    FASTER: "heuristic",
    ESTIMATED: "heuristic",
    WORTH: "heuristic",
    FRONT: "safe",
    TOP: "heuristic",
}
"""All steps in their order."""

OPTIONAL = (SAMPLE, BELOW_DENSE, VECTORS, BOUNDED, FASTER, ESTIMATED, WORTH)
"""Steps that may be left out; the others make the space finite, or their result small."""


HOPELESS = 0.95
"""Error bound of weights from which on nothing is worth a fit, if there is something below it. Of LeNet-300-100's first
layer such shapes lost 40 to 90 points."""

HOPELESS_OUTPUTS, EXACT_OUTPUTS = 0.85, 0.03
"""Predicted output errors (`lrf_dse.tt.output_spectra`) that leave nothing of a layer, and that change nothing:
of LeNet-300-100's layers the former lost 18 to 90 points, but for one of 3, the latter none."""

WORTH_CYCLES, WORTH_PARAMS = 0.95, 0.8
"""Shares of dense above which a candidate is no gain. What is left are a few more points where it matters."""


@dataclass(frozen=True)
class FunnelStep:
    """What one step left and removed, why, and whether it is safe ("" in records of older versions)."""

    name: str
    remaining: int
    removed: int
    reason: str
    kind: StepKind | Literal[""] = ""


@dataclass(frozen=True)
class Reasons:
    """What the reasons of a funnel's steps depend on."""

    lanes: int
    cores: str
    most: int
    sampled: bool
    by_kind: bool
    any_weights: bool
    dense_known: bool
    cycles_known: bool
    predicted: bool
    wanted: str

    def of(self, step: str) -> str:
        """Why `step` removes what it does."""
        return self._all()[step]

    def _all(self) -> dict[str, str]:
        rivals = "others of the kind" if self.by_kind else "others"
        quick, ranked = (
            ("FLOPs, or the lower bound of cycles,", "estimated cycles") if self.cycles_known else ("FLOPs,", "FLOPs")
        )
        cuts = (
            "nothing: the bound holds for any weights" if self.any_weights else "the spectrum of a cut takes too long"
        )
        slow = "even at peak rates it takes longer than the dense layer"
        if not self.dense_known:
            slow = "nothing: nobody knows how long dense takes, or a small program is wanted, be it slow"
        return {
            WHOLE: f"every order of factors of both sizes, {self.cores} cores, every tuple of ranks; and every number "
            "of blocks of Monarch matrices",
            RANKS: "neither one rank for all cuts, nor as much lost at each of 2 or 3, nor the cheapest for the "
            "error of a shape near the front",
            SAMPLE: f"more than {self.most:,} candidates: a sample, always the same, and all aligned shapes"
            if self.sampled
            else "nothing: all are looked at",
            MIRROR: "low rank the other way round: the same matrices",
            SPECTRA: cuts,
            BELOW_DENSE: "not fewer parameters than dense",
            VECTORS: f"a rank above {2 * self.lanes} that leaves vectors of {self.lanes} numbers partly empty",
            NEAR: f"{rivals} are no worse in {quick} parameters and error bound, or low rank of its rank is no larger",
            BOUNDED: f"predicted output error of {HOPELESS_OUTPUTS:.0%}, or larger than one of {EXACT_OUTPUTS:.0%}"
            if self.predicted
            else f"error bound of {HOPELESS:.0%} or more, nearly what a layer of zeros has, where others have less",
            FASTER: slow,
            ESTIMATED: "near others: only so many that spread along the front are given to the model of the kernel",
            WORTH: f"saves neither {1 - WORTH_CYCLES:.0%} of dense's cycles nor {1 - WORTH_PARAMS:.0%} of its weights",
            FRONT: f"{rivals} are no worse in {ranked}, parameters and error bound",
            TOP: f"beyond the {self.wanted} that are the best bargains of their sizes",
        }


def counted(remaining: Mapping[str, int], reasons: Reasons) -> tuple[FunnelStep, ...]:
    """The funnel of what every step left."""
    found, before = [], remaining[WHOLE]
    for name, kind in STEPS.items():
        # Steps come in the order of STEPS, so each removes the difference to the step before.
        found.append(FunnelStep(name, remaining[name], before - remaining[name], reasons.of(name), kind))
        before = remaining[name]
    return tuple(found)


def checked_steps(names: Collection[str]) -> frozenset[str]:
    """Steps to leave out. Raises UsageError for one that is unknown, or cannot be left out."""
    for name in names:
        if name not in OPTIONAL:
            raise UsageError(f"no step {name!r} can be left out; these can: {', '.join(OPTIONAL)}")
    return frozenset(names)

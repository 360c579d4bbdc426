"""Where a layer's ranks are too coarse for the front that whole models make: which ranks between to ask for.

Of two options of one layer that differ in ranks alone, one in between is predicted on logarithmic scales, and put into
every judged model of the front, whatever that has of the layer: what the models then add to what is dominated is its
worth. Both ends may be worth nothing where a rank between them is (three cores in int4, ranks 6 and 7). What is below
the smallest ranks is a guess, and only put into models that hold these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.options import LOSS, Combination, LayerOption, totals_of
from lrf_dse.plan.predict import Correction
from lrf_dse.plan.terrain import Terrain
from lrf_dse.plan.volume import gains, hypervolume

HALF_AS_LONG, HALF_AS_LARGE, HALF_LOSES, _SOME_LOSS = 0.75, 0.55, 2.5, 0.1
"""What half the ranks are taken to cost, before anything is known of them: guesses, which decide no more than whether
to ask. By the closed form, half of low rank 8 or 16 takes 0.5 to 0.99 of the cycles."""


@dataclass(frozen=True)
class Between:
    """Two options of one layer that differ in ranks alone, with none between them: `lower` has the smaller ranks.

    It is None below the smallest ranks that there are.
    """

    lower: LayerOption | None
    upper: LayerOption

    @property
    def key(self) -> tuple[object, ...]:
        """Which shapes of which layer these are."""
        return None if self.lower is None else self.lower.candidate, self.upper.candidate


def ranks_between(
    layers: Sequence[Sequence[LayerOption]],
    judged: Sequence[Combination],
    numbers: FloatArray,
    terrain: Terrain,
    *,
    correction: Correction,
    least: float,
) -> list[Between]:
    """Pairs of options between which ranks are worth asking for, the most promising first.

    `numbers` [n, 4] are those of the `judged` models with their measured losses. Worth asking is what is predicted to
    add the share `least` to what they dominate.
    """
    # All judged models count here: which of them keep the limits was decided by the caller.
    points = terrain.points(numbers, [True] * len(numbers))
    front = np.flatnonzero(front_mask(points) & (points[:, 2] <= terrain.worst))
    whole = hypervolume(points, terrain.reference)
    found: list[tuple[float, Between]] = []
    for k, options in enumerate(layers):
        for pair in _neighbours(options):
            rows = [
                _swapped(judged[i], numbers[i], k, _middle(pair), correction)
                for i in front.tolist()
                # Below the smallest ranks nothing is known, so the guess is tried only where those ranks stand now.
                if pair.lower is not None or judged[i].options[k] == pair.upper
            ]
            if rows:
                middles = terrain.points(np.array(rows), [True] * len(rows))
                worth = float(gains(middles, points, terrain.reference).max())
                found.append((worth, pair))
    found.sort(key=lambda item: -item[0])
    return [pair for worth, pair in found if worth > least * whole]


def _swapped(
    member: Combination, numbers: FloatArray, k: int, option: LayerOption, correction: Correction
) -> FloatArray:
    """The numbers of a judged model with another option of layer k: what it lost changes as the prediction does."""
    other = Combination((*member.options[:k], option, *member.options[k + 1 :]))
    row = totals_of(other)
    # What was measured stays, and only the difference is predicted: errors of the prediction cancel.
    row[LOSS] = max(0.0, numbers[LOSS] + correction.loss(other) - correction.loss(member))
    return row


def _neighbours(options: Sequence[LayerOption]) -> Iterator[Between]:
    """Neighbours in rank of every family of options that differ in ranks alone, with room for a rank between them."""
    families: dict[object, list[LayerOption]] = {}
    for option in options:
        candidate = option.candidate
        shape = candidate.tt_shape
        if shape is not None:
            family = (shape.out_dims, shape.in_dims, candidate.storage, candidate.order, candidate.threads)
            families.setdefault(family, []).append(option)
    for members in families.values():
        members.sort(key=_ranks)
        if max(_ranks(members[0])) > 1:
            yield Between(None, members[0])
        for lower, upper in pairwise(members):
            # Ranks 7 and 8 have none between them.
            if any(b - a > 1 for a, b in zip(_ranks(lower), _ranks(upper), strict=True)):
                yield Between(lower, upper)


def _ranks(option: LayerOption) -> tuple[int, ...]:
    shape = option.candidate.tt_shape
    return () if shape is None else shape.ranks


def _middle(pair: Between) -> LayerOption:
    """What a rank between the two is predicted to take, on logarithmic scales; below the smallest, half the ranks."""
    lower, upper = pair.lower, pair.upper
    if lower is None:
        return replace(
            upper,
            latency=upper.latency * HALF_AS_LONG,
            flash_bytes=upper.flash_bytes * HALF_AS_LARGE,
            loss=HALF_LOSES * max(upper.loss, _SOME_LOSS),
        )
    return replace(
        lower,
        latency=_geometric(lower.latency, upper.latency),
        flash_bytes=_geometric(lower.flash_bytes, upper.flash_bytes),
        # RAM is not smooth in the rank: the larger one is the safe guess.
        ram_bytes=max(lower.ram_bytes, upper.ram_bytes),
        loss=_geometric(lower.loss, upper.loss),
    )


def _geometric(a: float, b: float) -> float:
    return float(np.sqrt(a * b)) if min(a, b) > 0 else (a + b) / 2

"""Which samples belong together, and how they are dealt out to parts that have nothing to do with each other.

Samples that resemble each other (frames of one film, sentences of one speaker) must not lie in two parts: what was
learnt of one would then be seen in the other. The user's groups say which those are; without groups neighbours in the
file are taken for alike. So a unit, a group or a short run of neighbours, is dealt out whole. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLIT_VERSION = 2
"""To be raised whenever the same data and seed are dealt out otherwise."""

OF_ALL = 0.2
"""The weight of the samples that a part still misses in all, where those of the unit's own classes weigh 1."""

Units = NDArray[np.int64]
"""For every sample the number of its unit."""

LONGEST = 16
"""Neighbours that are taken for alike. Long runs would keep films apart, and leave too few units to deal out."""

FEWEST_UNITS = 50
"""Runs of neighbours are made so short that there are at least so many of them."""

RUNS_PER_CLASS = 12
"""Runs are also so short that a class of the median size has so many: where a file is sorted by class, every part
still sees each class."""


def units_of(samples: int, *, groups: NDArray[Any] | None = None, labels: NDArray[Any] | None = None) -> Units:
    """The unit of every sample: its group, or a run of neighbours of a length that suits the number of samples.

    >>> units_of(6, groups=np.array(["b", "a", "a", "b", "c", "c"]))
    array([1, 0, 0, 1, 2, 2])
    """
    # What users say of their data beats the guess by neighbours, also where each group is a single sample.
    if groups is not None:
        return np.unique(groups, return_inverse=True)[1].reshape(-1).astype(np.int64)
    length = min(LONGEST, samples // FEWEST_UNITS)
    if labels is not None:
        # The median, since one rare class would make every run a single sample.
        length = min(length, int(np.median(np.unique(labels, return_counts=True)[1])) // RUNS_PER_CLASS)
    return np.arange(samples, dtype=np.int64) // max(1, length)


def deal(
    units: Units, shares: Mapping[str, float], *, seed: int, labels: NDArray[Any] | None = None
) -> dict[str, NDArray[np.intp]]:
    """The samples of every part, ascending, each unit whole in one of them, the parts of about the given shares.

    With `labels` (one a sample) every part gets about its share of each class. The largest unit comes first, equal ones
    in the order that `seed` draws, and each goes where most is missing of the classes that it holds (Sechidis,
    Tsoumakas, Vlahavas, ECML 2011). Raises ValueError where there are fewer units than parts.
    """
    _, unit = np.unique(units, return_inverse=True)
    classes = np.zeros(len(unit), np.intp) if labels is None else np.unique(labels, return_inverse=True)[1].reshape(-1)
    held = np.zeros((int(unit.max()) + 1, int(classes.max()) + 1))  # samples by unit and class
    np.add.at(held, (unit, classes), 1.0)
    if len(held) < len(shares):
        raise ValueError(f"{len(held)} units cannot be dealt out to {len(shares)} parts")
    # [parts, classes]: how many samples of each class every part should still get. It may fall below 0.
    missing = np.array(list(shares.values()))[:, None] * held.sum(axis=0)
    part_of = np.zeros(len(held), np.intp)
    empty = set(range(len(shares)))
    shuffled = np.random.default_rng(seed).permutation(len(held))
    # A stable sort keeps the drawn order among units of one size.
    order = shuffled[np.argsort(-held[shuffled].sum(axis=1), kind="stable")]
    for left, k in zip(range(len(order), 0, -1), order, strict=True):
        # What a part misses of all classes keeps many small classes from being rounded the same way.
        wanting = missing @ held[k] / held[k].sum() + OF_ALL * missing.sum(axis=1)
        # The last units go to the parts that have none yet: an empty part would judge nothing.
        allowed = sorted(empty) if left <= len(empty) else range(len(shares))
        part_of[k] = max(allowed, key=lambda part: (wanting[part], -part))
        missing[part_of[k]] -= held[k]
        empty.discard(int(part_of[k]))
    return {name: np.flatnonzero(part_of[unit] == part) for part, name in enumerate(shares)}


def one_label_each(labels: NDArray[Any] | None) -> NDArray[Any] | None:
    """Labels that classes can be balanced by: whole numbers, one a sample; None for anything else."""
    return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None

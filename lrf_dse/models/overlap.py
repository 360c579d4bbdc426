"""Samples of one data set that stand in another one too: what fits have seen must not judge them.

A row is known by its inputs, in the model's type. Rows that are the same everywhere (silence, a sensor that is off) say
nothing and are left out. Other rows may be equal by chance as well: readings of few digits repeat. How often shows
inside each data set, so the two are compared with what dealing all rows out at random would give.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from math import sqrt

import numpy as np

from lrf_dse.errors import DataError
from lrf_dse.models.data import Dataset

_SIGMAS = 3.0
"""Shared rows beyond so many standard deviations of chance are no chance."""


def refuse_shared(seen: Dataset, judging: Dataset, *, option: str) -> None:
    """Raise DataError where `seen`, given by `option`, holds samples of `judging` by more than chance."""
    ours, theirs = _rows(seen), _rows(judging)
    shared = sum(count for row, count in ours.items() if row in theirs)
    if shared and not _by_chance(ours, theirs):
        raise DataError(
            f"{option} {seen.path}: {shared:,} of its {seen.samples:,} samples are in --data {judging.path} too, where "
            f"they would judge what was fitted to them; take other samples, or leave {option} out"
        )


def _rows(data: Dataset) -> Counter[bytes]:
    """How often every row occurs, by a hash of its inputs; without those whose inputs are one value throughout."""
    arrays = [np.ascontiguousarray(data.x[name]).reshape(data.samples, -1) for name in sorted(data.x)]
    wide = [array for array in arrays if array.shape[1] > 1]
    telling = np.full(data.samples, not wide)
    for array in wide:
        telling |= (array != array[:, :1]).any(axis=1)
    found: Counter[bytes] = Counter()
    for k in np.flatnonzero(telling).tolist():
        # 128 bits: among 10^9 different rows two have one digest with a probability of about 10^-21.
        digest = blake2b(digest_size=16)
        for array in arrays:
            digest.update((array[k] + array.dtype.type(0)).tobytes())  # -0.0 is 0.0
        found[digest.digest()] += 1
    return found


def _by_chance(ours: Counter[bytes], theirs: Counter[bytes]) -> bool:
    """Whether rows that repeat are in both as often as if all rows had been dealt out at random.

    A row that occurs c times is on both sides then with probability q = 1 - p^c - (1 - p)^c, where p is our share of
    all rows. Where nothing repeats on one side alone, nothing tells that rows repeat by themselves.
    """
    total = ours + theirs
    repeated = {row: count for row, count in total.items() if count > 1}
    both = sum(row in ours and row in theirs for row in repeated)
    if both == len(repeated):
        return False
    p = ours.total() / total.total()
    # The number of rows on both sides is a sum of independent trials with unequal probabilities q: its mean is the sum
    # of q, its variance that of q (1 - q).
    q = [1.0 - p**count - (1.0 - p) ** count for count in repeated.values()]
    return both <= sum(q) + _SIGMAS * sqrt(sum(each * (1.0 - each) for each in q))

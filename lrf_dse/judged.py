"""How good a plan is, and how that is known: its metric on a part of the data, its confirmation, and its training.

The values are frozen, as those of `schema` are, whose plans hold them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """One value of a metric over `samples` samples of the data part `part`.

    `drop` is how much worse it is than the dense model's, in the metric's drop unit, with its 95% interval.
    """

    value: float
    samples: int
    part: str
    metric: str
    drop: float
    drop_low: float
    drop_high: float


@dataclass(frozen=True)
class Confirmation:
    """What became of a plan on the part of the data that chose nothing; `order` is 0 where it was not judged there.

    `drop` is in the metric's drop unit, over `samples` samples; `low` and `high` are one-sided bounds, each with 95%
    confidence. The plan `holds` the budget if `high` is within it, and is `confirmed` if all plans that were judged
    before it hold the budget too (a fixed sequence of tests, see `plan.confirm`). It is `refuted` if `low` is above the
    budget. `needed` is about how many samples would decide; it is None where they decided, or where no number in reach
    would.
    """

    confirmed: bool = False
    order: int = 0
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    holds: bool = False
    refuted: bool = False
    needed: int | None = None


@dataclass(frozen=True)
class FineTuning:
    """How weights were trained after they were fitted: `how` is "end to end" or "layer by layer".

    `drops` are on the validation part, before training and after every epoch; `losses` has one number for each epoch.
    `best_epoch` is the one whose weights are kept, 0 where training did not help; `ended` says why training ended.
    """

    how: str
    drops: tuple[float, ...]
    losses: tuple[float, ...]
    best_epoch: int
    ended: str

"""How a layer's space is narrowed: the few settings that all steps share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lrf_dse.cost.funnel import checked_steps
from lrf_dse.cost.looked_at import MOST_CANDIDATES
from lrf_dse.schema import Storage
from lrf_dse.tt.counting import SPACE_DEPTHS
from lrf_dse.tt.shapes import MAX_RANK


@dataclass(frozen=True)
class Narrowing:
    """How a space is narrowed: `top` candidates of cores, with `by_kind` half as many of plain low rank beside them.

    With `monarch` Monarch matrices are in the space, with `by_kind` a third as many as of cores. Steps in `without` are
    left out. Of more than `most` candidates a sample is looked at, drawn from `seed`. Survivors are chosen for fp32 and
    for `smallest`, the storage of the fewest bits that is explored.
    """

    top: int = 16
    by_kind: bool = False
    without: Collection[str] = ()
    depths: Sequence[int] = SPACE_DEPTHS
    max_rank: int = MAX_RANK
    most: int = MOST_CANDIDATES
    seed: int = 0
    monarch: bool = True
    smallest: Storage = "fp32"

    def __post_init__(self) -> None:
        if min(self.top, self.max_rank, self.most) < 1:
            raise ValueError(f"top, max_rank and most must be >= 1, got {self.top}, {self.max_rank}, {self.most}")
        checked_steps(self.without)

    @property
    def shares(self) -> tuple[int, ...]:
        """How many candidates of each kind may survive: TT shapes, plain low rank, Monarch; or of all together."""
        if not self.by_kind:
            return (self.top,)
        # Rounded up: even with `top` 1 each kind has one candidate.
        return (self.top, (self.top + 1) // 2, *([(self.top + 2) // 3] if self.monarch else []))

    def does(self, step: str) -> bool:
        """Whether a step is taken."""
        return step not in self.without

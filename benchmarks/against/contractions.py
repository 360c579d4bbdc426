"""The equivalent computations of one TT layer that every column may choose from: contraction orders, merged cores.

Pure: shapes in, shapes out. Merging adjacent cores offline gives another TT shape of the same matrix; where ranks are
large beside the factors it has fewer FLOPs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrf_dse.codegen import Stage, contraction_orders, stages_of
from lrf_dse.codegen.stages import core_merges, merge_cores, merged_shapes, stage_matrix
from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import Core

NEARLY = 1.1
"""Another order of the cores as they are is tried too if it has at most so many times the FLOPs."""


@dataclass(frozen=True)
class Contraction:
    """One way to compute a layer: `merges` cores multiplied into each one, then contracted in `order`."""

    shape: TTShape
    merges: tuple[int, ...]
    order: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        """Short text for tables: "2,1,0", or "merged 2+1, 1,0" where the first two of three cores are one."""
        merged = f"merged {'+'.join(map(str, self.merges))}, " if max(self.merges) > 1 else ""
        return merged + "order " + ",".join(map(str, self.order))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in the order they are executed."""
        return stages_of(merged_shapes(self.shape.core_shapes, self.merges), self.order, batch=self.batch)

    @property
    def flops(self) -> int:
        """2 per multiply-add, of all rows of the batch."""
        return sum(stage.count.flops for stage in self.stages)

    @property
    def from_an_end(self) -> bool:
        """Whether it goes from one end of the train to the other."""
        return list(self.order) in (sorted(self.order), sorted(self.order, reverse=True))

    def cores(self, cores: Sequence[Core]) -> list[Core]:
        """The layer's `cores` merged as this contraction wants them."""
        return merge_cores(cores, self.merges)

    def matrices(self, cores: Sequence[Core]) -> list[Core]:
        """A [R, K] of every stage, from the layer's `cores`."""
        merged = self.cores(cores)
        return [stage_matrix(merged[stage.core], stage.side) for stage in self.stages]


def contractions(shape: TTShape, batch: int, *, from_an_end: bool = False) -> tuple[Contraction, ...]:
    """The one with the fewest FLOPs, and the cores as they are in their best order and those near it.

    All cores merged would be the dense layer, which has a column of its own.
    """
    every = [
        Contraction(shape, merges, order, batch)
        for merges in core_merges(shape.d)
        for order in contraction_orders(len(merges))
    ]
    ranked = sorted((way for way in every if way.from_an_end or not from_an_end), key=lambda way: way.flops)
    plain = [way for way in ranked if max(way.merges) == 1]
    near = [way for way in plain if way.flops <= NEARLY * plain[0].flops]
    fewest = ranked[:1] if ranked[0].flops < plain[0].flops else []
    return (*fewest, *near)

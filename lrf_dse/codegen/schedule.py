"""How a kernel computes its layer: everything a tuner may vary, as one frozen value.

Owns the names and the checks. `lrf_dse.codegen.choice` picks schedules, `lrf_dse.codegen.closed_form` predicts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from lrf_dse.codegen.spec import CoreShape, KernelSpec
from lrf_dse.codegen.stages import Stage, merged_shapes, stages_of

VectorAxis = Literal["columns", "rows", "stream", "short"]
"""What lies in a vector: neighbouring columns of the state (scalars come from the packed A), or neighbouring rows of
the packed A (scalars come from the state). `stream` is rows for a state of one column, where every weight is used once:
all panels pass by as one stream, widened in registers where they are stored in few bits. `short` is a stream of few
terms whose products are in single precision, where half precision is there to widen."""

STREAMS = ("stream", "short")
"""The axes that take every weight once."""

# RVV has fractional LMUL as well; sums of fp32 never take less than a register.
LMULS = (1, 2, 4, 8)
CHAINS = (1, 2, 4)
"""Sums that take turns in a stream: a multiply-add waits for the one before it in the same sum."""


@dataclass(frozen=True)
class StageSchedule:
    """One stage: the vector axis, registers per vector (LMUL), and vectors that are summed up at a time (`block`).

    `k_slices` is into how many parts the sum over K is cut, so that one part of the operands stays in a near cache.
    With vectors along rows, all of the state passes by for `panels` panels of A at a time, and these for each block of
    the state: one stays in the first cache, several in the second, and their results are stored one after the other.
    Of a stream, `block` is the number of sums that take turns. `in_half`: with vectors along rows, weights in few bits
    are made half precision, not single, and multiplied in it.
    """

    vector: VectorAxis
    lmul: int
    block: int
    k_slices: int = 1
    panels: int = 1
    in_half: bool = False

    def __post_init__(self) -> None:
        if self.lmul not in LMULS or min(self.block, self.k_slices, self.panels) < 1:
            raise ValueError(f"lmul must be one of {LMULS}, block, k_slices and panels >= 1: {self}")
        # Only vectors along rows read a block of the state again for the next panel.
        if self.panels > 1 and self.vector != "rows":
            raise ValueError(f"all panels pass by for every vector of columns, and in a stream: {self}")
        if self.vector in STREAMS and (self.k_slices > 1 or self.block not in CHAINS):
            raise ValueError(f"a stream has no slices, and block one of {CHAINS}: {self}")
        if self.in_half and self.vector != "rows":
            raise ValueError(f"panels are in half precision with vectors along rows alone: {self}")

    def __str__(self) -> str:
        cut = f" k/{self.k_slices}" if self.k_slices > 1 else ""
        together = f" p{self.panels}" if self.panels > 1 else ""
        return f"{self.vector} m{self.lmul} x{self.block}{cut}{together}" + (" half" if self.in_half else "")


@dataclass(frozen=True)
class KernelSchedule:
    """A whole kernel. `lanes` is the number of floats in a vector register (1: plain C, no vector unit).

    `merges` holds how many neighbouring cores are multiplied into each core that is contracted, `order` the
    contraction order of these. The first `fused` stages run together over `slices` parts of their leading index, so
    that what lies between them stays in a near cache; the last two stages run together over `rank_slices` parts of the
    rank between them (only where the last one grows to the left). With `half`, the chip computes in half precision
    (Zvfh): streams of weights in few bits multiply in it, and sum up in single precision.

    With `copied`, weights in few bits are widened once, when the program loads, into a copy in RAM, and every stage
    reads that copy as it reads weights in fp32: fewer cycles where a weight is used often, four bytes for each weight.
    """

    order: tuple[int, ...]
    merges: tuple[int, ...]
    lanes: int
    stages: tuple[StageSchedule, ...]
    fused: int = 1
    slices: int = 1
    rank_slices: int = 1
    vlen_agnostic: bool = False
    half: bool = False
    copied: bool = False

    def __post_init__(self) -> None:
        # A copy is made of the cores as they are stored, at load; products of cores would have to be computed there.
        if self.copied and (self.half or max(self.merges) > 1):
            raise ValueError(f"a copy is in single precision, and of the cores as they are stored: {self}")
        if not len(self.order) == len(self.merges) == len(self.stages):
            raise ValueError(f"order, merges and stages must have the same length: {self}")
        if min(self.lanes, self.slices, self.rank_slices) < 1 or not 1 <= self.fused <= len(self.stages):
            raise ValueError(f"lanes, slices and fused must be >= 1, fused at most the number of stages: {self}")

    def __str__(self) -> str:
        parts = [f"order {','.join(map(str, self.order))}"]
        parts += [f"merged {','.join(map(str, self.merges))}"] if max(self.merges) > 1 else []
        parts += [" | ".join(map(str, self.stages))]
        parts += [f"first {self.fused} over {self.slices} slices"] if self.slices > 1 else []
        parts += [f"last 2 over {self.rank_slices} rank slices"] if self.rank_slices > 1 else []
        parts += ["half precision products"] if self.half else []
        parts += ["weights widened at load"] if self.copied else []
        return "; ".join([*parts, f"{self.lanes} lanes" + (" or more" if self.vlen_agnostic else "")])


def computed_spec(spec: KernelSpec, schedule: KernelSchedule) -> KernelSpec:
    """What the stages of a kernel read: weights in fp32 where `schedule` widens them at load, else those of `spec`."""
    return replace(spec, storages=()) if schedule.copied else spec


def kernel_stages(spec: KernelSpec, schedule: KernelSchedule) -> tuple[Stage, ...]:
    """The stages that `schedule` runs, in order. Raises ValueError if it does not fit `spec`."""
    if spec.few_bits and max(schedule.merges) > 1:
        raise ValueError("cores stored in few bits cannot be multiplied together")
    return _stages(spec.core_shapes, schedule.merges, schedule.order, spec.batch)


@lru_cache(maxsize=1024)
def _stages(
    shapes: tuple[CoreShape, ...], merges: tuple[int, ...], order: tuple[int, ...], batch: int
) -> tuple[Stage, ...]:
    """Schedules of a kernel are ranked by the hundred, and few differ in this."""
    return stages_of(merged_shapes(shapes, merges), order, batch=batch)


def scheduled_stages(spec: KernelSpec, schedule: KernelSchedule) -> Iterator[tuple[Stage, StageSchedule]]:
    """The stages with how each is computed."""
    return zip(kernel_stages(spec, schedule), schedule.stages, strict=True)

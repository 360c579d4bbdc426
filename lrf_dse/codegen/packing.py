"""The packed weights of a kernel: one float32 array in the order in which the kernel reads it.

Owns the format, which the vector and the scalar emitter share. Stage after stage, each from a multiple of 64 bytes:

    for every slice of K:  for every panel of rows:  for every k of the slice:  the panel's rows, zeros up to its width

The bias [out_features] in the order of y comes last. Where the last two stages run together over slices of the rank r
between them, a slice of K holds k = n r + rho for every n and for the slice's rho, in this order; else slices follow
each other in k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen.schedule import KernelSchedule, StageSchedule, kernel_stages, scheduled_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import merge_cores, merged_shapes, stage_matrix

ALIGNED_FLOATS = 16
"""64 bytes: a cache line, and what every buffer of a kernel is aligned to."""


@dataclass(frozen=True)
class Panel:
    """Rows `row`..`row + rows` of A, stored as `width` floats for each k."""

    row: int
    rows: int
    width: int


@dataclass(frozen=True)
class PackedStage:
    """Where A [R, K] of one stage lies: `offset` in floats, and its panels, each `slices` times.

    Slice s holds `k_outer` runs of `k_inner` neighbouring k: run o starts at k = s k_inner + o k_step.
    """

    offset: int
    panels: tuple[Panel, ...]
    slices: int
    k_outer: int
    k_inner: int
    k_step: int

    @cached_property
    def slice_k(self) -> int:
        """Terms of the sum in one slice."""
        return self.k_outer * self.k_inner

    @cached_property
    def width(self) -> int:
        """Floats of all panels for one k."""
        return sum(panel.width for panel in self.panels)

    @cached_property
    def floats(self) -> int:
        """Floats of the whole stage."""
        return self.slices * self.slice_k * self.width


@dataclass(frozen=True)
class PackedWeights:
    """The layout of all packed weights; `bias` is its offset in floats, None without a bias."""

    stages: tuple[PackedStage, ...]
    bias: int | None
    floats: int


def packed_weights(spec: KernelSpec, schedule: KernelSchedule) -> PackedWeights:
    """Where every weight lies."""
    stages: list[PackedStage] = []
    offset, last = 0, len(schedule.stages) - 1
    before = kernel_stages(spec, schedule)[0]
    for number, (stage, how) in enumerate(scheduled_stages(spec, schedule)):
        row_slices = schedule.rank_slices if number == last - 1 else 1
        slices, k_outer, k_step = how.k_slices, 1, 0
        if schedule.rank_slices > 1 and number == last:
            _require(
                stage.side == "left" and before.side != "right" and before.core == stage.core + 1 and how.k_slices == 1,
                "rank slices need two last stages that grow to the left, and no other slices of K",
            )
            *_, k_outer, k_step = merged_shapes(spec.core_shapes, schedule.merges)[stage.core]
            slices = schedule.rank_slices
        _require(stage.count.rows % row_slices == 0, f"{stage.count.rows} rows are not {row_slices} equal slices")
        _require(stage.count.k % (slices * k_outer) == 0, f"K = {stage.count.k} is not {slices} equal slices")
        k_inner = stage.count.k // (slices * k_outer)
        panels = _panels(stage.count.rows, row_slices, how, schedule.lanes)
        stages.append(PackedStage(offset, panels, slices, k_outer, k_inner, k_step))
        offset, before = _aligned(offset + stages[-1].floats), stage
    bias = offset if spec.has_bias else None
    return PackedWeights(tuple(stages), bias, _aligned(offset + spec.out_features * spec.has_bias))


def pack(
    weights: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    spec: KernelSpec,
    schedule: KernelSchedule,
) -> NDArray[np.float32]:
    """The packed weights [floats] of `weights`: the cores [r, m, n, r'], or a dense W [out, in].

    Raises ValueError where shapes or the presence of a bias do not fit `spec`.
    """
    cores = [weights[None, :, :, None]] if isinstance(weights, np.ndarray) else list(weights)
    _require(tuple(core.shape for core in cores) == spec.core_shapes, "weights do not have the shapes of the kernel")
    _require((bias is None) != spec.has_bias, "a kernel with a bias needs one, and one without must not get one")
    layout = packed_weights(spec, schedule)
    packed = np.zeros(layout.floats, dtype=np.float32)
    merged = merge_cores(cores, schedule.merges)
    for stage, where in zip(kernel_stages(spec, schedule), layout.stages, strict=True):
        matrix = stage_matrix(merged[stage.core], stage.side)
        packed[where.offset : where.offset + where.floats] = _packed(matrix, where)
    if bias is not None and layout.bias is not None:
        packed[layout.bias : layout.bias + bias.size] = bias
    return packed


def _packed(matrix: NDArray[np.float32], where: PackedStage) -> NDArray[np.float32]:
    """A [R, K] in the order of `where`."""
    parts = []
    for number in range(where.slices):
        starts = number * where.k_inner + where.k_step * np.arange(where.k_outer)
        ks = (starts[:, None] + np.arange(where.k_inner)).ravel()
        for panel in where.panels:
            block = np.zeros((where.slice_k, panel.width), dtype=np.float32)
            block[:, : panel.rows] = matrix[panel.row : panel.row + panel.rows, ks].T
            parts.append(block.ravel())
    return np.concatenate(parts)


@lru_cache(maxsize=4096)
def _panels(rows: int, slices: int, how: StageSchedule, lanes: int) -> tuple[Panel, ...]:
    """The panels of every slice of the rows: of scalars, or of vectors."""
    each = rows // slices
    sizes = blocks(each, how.block) if how.vector == "columns" else vectors(each, how.lmul, lanes)
    panels = []
    for first in range(0, rows, each):
        row = first
        for size in sizes:
            count = min(size, first + each - row)
            panels.append(Panel(row, count, size))
            row += count
    return tuple(panels)


def blocks(total: int, most: int) -> tuple[int, ...]:
    """`total` as the fewest parts of at most `most`, as equal as can be, larger ones first.

    >>> blocks(16, 6)
    (6, 5, 5)
    """
    count = -(-total // most)
    return tuple(total // count + (part < total % count) for part in range(count))


def vectors(total: int, lmul: int, lanes: int) -> tuple[int, ...]:
    """The widths of the vectors that cover `total` floats: full ones of `lmul` registers, then smaller ones.

    The cost of an instruction does not depend on how much of its vector is used, so what is left over takes the
    registers it needs: at 8 lanes and M4, 20 are M2 and M1, 25 (three registers and a little more) are one M4.

    >>> vectors(84, 4, 8), vectors(57, 4, 8)
    ((32, 32, 16, 8), (32, 32))
    """
    full, rest = divmod(total, lmul * lanes)
    widths = [lmul * lanes] * full
    registers = -(-rest // lanes)
    part = lmul
    while registers:
        # Three of four registers as M2 + M1 take as many cycles and more instructions than they save.
        if registers >= part or registers > part // 2 + part // 4:
            widths.append(part * lanes)
            registers -= min(registers, part)
        else:
            part //= 2
    return tuple(widths)


def _aligned(floats: int) -> int:
    return -(-floats // ALIGNED_FLOATS) * ALIGNED_FLOATS


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)

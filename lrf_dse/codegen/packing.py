"""The packed weights of a kernel: one array in the order in which the kernel reads it.

Owns the format, which the vector and the scalar emitter share. Stage after stage, each from a multiple of 64 bytes:

    for every block:  for every slice of K:  for every panel of rows:  the panel (lrf_dse/codegen/storage.py)

Panels of fp32 lie k by k.

The array is one of 32-bit words: fp32 values where weights are stored so, else what their storage makes of them. The
bias [out_features] in the order of y comes last. Where the last two stages run together over slices of the rank r
between them, a slice of K holds k = n r + rho for every n and for the slice's rho, in this order; else slices follow
each other in k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen.schedule import STREAMS, KernelSchedule, StageSchedule, kernel_stages, scheduled_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import Stage, merge_cores, merged_shapes, stage_matrix
from lrf_dse.codegen.storage import Bytes, groups_of, panel_bytes, panel_of
from lrf_dse.schema import Storage
from lrf_dse.tt.grid import GROUP, Stored

ALIGNED_FLOATS = 16
"""64 bytes: a cache line, and what every buffer of a kernel is aligned to."""


class Panel(NamedTuple):  # made by the thousand while schedules are ranked
    """Rows `row`..`row + rows` of A, stored as `width` floats for each k."""

    row: int
    rows: int
    width: int


@dataclass(frozen=True)
class PackedStage:
    """Where A [R, K] of one stage lies: `offset` in floats, and its panels, each `slices` times.

    Slice s holds `k_outer` runs of `k_inner` neighbouring k: run o starts at k = s k_inner + o k_step. `by_rows` is the
    order of the panels' elements, never in fp32. `blocks` of A follow each other, all laid out alike.
    """

    offset: int
    panels: tuple[Panel, ...]
    slices: int
    k_outer: int
    k_inner: int
    k_step: int
    storage: Storage = "fp32"
    by_rows: bool = False
    blocks: int = 1

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
        """Words of the whole stage, as many bytes as so many floats have."""
        return self.blocks * self.block_words

    @cached_property
    def block_words(self) -> int:
        """Words of one block."""
        return self.slices * self.words(self.panels)

    def words(self, panels: Sequence[Panel]) -> int:
        """Words of `panels` in one slice of K."""
        widths = Counter([panel.width for panel in panels])  # a few widths, but up to thousands of panels
        # Panels end at multiples of four bytes, so no word is cut.
        return sum(count * self.panel_bytes(width) for width, count in widths.items()) // 4

    def panel_bytes(self, width: int) -> int:
        """Bytes of a panel of this width in one slice of K."""
        return panel_bytes(self.storage, self.slice_k, width, by_rows=self.by_rows)


@dataclass(frozen=True)
class PackedWeights:
    """The layout of all packed weights; `bias` is its offset in floats, None without a bias."""

    stages: tuple[PackedStage, ...]
    bias: int | None
    floats: int


def packed_weights(spec: KernelSpec, schedule: KernelSchedule) -> PackedWeights:
    """Where every weight of `spec` lies: as it is stored, whether `schedule` reads it there or widens it at load."""
    stages: list[PackedStage] = []
    offset, last = 0, len(schedule.stages) - 1
    # The stage before this one in the loop; the first value is never looked at by a stage that needs it.
    before = kernel_stages(spec, schedule)[0]
    for number, (stage, how) in enumerate(scheduled_stages(spec, schedule)):
        row_slices = schedule.rank_slices if number == last - 1 else 1
        slices, k_outer, k_step = how.k_slices, 1, 0
        if schedule.rank_slices > 1 and number == last:
            _require(
                stage.side == "left" and before.side != "right" and before.core == stage.core + 1 and how.k_slices == 1,
                "rank slices need two last stages that grow to the left, and no other slices of K",
            )
            # Growing to the left, the stage before has rows (r m), the rank outermost, and this one sums over (n r): a
            # slice of the rank is a run of rows there, and n runs of neighbouring terms here.
            *_, k_outer, k_step = merged_shapes(spec.core_shapes, schedule.merges)[stage.core]
            slices = schedule.rank_slices
        _require(stage.count.rows % row_slices == 0, f"{stage.count.rows} rows are not {row_slices} equal slices")
        _require(stage.count.k % (slices * k_outer) == 0, f"K = {stage.count.k} is not {slices} equal slices")
        k_inner = stage.count.k // (slices * k_outer)
        panels = _panels(stage.count.rows, row_slices, how, schedule.lanes)
        storage = spec.core_storages[stage.core] if spec.few_bits else "fp32"
        groups = len(groups_of(stage.count.k))
        _require(
            storage != "int4" or slices == 1 or (k_outer == 1 and k_inner % GROUP == 0),
            f"slices of K cut the {groups} groups of int4",
        )
        # What is widened at load is in the order of fp32, in which it is read then.
        by_rows = storage != "fp32" and how.vector == "columns" and not schedule.copied
        blocks = stage.count.blocks
        stages.append(PackedStage(offset, panels, slices, k_outer, k_inner, k_step, storage, by_rows, blocks))
        offset, before = _aligned(offset + stages[-1].floats), stage
    bias = offset if spec.has_bias else None
    return PackedWeights(tuple(stages), bias, _aligned(offset + spec.out_features * spec.has_bias))


def pack(
    weights: Sequence[NDArray[np.float32] | Stored] | NDArray[np.float32] | Stored,
    bias: NDArray[np.float32] | None,
    spec: KernelSpec,
    schedule: KernelSchedule,
) -> NDArray[np.float32]:
    """The packed weights [words] of `weights`: the cores [r, m, n, r'], or a dense W [out, in].

    Where `spec` stores a core in few bits, the matrix [R, K] of its stage stands for it, as it is stored. Raises
    ValueError where shapes, storages or the presence of a bias do not fit `spec`.
    """
    given = [weights] if isinstance(weights, np.ndarray | Stored) else list(weights)
    if isinstance(weights, np.ndarray):
        # A dense W is the one core [1, M, N, 1].
        given = [weights[None, :, :, None]]
    _require((bias is None) != spec.has_bias, "a kernel with a bias needs one, and one without must not get one")
    layout = packed_weights(spec, schedule)
    # Gaps up to the next line stay 0: equal weights always give equal bytes.
    packed = np.zeros(layout.floats, dtype=np.float32)
    words = packed.view(np.uint8)
    stages = kernel_stages(spec, schedule)
    for where, stored in zip(layout.stages, _matrices(given, spec, schedule, stages), strict=True):
        words[4 * where.offset : 4 * (where.offset + where.floats)] = _packed(stored, where)
    if bias is not None and layout.bias is not None:
        packed[layout.bias : layout.bias + bias.size] = bias
    return packed


def _matrices(
    given: Sequence[NDArray[np.float32] | Stored],
    spec: KernelSpec,
    schedule: KernelSchedule,
    stages: Sequence[Stage],
) -> list[Stored]:
    """The matrix of every stage, as it is stored."""
    storages = tuple(core.storage if isinstance(core, Stored) else "fp32" for core in given)
    _require(storages == spec.core_storages, f"a kernel of {spec.core_storages} cores got {storages}")
    shapes = tuple(
        shape if isinstance(core, Stored) else core.shape for core, shape in zip(given, spec.core_shapes, strict=True)
    )
    _require(shapes == spec.core_shapes, "weights do not have the shapes of the kernel")
    if not spec.few_bits:
        merged = merge_cores([core for core in given if not isinstance(core, Stored)], schedule.merges)
        return [Stored("fp32", stage_matrix(merged[stage.core], stage.side)) for stage in stages]
    matrices = []
    for stage in stages:
        core = given[stage.core]
        stored = core if isinstance(core, Stored) else Stored("fp32", stage_matrix(core, stage.side))
        _require(
            stored.codes.shape == (stage.count.blocks * stage.count.rows, stage.count.k),
            f"core {stage.core + 1} is stored as {stored.codes.shape}, its stage takes "
            f"{(stage.count.blocks * stage.count.rows, stage.count.k)}",
        )
        matrices.append(stored)
    return matrices


def _packed(stored: Stored, where: PackedStage) -> Bytes:
    """A [R, K], or all blocks of A below each other, in the order of `where`."""
    parts = []
    each = len(stored.codes) // where.blocks
    for block, number in product(range(where.blocks), range(where.slices)):
        # Run o of slice s begins at s k_inner + o k_step (PackedStage).
        starts = number * where.k_inner + where.k_step * np.arange(where.k_outer)
        ks = (starts[:, None] + np.arange(where.k_inner)).ravel()
        for panel in where.panels:
            first = block * each + panel.row
            rows = slice(first, first + panel.rows)
            parts.append(panel_of(stored, rows, ks, panel.width, by_rows=where.by_rows))
    return np.concatenate(parts)


@lru_cache(maxsize=4096)
def _panels(rows: int, slices: int, how: StageSchedule, lanes: int) -> tuple[Panel, ...]:
    """The panels of every slice of the rows: of scalars, or of vectors."""
    # Panels never cross from one slice of the rank into the next.
    each = rows // slices
    if how.vector == "columns":
        sizes = blocks(each, how.block)
    else:
        sizes = (stream_widths if how.vector in STREAMS else vectors)(each, how.lmul, lanes)
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
        # Seven of eight registers as M4 + M2 + M1 would take as many cycles in more instructions.
        if registers >= part or registers > part // 2 + part // 4:
            widths.append(part * lanes)
            registers -= min(registers, part)
        else:
            part //= 2
    return tuple(widths)


def stream_widths(total: int, lmul: int, lanes: int) -> tuple[int, ...]:
    """The widths of a stream's panels: full ones, then one of the registers that are left, of any number.

    A panel passes by once: half of it would take as many loads and scalars.

    >>> stream_widths(57, 4, 8)
    (32, 32)
    """
    full, rest = divmod(total, lmul * lanes)
    return (lmul * lanes,) * full + ((-(-rest // lanes) * lanes,) if rest else ())


def _aligned(floats: int) -> int:
    return -(-floats // ALIGNED_FLOATS) * ALIGNED_FLOATS


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)

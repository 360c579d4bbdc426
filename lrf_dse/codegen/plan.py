"""A schedule made concrete: what each stage reads and writes, part by part, and where states lie in the scratch buffer.

Owns sizes and offsets, for one call of a stage within its slices; `lrf_dse.codegen.loops` writes them as C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lrf_dse.codegen.packing import ALIGNED_FLOATS, PackedStage, PackedWeights, Panel, packed_weights
from lrf_dse.codegen.schedule import STREAMS, KernelSchedule, StageSchedule, computed_spec, scheduled_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.storage import groups_of
from lrf_dse.codegen.tile import Finish
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.schema import Storage
from lrf_dse.tt.grid import GROUP

WORK_HEAD = 16
"""Floats before the state in half precision: the factor of the results, what is taken off all sums."""


MOST_IN_HALF = 4
"""Registers of sums at most where a panel of codes is made half precision."""

MOST_SHORT = 160
"""Terms of a short stream at most: they are written one after the other."""

FEW_ELEMENTS = 24
"""A state of at most so many elements stays in scalar registers for all panels of a stream."""


def work_floats(k: int) -> int:
    """Floats of what a stream in half precision makes of its state: the head, a sum for each group, the state."""
    return WORK_HEAD + _aligned(len(groups_of(k))) + padded(k) // 2


def padded(k: int) -> int:
    """The elements of a state in half precision, with zeros up to whole vectors of any length that there is."""
    return -(-k // (4 * GROUP)) * 4 * GROUP


@dataclass(frozen=True)
class StagePlan:
    """One call of a stage: S' [batches, rows, columns] = A [rows, k] S [batches, k, columns], all contiguous.

    `number` counts from 1. `panels` are those of one call. `k_slices` are cut within the call, of `k` terms each;
    `partial` is whether a result is summed up over several slices of K, within the call or over several. `bias_batches`
    is the number of batches after which the bias starts again. `groups` workgroups share a call. Products of weights in
    few bits go through half precision with `half`. Of a block-diagonal factor a call is one block and one of `repeats`
    rows of x; threads share the `blocks`.
    """

    number: int
    how: StageSchedule
    batches: int
    rows: int
    k: int
    columns: int
    k_slices: int
    panels: tuple[Panel, ...]
    partial: bool
    called_in_slices: bool
    bias_batches: int
    finish: Finish | None
    packed: PackedStage
    groups: int = 1
    half: bool = False
    by_row: bool = False
    blocks: int = 1
    repeats: int = 1

    @property
    def storage(self) -> Storage:
        """How A is stored."""
        return self.packed.storage

    @property
    def is_stream(self) -> bool:
        """Whether weights are widened in registers, each for its only use, if they are not fp32."""
        return self.how.vector in STREAMS

    @property
    def row_pitch(self) -> int:
        """Floats from one row to the next of a panel that lies row by row, once it is widened.

        An odd number of lines: rows a power of two apart would push each other out of the first cache.
        """
        lines = -(-self.k // ALIGNED_FLOATS)
        return ALIGNED_FLOATS * (lines + 1 - lines % 2)

    @property
    def is_short(self) -> bool:
        """Whether the stream multiplies in single precision and half precision only widens."""
        return self.how.vector == "short"

    @property
    def in_half(self) -> bool:
        """Whether tiles multiply in half precision: the state is rounded to it, and panels are."""
        return self.how.in_half and self.half and self.storage != "fp32"

    @property
    def work_floats(self) -> int:
        """Floats that a workgroup needs while it computes: widened panels, or what products in half need of a state."""
        if self.storage == "fp32":
            return 0
        if self.in_half:
            panels = 0 if self.storage == "fp16" else self.k * self.how.panels * max(p.width for p in self.panels)
            return work_floats(self.in_floats) + panels // 2
        if self.is_stream:
            return work_floats(self.k) if self.half and not self.is_short else 0
        if self.packed.by_rows:
            return self.row_pitch * max(panel.width for panel in self.panels)
        return self.k * self.how.panels * max(panel.width for panel in self.panels)

    @property
    def has_bias(self) -> bool:
        """Whether this stage adds the bias."""
        return self.finish is not None and self.finish.has_bias

    @cached_property
    def slice_floats(self) -> int:
        """Words of the packed weights from one call's to those of the next slice of the rank."""
        return self.packed.words(self.panels)

    @property
    def in_step(self) -> int:
        """Floats of S for one batch."""
        return self.k * self.k_slices * self.columns

    @property
    def out_step(self) -> int:
        """Floats of S' for one batch."""
        return self.rows * self.columns

    @property
    def bias_step(self) -> int:
        """Floats of the bias from one batch to the next of a period."""
        return self.out_step if self.bias_batches > 1 else 0

    @property
    def in_floats(self) -> int:
        """Floats of S."""
        return self.batches * self.in_step

    @property
    def out_floats(self) -> int:
        """Floats of S'."""
        return self.batches * self.out_step


@dataclass(frozen=True)
class KernelPlan:
    """All stages, where each but the last one stores its state (`states`: offsets in floats), and the scratch size.

    `work` is where in the scratch the working space of the workgroups begins, each of `work_floats`. `slices` are those
    of the first `fused` stages; the last two are called `rank_slices` times each. Of a Monarch matrix `moved` is where
    what a block gives lies before it is moved to its places in the state.
    """

    stages: tuple[StagePlan, ...]
    states: tuple[int, ...]
    scratch_floats: int
    fused: int
    slices: int
    rank_slices: int
    bias: int | None
    weight_bytes: int
    work: int
    work_floats: int
    moved: Moved | None = None


@dataclass(frozen=True)
class Moved:
    """What one block gives, [m_1, r] at `offset` for each of the `threads`, goes to the state [m_1, n_1, r]."""

    offset: int
    threads: int
    runs: int
    run: int
    blocks: int

    @property
    def floats(self) -> int:
        """Floats that one block gives, up to whole lines."""
        return _aligned(self.runs * self.run)


def kernel_plan(spec: KernelSpec, schedule: KernelSchedule) -> KernelPlan:
    """The plan of `schedule`, reading the copy in RAM where there is one.

    Raises ValueError if slices do not divide what they cut.
    """
    if spec.shape is not None and spec.shape.is_monarch and max(schedule.slices, schedule.rank_slices) > 1:
        raise ValueError("the stages of a Monarch matrix do not run in slices")
    spec = computed_spec(spec, schedule)
    layout = packed_weights(spec, schedule)
    stages = stage_plans(spec, schedule, layout)
    states, scratch = _states(stages, schedule)
    cuts = schedule.fused, schedule.slices, schedule.rank_slices
    # The scratch buffer: states, then the working space of each thread, then the buffers of moved axes.
    work, each = _aligned(scratch), _aligned(max(stage.work_floats for stage in stages))
    scratch = work + spec.threads * each if each else scratch
    moved = _moved(spec, scratch)
    scratch = scratch if moved is None else _aligned(scratch) + moved.threads * moved.floats
    size = FP32_BYTES * layout.floats
    plan = KernelPlan(tuple(stages), states, scratch, *cuts, layout.bias, size, work, each, moved)
    _check(plan, spec)
    return plan


def stage_plans(spec: KernelSpec, schedule: KernelSchedule, layout: PackedWeights) -> list[StagePlan]:
    """The stages of `schedule`, with weights of `spec` that lie as `layout` says. Raises ValueError."""
    last = len(schedule.stages) - 1
    stages = []
    finish = Finish(spec.has_bias, spec.activation) if spec.has_bias or spec.activation else None
    for number, (stage, how) in enumerate(scheduled_stages(spec, schedule)):
        slices = schedule.slices if number < schedule.fused else 1
        packed, count = layout.stages[number], stage.at_once
        if count.batches % slices:
            raise ValueError(f"{count.batches} batches of stage {number + 1} are not {slices} equal slices")
        row_slices = schedule.rank_slices if number == last - 1 else 1
        in_rank_slices = number == last and schedule.rank_slices > 1
        stages.append(
            StagePlan(
                number=number + 1,
                how=how,
                batches=count.batches // slices,
                rows=count.rows // row_slices,
                k=packed.slice_k,
                columns=count.columns,
                k_slices=1 if in_rank_slices else how.k_slices,
                panels=packed.panels[: len(packed.panels) // row_slices],
                partial=packed.slices > 1,
                called_in_slices=in_rank_slices,
                bias_batches=max(1, count.batches // spec.batch),
                finish=finish if number == last else None,
                packed=packed,
                groups=1 if stage.by_row else spec.threads,
                half=schedule.half,
                by_row=stage.by_row,
                blocks=stage.count.blocks,
                repeats=spec.batch if stage.by_row else 1,
            )
        )
    return stages


def _moved(spec: KernelSpec, scratch: int) -> Moved | None:
    """How the axes move between the stages of a Monarch matrix; None where they lie as they should."""
    if spec.shape is None or not spec.shape.is_monarch:
        return None
    m1, n1 = spec.shape.out_dims[0], spec.shape.in_dims[0]
    # With m_1 = 1 or n_1 = 1 both orders of the axes are the same bytes.
    return Moved(_aligned(scratch), spec.threads, m1, spec.shape.ranks[1], n1) if min(m1, n1) > 1 else None


def _check(plan: KernelPlan, spec: KernelSpec) -> None:
    count = len(plan.stages)
    if plan.rank_slices > 1 and plan.slices > 1 and plan.fused == count - 1:
        raise ValueError("the last but one stage cannot be the last of fused ones and in slices of the rank")
    if plan.slices > 1 and plan.fused == count and spec.batch % plan.slices:
        raise ValueError(f"all stages together cannot run over {plan.slices} slices of {spec.batch} rows")
    for stage in plan.stages:
        # A stream takes each weight once: with more than one column or batch it would have to read them again.
        if stage.is_stream and (stage.batches * stage.columns > 1 or stage.partial):
            raise ValueError(f"stage {stage.number} is no stream: {stage.batches} batches of {stage.columns} columns")
        if stage.is_short and not (stage.half and stage.storage != "fp32" and stage.k <= MOST_SHORT):
            raise ValueError(f"stage {stage.number} is no short stream: {stage.k} terms of {stage.storage}")
        if stage.in_half and stage.how.lmul > MOST_IN_HALF:
            raise ValueError(f"stage {stage.number}: vectors of {stage.how.lmul} registers are not widened to half")
    if spec.threads > 1 and (plan.slices > 1 or plan.rank_slices > 1):
        raise ValueError("stages that several threads share do not run in slices")


def _states(stages: Sequence[StagePlan], schedule: KernelSchedule) -> tuple[tuple[int, ...], int]:
    """Where each stage but the last stores, first fit: a state lives from its first store to its last load."""
    placed: list[tuple[int, int, int, int]] = []
    for number, stage in enumerate(stages[:-1]):
        # The state that leaves the slices grows part by part, so its place is taken from the first slice on. The states
        # inside stay until the last fused stage: the next slice starts with the first stage again.
        leaves = number == schedule.fused - 1 and schedule.slices > 1
        size = stage.out_floats * stage.blocks * stage.repeats * (schedule.slices if leaves else 1)
        born = 0 if leaves else number
        dies = number + 1 if leaves or number >= schedule.fused or schedule.slices == 1 else schedule.fused - 1
        offset = 0
        # First fit by offset; only states that live at the same time keep each other away.
        for start, end, first, after in sorted(placed):
            if born <= after and first <= dies and offset < end and start < offset + size:
                offset = _aligned(end)
        placed.append((offset, offset + size, born, dies))
    return tuple(entry[0] for entry in placed), max((entry[1] for entry in placed), default=0)


def _aligned(floats: int) -> int:
    return -(-floats // ALIGNED_FLOATS) * ALIGNED_FLOATS

"""A schedule made concrete: what each stage reads and writes, part by part, and where states lie in the scratch buffer.

Owns sizes and offsets, for one call of a stage within its slices; `lrf_dse.codegen.loops` writes them as C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lrf_dse.codegen.packing import ALIGNED_FLOATS, PackedStage, Panel, packed_weights
from lrf_dse.codegen.schedule import KernelSchedule, StageSchedule, scheduled_stages
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.tile import Finish


@dataclass(frozen=True)
class StagePlan:
    """One call of a stage: S' [batches, rows, columns] = A [rows, k] S [batches, k, columns], all contiguous.

    `number` counts from 1. `panels` are those of one call. `k_slices` are cut within the call, of `k` terms each;
    `partial` is whether a result is summed up over several slices of K, within the call or over several. `bias_batches`
    is the number of batches after which the bias starts again. `groups` workgroups share a call.
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

    @property
    def has_bias(self) -> bool:
        """Whether this stage adds the bias."""
        return self.finish is not None and self.finish.has_bias

    @cached_property
    def width(self) -> int:
        """Floats of the packed weights of one call for one k."""
        return sum(panel.width for panel in self.panels)

    @property
    def slice_floats(self) -> int:
        """Floats of the packed weights from one call's to those of the next slice of the rank."""
        return self.k * self.width

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

    `slices` are those of the first `fused` stages; the last two are called `rank_slices` times each.
    """

    stages: tuple[StagePlan, ...]
    states: tuple[int, ...]
    scratch_floats: int
    fused: int
    slices: int
    rank_slices: int
    bias: int | None
    weight_floats: int


def kernel_plan(spec: KernelSpec, schedule: KernelSchedule) -> KernelPlan:
    """The plan of `schedule`. Raises ValueError if slices do not divide what they cut."""
    layout = packed_weights(spec, schedule)
    last = len(schedule.stages) - 1
    stages = []
    finish = Finish(spec.has_bias, spec.activation) if spec.has_bias or spec.activation else None
    for number, (stage, how) in enumerate(scheduled_stages(spec, schedule)):
        slices = schedule.slices if number < schedule.fused else 1
        packed, count = layout.stages[number], stage.count
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
                bias_batches=count.batches // spec.batch,
                finish=finish if number == last else None,
                packed=packed,
                groups=spec.threads,
            )
        )
    states, scratch = _states(stages, schedule)
    cuts = schedule.fused, schedule.slices, schedule.rank_slices
    plan = KernelPlan(tuple(stages), states, scratch, *cuts, layout.bias, layout.floats)
    _check(plan, spec)
    return plan


def _check(plan: KernelPlan, spec: KernelSpec) -> None:
    count = len(plan.stages)
    if plan.rank_slices > 1 and plan.slices > 1 and plan.fused == count - 1:
        raise ValueError("the last but one stage cannot be the last of fused ones and in slices of the rank")
    if plan.slices > 1 and plan.fused == count and spec.batch % plan.slices:
        raise ValueError(f"all stages together cannot run over {plan.slices} slices of {spec.batch} rows")
    if spec.threads > 1 and (plan.slices > 1 or plan.rank_slices > 1):
        raise ValueError("stages that several threads share do not run in slices")


def _states(stages: Sequence[StagePlan], schedule: KernelSchedule) -> tuple[tuple[int, ...], int]:
    """Where each stage but the last stores, first fit: a state lives from its first store to its last load."""
    placed: list[tuple[int, int, int, int]] = []
    for number, stage in enumerate(stages[:-1]):
        leaves = number == schedule.fused - 1 and schedule.slices > 1
        size = stage.out_floats * (schedule.slices if leaves else 1)
        born = 0 if leaves else number
        dies = number + 1 if leaves or number >= schedule.fused or schedule.slices == 1 else schedule.fused - 1
        offset = 0
        for start, end, first, after in sorted(placed):
            if born <= after and first <= dies and offset < end and start < offset + size:
                offset = -(-end // ALIGNED_FLOATS) * ALIGNED_FLOATS
        placed.append((offset, offset + size, born, dies))
    return tuple(entry[0] for entry in placed), max((entry[1] for entry in placed), default=0)

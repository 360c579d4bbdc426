"""The schedules that are one step away from another: they are tried where the closed form cannot tell. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lrf_dse.codegen import KernelSchedule, StageSchedule
from lrf_dse.codegen.schedule import CHAINS, LMULS, STREAMS
from lrf_dse.codegen.tile import VECTOR_REGISTERS

_FACTORS = (2, 4)
_BUFFERS = 2
"""Register groups that vectors are loaded into; the others hold sums."""


def neighbours(schedule: KernelSchedule) -> Iterator[KernelSchedule]:
    """Schedules that differ from `schedule` in one choice; not all of them fit its kernel."""
    for number, how in enumerate(schedule.stages):
        for other in _stage_neighbours(how, has_vectors=schedule.lanes > 1):
            stages = (*schedule.stages[:number], other, *schedule.stages[number + 1 :])
            yield replace(schedule, stages=stages)
    for slices in _scaled(schedule.slices):
        # Without slices nothing is fused, so the number of fused stages has no old value to start from: all are tried.
        for fused in range(1, len(schedule.stages) + 1) if schedule.slices == 1 else (schedule.fused,):
            yield replace(schedule, slices=slices, fused=fused)
    for fused in (schedule.fused - 1, schedule.fused + 1):
        if schedule.slices > 1 and 1 <= fused <= len(schedule.stages):
            yield replace(schedule, fused=fused)
    for rank_slices in _scaled(schedule.rank_slices):
        yield replace(schedule, rank_slices=rank_slices)


def _stage_neighbours(how: StageSchedule, *, has_vectors: bool) -> Iterator[StageSchedule]:
    if how.vector in STREAMS:  # no slices, and few numbers of sums
        yield from (replace(how, block=sums) for sums in CHAINS if sums in {how.block * 2, how.block // 2})
        for lmul in LMULS if has_vectors else ():
            if lmul in {how.lmul * 2, how.lmul // 2}:
                yield replace(how, lmul=lmul)
        yield replace(how, vector="rows")
        return
    if has_vectors:
        # Panels and a state in half precision belong to "rows" alone.
        yield replace(how, vector="rows" if how.vector == "columns" else "columns", panels=1, in_half=False)
        yield from (replace(how, in_half=not how.in_half) for _ in range(how.vector == "rows"))
        for panels in _scaled(how.panels) if how.vector == "rows" else ():
            yield replace(how, panels=panels)
        for lmul in LMULS:
            if lmul in {how.lmul * 2, how.lmul // 2}:
                # Keep the sums in as many registers as they are in.
                yield replace(how, lmul=lmul, block=max(1, how.block * how.lmul // lmul))
        for block in (how.block - 1, how.block + 1, how.block // 2):
            if 1 <= block <= VECTOR_REGISTERS // how.lmul - _BUFFERS:
                yield replace(how, block=block)
    for k_slices in _scaled(how.k_slices):
        yield replace(how, k_slices=k_slices)


def _scaled(value: int) -> Iterator[int]:
    for factor in _FACTORS:
        yield value * factor
        if value % factor == 0:
            yield value // factor

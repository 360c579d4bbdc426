"""Neighbours of a schedule: one choice away, and schedules that can be."""

from __future__ import annotations

import pytest

from lrf_dse.codegen import KernelSchedule, StageSchedule
from lrf_dse.codegen.schedule import CHAINS, LMULS
from lrf_dse.tune.neighbours import neighbours

STAGES = [
    *(StageSchedule("stream", lmul, sums) for lmul in LMULS for sums in CHAINS),
    *(StageSchedule(vector, lmul, 4 // lmul or 1) for vector in ("rows", "columns") for lmul in LMULS),
    StageSchedule("rows", 4, 1, panels=3),
    StageSchedule("columns", 1, 5, k_slices=2),
]


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_every_kind_of_stage_has_neighbours(stage: StageSchedule) -> None:
    schedule = KernelSchedule((0,), (1,), 8, (stage,))
    others = list(neighbours(schedule))
    assert others and schedule not in others
    changed = [other for other in others if other.stages != schedule.stages]
    assert changed and all(len(other.stages) == 1 for other in changed)

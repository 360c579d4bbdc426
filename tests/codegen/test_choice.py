"""What the closed form prefers where memory decides."""

from __future__ import annotations

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, default_schedule, predicted_cycles
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target

K1 = load_target("spacemit-k1")


def test_a_merged_core_that_streams_from_memory_passes_by_once() -> None:
    """768 x 3072: a core of 1.2 MB saves a third of the multiply-adds."""
    spec = KernelSpec(TTShape((12, 8, 8), (12, 16, 16), (1, 16, 16, 1)), 768, 3072)
    schedule = default_schedule(spec, K1)
    assert schedule.merges == (2, 1)
    assert schedule.stages[1].vector == "rows" and schedule.stages[1].block >= 8


def test_a_merged_core_that_saves_little_does_not_take_memory() -> None:
    """4096 x 4096: 4.5 MB would save 6 % of the multiply-adds."""
    spec = KernelSpec(TTShape((16, 16, 16), (16, 16, 16), (1, 16, 16, 1)), 4096, 4096)
    assert default_schedule(spec, K1).merges == (1, 1, 1)


def test_rows_that_share_the_sets_of_a_cache_are_foreseen() -> None:
    how = KernelSchedule((0,), (1,), K1.fp32_lanes, (StageSchedule("rows", 2, 10),))
    crowded, apart = (predicted_cycles(KernelSpec(None, 64, width, 10), how, K1) for width in (4096, 4112))
    assert crowded > 5 * apart

"""What the closed form prefers where memory decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

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


def test_sums_that_share_the_sets_of_a_cache_are_written_in_whole_lines() -> None:
    """Of 16 rows 12 KiB apart no line stays until its second half is written: vectors of half a line cost more."""
    spec = KernelSpec(TTShape((3072, 1), (1, 768), (1, 8, 1)), 3072, 768, 16)
    chosen = default_schedule(spec, K1)
    assert 4 * K1.fp32_lanes * chosen.stages[1].lmul >= 64
    halves = replace(chosen, stages=(chosen.stages[0], StageSchedule("rows", 1, 16)))
    assert predicted_cycles(spec, halves, K1) > 1.3 * predicted_cycles(spec, chosen, K1)
    apart = KernelSpec(TTShape((3088, 1), (1, 768), (1, 8, 1)), 3088, 768, 16)
    assert predicted_cycles(apart, halves, K1) < 1.1 * predicted_cycles(apart, chosen, K1)


def test_few_bits_take_few_sums_where_more_rows_share_the_sets_of_a_cache() -> None:
    """16 rows of 3072 numbers: in slices of a row each, all weights would be widened 16 times."""
    spec = KernelSpec(TTShape((768, 1), (1, 3072), (1, 24, 1)), 768, 3072, 16, storages=("int4", "int4"))
    chosen = default_schedule(spec, K1)
    assert chosen.slices == 1 and chosen.stages[0].block < 8


def test_vectors_at_alternating_distances_are_not_prefetched() -> None:
    """A loop of two turns: K = 12 takes longer than K = 16, whose weights are more; a stream is better for all."""
    how = StageSchedule("rows", 2, 1, panels=48)
    cycles = []
    for rank in (8, 12, 16):
        schedule = KernelSchedule((1, 0), (1, 1), K1.fp32_lanes, (StageSchedule("rows", 1, 1), how))
        spec = KernelSpec(TTShape((780, 1), (1, 56), (1, rank, 1)), 780, 56, 1, has_bias=True)
        cycles.append(predicted_cycles(spec, schedule, K1))
        assert default_schedule(spec, K1).stages[1].vector == "stream"
    assert cycles[0] < cycles[2] < cycles[1]


def test_weights_come_from_the_nearest_level_that_holds_them() -> None:
    """SG2044 has three caches: 3 MB stand in the third, 100 MB in memory."""
    target = load_target("sophgo-sg2044")
    how = KernelSchedule((0,), (1,), target.fp32_lanes, (StageSchedule("rows", 4, 1),))
    sizes = (768, 1024), (4096, 6400)
    per_byte = [predicted_cycles(KernelSpec(None, *size), how, target) / (4 * size[0] * size[1]) for size in sizes]
    assert target.timing is not None and target.timing.cache[1].fill_bytes_per_cycle is not None
    assert per_byte[0] < 1.2 / target.timing.cache[1].fill_bytes_per_cycle.value + 0.1
    assert per_byte[1] > 1 / target.timing.dram.bytes_per_cycle.value


def test_loads_of_scalars_and_vectors_share_a_pipe_where_the_chip_has_one() -> None:
    """SG2044 multiplies and adds in two pipes and loads in one: a wide vector feeds them, a narrow one cannot."""
    target = load_target("sophgo-sg2044")
    schedules = [
        KernelSchedule((0,), (1,), 4, (StageSchedule("rows", lmul, block),)) for lmul, block in ((1, 8), (4, 4))
    ]
    narrow, wide = (predicted_cycles(KernelSpec(None, 256, 64, 16), schedule, target) for schedule in schedules)
    assert narrow > 1.5 * wide


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_weights_of_a_batch_are_multiplied_in_half_precision_where_there_is_some(storage) -> None:
    spec = KernelSpec(None, 300, 784, 16, storages=(storage,))
    (stage,) = default_schedule(spec, K1).stages
    assert stage.vector == "rows" and stage.in_half
    (stage,) = default_schedule(spec, load_target("sifive-x280")).stages
    assert not stage.in_half


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_a_tiny_layer_does_not_round_its_state_and_a_large_one_does(storage) -> None:
    tiny, large = (
        KernelSpec(TTShape((m, 1), (1, n), (1, 4, 1)), m, n, storages=(storage,) * 2)
        for m, n in ((32, 64), (1000, 2048))
    )
    assert [stage.vector for stage in default_schedule(tiny, K1).stages] == ["short", "short"]
    assert default_schedule(large, K1).stages[0].vector == "stream"


def test_a_schedule_without_cuts_is_no_better() -> None:
    spec = KernelSpec(TTShape((64, 8), (28, 28), (1, 32, 1)), 512, 784, 1, has_bias=True)
    whole, cut = (default_schedule(spec, K1, cut=cut) for cut in (False, True))
    assert whole.slices == whole.rank_slices == 1
    assert predicted_cycles(spec, cut, K1) <= predicted_cycles(spec, whole, K1)


def test_of_schedules_that_wait_for_memory_the_one_with_more_sums_is_liked() -> None:
    """The second core streams from L2 at any LMUL in the same time; few sums would wait for each other beside it."""
    spec = KernelSpec(TTShape((150, 2), (8, 98), (1, 24, 1)), 300, 784)
    how = default_schedule(spec, K1)
    assert all(stage.lmul * stage.block >= 8 for stage in how.stages)
    few = KernelSchedule(how.order, how.merges, how.lanes, (how.stages[0], StageSchedule("rows", 1, 2)))
    assert predicted_cycles(spec, few, K1) == predicted_cycles(spec, how, K1)

"""Kernels measured alone have the figures of a module: its bytes, and the modelled call."""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.pipeline.timing import Around
from lrf_dse.runners.job import TIMED_PASSES, passes_for
from lrf_dse.schema import Measurement

KERNEL = Measurement(
    "modelled cycles, k1", 465, {"load": 465}, 9_000, 672, {"io_bytes": 384, "stack_bytes": 160, "local_bytes": 128},
    0.0, 0.0, cycles=1_000.0, cold_cycles=3_000.0,
)  # fmt: skip
AROUND = Around(158.0, 6_950, {"io_bytes": 0, "stack_bytes": 96, "image_bytes": 12_400, "local_bytes": 0})


def test_what_a_module_adds_is_added_part_by_part() -> None:
    found = AROUND.added_to(replace(KERNEL, ram_parts={**KERNEL.ram_parts, "image_bytes": 0}))
    assert (found.cycles, found.cold_cycles, found.flash_bytes) == (1_158.0, 3_158.0, 15_950)
    assert found.ram_parts == {"io_bytes": 384, "stack_bytes": 256, "local_bytes": 128, "image_bytes": 12_400}
    assert found.ram_bytes == sum(found.ram_parts.values())
    assert found.instructions == 465, "those of the kernel"
    assert "alone" in found.source


def test_without_a_timing_model_there_are_no_cycles_to_add_to() -> None:
    found = AROUND.added_to(replace(KERNEL, cycles=None, cold_cycles=None))
    assert (found.cycles, found.cold_cycles) == (None, None)


def test_a_long_program_passes_twice_through_its_model() -> None:
    assert passes_for(10_000) == TIMED_PASSES == 3
    assert passes_for(200_000_000) == 2

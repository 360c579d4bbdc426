"""The lower bound of a layer by hand, and what it must never exceed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from lrf_dse.codegen import KernelSpec, default_schedule, lower_bound, predicted_cycles
from lrf_dse.pipeline.kernels import kernel_spec
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target
from tests import strategies

K1 = load_target("spacemit-k1")


def fills() -> tuple[float, float]:
    """Bytes a cycle from the L2 and from memory."""
    assert K1.timing is not None and K1.timing.cache[0].fill_bytes_per_cycle is not None
    return K1.timing.cache[0].fill_bytes_per_cycle.value, K1.timing.dram.bytes_per_cycle.value


def test_a_large_dense_layer_passes_from_memory_but_for_what_the_cache_keeps() -> None:
    bytes_read = 4 * (4096 * 4096 + 4096)
    from_l2, from_memory = ((bytes_read - size) / rate for size, rate in zip((32_768, 524_288), fills(), strict=True))
    assert lower_bound(KernelSpec(None, 4096, 4096), K1) == pytest.approx(max(from_l2, from_memory))


def test_a_layer_that_fits_the_second_cache_passes_from_there() -> None:
    bytes_read = 4 * (256 * 400 + 400 + 256)
    assert lower_bound(KernelSpec(None, 256, 400, 1, True), K1) == pytest.approx(
        max((bytes_read - 32_768) / fills()[0], 256 * 400 / 8, bytes_read / (8 + 256 / 16.5))
    )


def test_a_large_batch_is_bound_by_the_peak() -> None:
    assert lower_bound(KernelSpec(None, 64, 64, 16), K1) == 16 * 64 * 64 / 8


def test_the_cheapest_contraction_counts_merged_cores_included() -> None:
    """Cores of unit modes between others: merged, they cost next to nothing."""
    shape = TTShape((8, 1, 8), (8, 1, 8), (1, 8, 8, 1))
    merged = TTShape((8, 8), (8, 8), (1, 8, 1))
    whole, less = (lower_bound(KernelSpec(each, 64, 64, 16), K1) for each in (shape, merged))
    assert whole == less


def test_threads_share_the_work_and_have_more_cache() -> None:
    one, four = (lower_bound(KernelSpec(None, 512, 512, 16, threads=threads), K1) for threads in (1, 4))
    assert one is not None and four is not None and one / 4 <= four < one
    assert lower_bound(KernelSpec(None, 512, 512, threads=99), K1) == lower_bound(
        KernelSpec(None, 512, 512, threads=8), K1
    )


def test_weights_of_few_bits_are_fewer_bytes_and_may_be_multiplied_in_half_precision() -> None:
    fp32, fp16, int8 = (
        lower_bound(KernelSpec(None, 4096, 4096, storages=storages), K1) for storages in ((), ("fp16",), ("int8",))
    )
    assert fp32 is not None and fp16 is not None and int8 is not None
    assert int8 < fp16 < fp32 / 2
    assert lower_bound(KernelSpec(None, 64, 64, 16, storages=("int4",)), K1) == 16 * 64 * 64 / 16


def test_without_a_peak_there_is_no_bound() -> None:
    assert lower_bound(KernelSpec(None, 64, 64), load_target("qemu-rv64gcv")) is None


@given(strategies.candidates())
def test_no_estimate_is_below_it_and_more_rows_take_longer(candidate) -> None:
    spec = replace(kernel_spec(candidate), threads=1)
    bound = lower_bound(spec, K1)
    assert bound is not None and 0 < bound <= predicted_cycles(spec, default_schedule(spec, K1), K1)
    assert bound <= lower_bound(replace(spec, batch=spec.batch + 1), K1)

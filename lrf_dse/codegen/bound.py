"""The lower bound of a layer's cycles: what no program on the target goes below, however it computes the layer.

Nothing in it is typical: peak rates only, the cheapest contraction, and of the caches the best that any of them could
do. What a kernel is expected to take is `lrf_dse.codegen.closed_form`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import (
    MONARCH_ORDER,
    contraction_orders,
    core_merges,
    is_monarch,
    merged_shapes,
    stages_of,
)
from lrf_dse.codegen.storage import ELEMENT_BITS
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing


def lower_bound(spec: KernelSpec, target: Target) -> float | None:
    """Cycles, warm; None where the target's peak is not known.

    The least over all orders of contraction, of the cores as they are or merged, of the larger of
    * multiply-adds over the peak of the cores that run (in half precision twice as many, where weights have few bits),
    * bytes over peak rates: weights, bias and x are loaded at least once, at the rate of vector and scalar loads
      together; and of a working set larger than a cache, what exceeds it passes from the next level in every run,
      whichever lines the cache keeps.
    """
    peak = target.core.fma_per_cycle
    if peak is None:
        return None
    cores = min(spec.threads, target.core.count)
    fixed = FP32_BYTES * (spec.batch * spec.in_features + spec.out_features * spec.has_bias)
    # Vectors hold twice as many numbers in half precision, so with few bits the peak at most doubles.
    fastest = peak.value * cores * (2 if spec.few_bits else 1)
    # The core with the fewest bits stands for all of them: the bound may get too low by that, never too high.
    bits = min(ELEMENT_BITS[storage] for storage in spec.core_storages)
    return min(
        # The larger one, not the sum: in the best case loads hide behind multiply-adds completely.
        max(multiply_adds / fastest, _reading_cycles(weight_bytes * bits // 32 + fixed, target, cores))
        for multiply_adds, weight_bytes in _contractions(spec)
    )


def _contractions(spec: KernelSpec) -> Iterator[tuple[float, int]]:
    """Multiply-adds and bytes of weights, of every way to contract the cores."""
    if is_monarch(spec.core_shapes):
        counts = [stage.count for stage in stages_of(spec.core_shapes, MONARCH_ORDER, batch=spec.batch)]
        yield sum(count.flops for count in counts) / 2, sum(count.weight_bytes for count in counts)
        return
    # A product of neighbours may need fewer multiply-adds than the cores by themselves, so no way to merge is left out.
    for merges in core_merges(len(spec.core_shapes)):
        shapes = merged_shapes(spec.core_shapes, merges)
        for order in contraction_orders(len(shapes)):
            counts = [stage.count for stage in stages_of(shapes, order, batch=spec.batch)]
            yield sum(count.flops for count in counts) / 2, sum(count.weight_bytes for count in counts)


def _reading_cycles(bytes_read: int, target: Target, cores: int) -> float:
    """What so many bytes take that each run reads at least once."""
    return max(
        bytes_read / (load_rate(target) * cores),
        # Whatever a cache throws out, at most `size` bytes are still there when the kernel runs again.
        *(max(0.0, bytes_read - size) / rate for size, rate in beyond_caches(target, cores)),
    )


def load_rate(target: Target) -> float:
    """Bytes a cycle that one core's loads can take from its nearest cache: all its load pipes, at their best length."""
    timing = target.timing
    if timing is None:
        return target.memory[0].read_bytes_per_cycle.value
    # Scalar and vector loads may have pipes of their own (x comes as scalars, weights as vectors): both rates are
    # added.
    scalar = timing.costs.cost["float_load"]
    rate = FP32_BYTES * len(scalar.pipes) / scalar.busy[0]
    return rate + (_vector_load_rate(target.isa.vlen_bits, timing) if target.isa.vlen_bits else 0.0)


def _vector_load_rate(vlen_bits: int, timing: Timing) -> float:
    rates = [0.0]
    for name, cost in timing.costs.cost.items():
        if name.startswith("v_load") and cost.per_element:
            rates.append(FP32_BYTES * len(cost.pipes) / cost.per_element)
        elif name.startswith("v_load"):
            # busy[n] belongs to vectors of 2^n registers.
            rates += [len(cost.pipes) * vlen_bits / 8 * 2**n / busy for n, busy in enumerate(cost.busy)]
    return max(rates)


def beyond_caches(target: Target, cores: int) -> Iterator[tuple[float, float]]:
    """For each cache: its bytes for all cores that run, and the bytes a cycle that the next level gives them."""
    timing = target.timing
    if timing is None:
        for near, far in zip(target.memory, target.memory[1:], strict=False):
            yield cores * (near.size_bytes or 0), cores * far.read_bytes_per_cycle.value
        return
    for cache in timing.cache:
        # `shared_by` cores have one cache between them.
        size = cache.size_bytes * cores / min(cores, cache.shared_by)
        if cache.fill_bytes_per_cycle is not None:
            yield size, cores * cache.fill_bytes_per_cycle.value
        else:
            # However many cores ask, the chip's memory gives no more than its own bandwidth.
            yield size, min(cores * timing.dram.bytes_per_cycle.value, timing.dram.chip_bytes_per_cycle.value)

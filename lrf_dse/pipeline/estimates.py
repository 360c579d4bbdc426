"""The estimate of a candidate: its counts, what its kernel is expected to take, and what no program goes below."""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.codegen import KernelSchedule, default_schedule, lower_bound, predicted_cycles
from lrf_dse.codegen.bound_columns import LayerBound
from lrf_dse.cost.counts import layer_count
from lrf_dse.cost.prune import LayerLatency
from lrf_dse.cost.search import CycleBounds
from lrf_dse.pipeline.kernels import kernel_spec
from lrf_dse.schema import Candidate, Estimate, FcLayer
from lrf_dse.target import Target

_HOST_INSTRUCTIONS = 139
"""Executed by the program of a module of one kernel, beyond those of the kernel linked alone."""


def estimate(candidate: Candidate, target: Target, schedule: KernelSchedule | None = None) -> Estimate:
    """The estimate of a candidate; for a generated kernel it holds its closed form's cycles.

    They are those on `schedule`, by default on the schedule that the closed form likes best.

    Nothing predicts what a compiler makes of a layer: of IREE's kernels only the lower bound is known.
    """
    spec, count = kernel_spec(candidate), layer_count(candidate)
    cycles = None
    if candidate.kernel == "rvv" and target.timing is not None:
        cycles = predicted_cycles(spec, schedule or default_schedule(spec, target), target)
        # The figure is that of a kernel inside a module, as it ships.
        cycles = None if cycles is None else cycles + dispatch_cycles(target)
    return Estimate(
        params=count.params,
        flops=count.flops,
        bytes_moved=count.bytes_moved,
        cycles=cycles,
        source="" if cycles is None else f"closed form of our kernel, {target.name}",
        lower_bound=lower_bound(spec, target),
    )


def dispatch_cycles(target: Target) -> float:
    """What calling a kernel as a dispatch of a module takes on one thread; 0 without a timing model.

    The host's instructions depend on each other, so that half of the issue slots stay empty; two of its branches are
    mispredicted. Measured on four chips within a third: K1 and K230 158 cycles, JH7110 245, SG2044 80.
    """
    if target.timing is None or target.core.issue_width is None:
        return 0.0
    # Half of the issue slots stay empty, so each instruction takes two of them.
    return 2 * _HOST_INSTRUCTIONS / target.core.issue_width.value + 2 * target.timing.mispredict_cycles.value


def latency_on(layer: FcLayer, target: Target, dense_cycles: float | None) -> LayerLatency | None:
    """What prunes the space of `layer`: by our kernels, which IREE's of the same shapes have never beaten.

    `dense_cycles` is what the layer takes as it is. None for a target without a timing model.
    """
    if target.timing is None or target.core.fma_per_cycle is None:
        return None

    def expected(candidate: Candidate) -> float:
        spec = kernel_spec(replace(candidate, kernel="rvv"))
        # Without schedules in slices: they take two thirds of the time to find and are seldom the fastest.
        found = predicted_cycles(spec, default_schedule(spec, target, cut=False), target)
        assert found is not None  # the target has a timing model
        return found + dispatch_cycles(target)

    bounds = LayerBound(layer, target)
    return LayerLatency(CycleBounds(bounds.of, bounds.at_least, bounds.core_cost), expected, dense_cycles)

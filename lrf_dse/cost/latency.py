"""Latency on one target without running anything: an estimate, and two lower bounds.

Owns no figure: they all come from the target. Every result says what it is, or is None where the target has no timing
model. `estimate` is what ranks; `roofline` and `issue_bound` say what no program goes below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lrf_dse.cost.closed_form import predicted_cycles
from lrf_dse.cost.counts import (
    FP32_BYTES,
    StageCount,
    dense_flops,
    dense_parameters,
    dense_stage,
    flops,
    parameters,
    stage_counts,
)
from lrf_dse.schema import Candidate, Estimate
from lrf_dse.target import Target


def estimate(candidate: Candidate, target: Target) -> Estimate:
    """Cycles by the closed form of what IREE makes of the candidate; by the roofline where there is none."""
    bound = roofline(candidate, target)
    cycles = predicted_cycles(candidate, target)
    if cycles is None:
        return bound
    return replace(bound, cycles=cycles, source=f"closed-form estimate, {target.name}")


def roofline(candidate: Candidate, target: Target) -> Estimate:
    """A lower bound in cycles for running the stages one after another, warm; None without a timing model.

    Sum over stages of max(multiply-adds / fma_per_cycle, bytes / read bandwidth), where the bytes are the stage's
    weights and its input and output state, each moved once, and the bandwidth is that of the nearest memory level that
    holds the whole layer (all weights, the largest stage's states). Threads, at most the target's cores, divide both.

    Left out, all of which makes real programs slower: issue slots and loads beside the FMAs, latencies and
    dependences, edges of tiles and of vectors, the bias addition, instruction fetch, cold misses, conflicts, the
    slower writes (taken as reads), memory shared between threads, dispatch and synchronisation. It is no bound for a
    program that does not run stage by stage through that level: fusing stages, or keeping a part of a working set
    slightly too large in the nearer cache, can move fewer bytes than are counted.
    """
    layer, shape = candidate.layer, candidate.tt_shape
    if shape is None:
        stages: tuple[StageCount, ...] = (dense_stage(layer),)
        n_params, n_flops = dense_parameters(layer), dense_flops(layer)
    else:
        stages = stage_counts(shape, candidate.order, batch=layer.batch)
        n_params = parameters(shape, bias=layer.has_bias)
        n_flops = flops(shape, candidate.order, batch=layer.batch, bias=layer.has_bias)
    bias_bytes = FP32_BYTES * layer.out_features * layer.has_bias
    return Estimate(
        params=n_params,
        flops=n_flops,
        bytes_moved=sum(map(_stage_bytes, stages)) + bias_bytes,
        cycles=_stage_cycles(stages, target, candidate.threads),
        source=f"roofline estimate, {target.name}",
    )


def issue_bound(instructions: int, target: Target) -> float | None:
    """The fewest cycles in which one core can issue so many instructions; None without a timing model."""
    width = target.core.issue_width
    return None if width is None else instructions / width.value


def combine(estimate_cycles: float | None, instructions: int | None, target: Target) -> float | None:
    """The larger of the estimate and the issue bound of the instructions that one core executed.

    A program cannot be faster than its instructions over the issue width. None where neither is known.
    """
    bounds = [estimate_cycles, None if instructions is None else issue_bound(instructions, target)]
    return max((bound for bound in bounds if bound is not None), default=None)


def _stage_bytes(stage: StageCount) -> int:
    return stage.weight_bytes + stage.state_in_bytes + stage.state_out_bytes


def _stage_cycles(stages: Sequence[StageCount], target: Target, threads: int) -> float | None:
    if target.core.fma_per_cycle is None:
        return None
    working_set = sum(s.weight_bytes for s in stages) + max(s.state_in_bytes + s.state_out_bytes for s in stages)
    bandwidth = _bytes_per_cycle(target, working_set)
    fma_per_cycle = target.core.fma_per_cycle.value
    cycles = sum(max(stage.flops / 2 / fma_per_cycle, _stage_bytes(stage) / bandwidth) for stage in stages)
    return cycles / min(threads, target.core.count)


def _bytes_per_cycle(target: Target, working_set_bytes: int) -> float:
    """Read bandwidth of the nearest level that holds so many bytes; the last level holds everything."""
    for level in target.memory[:-1]:
        if level.size_bytes is not None and working_set_bytes <= level.size_bytes:
            return level.read_bytes_per_cycle.value
    return target.memory[-1].read_bytes_per_cycle.value

"""Which schedules a kernel may have, ranked by the closed form; the first is the default. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from itertools import product
from math import gcd, inf
from typing import Any

from lrf_dse.codegen.closed_form import issued_cycles, predicted_cycles
from lrf_dse.codegen.packing import blocks
from lrf_dse.codegen.plan import MOST_IN_HALF, MOST_SHORT
from lrf_dse.codegen.schedule import CHAINS, LMULS, KernelSchedule, StageSchedule, VectorAxis
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import (
    MONARCH_ORDER,
    Stage,
    contraction_orders,
    core_merges,
    is_monarch,
    merged_shapes,
    stages_of,
)
from lrf_dse.codegen.traffic import is_crowded, level_rate
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.schema import Storage
from lrf_dse.target import Target
from lrf_dse.tt.grid import GROUP

_CONTRACTIONS = 2
"""Orders, of the cores as they are or merged, that are looked at: those with the lowest bounds."""
_FAR_SAVING = 0.9
"""Merged cores that do not stay in the L2 are looked at if their bound is so many times that of the cores as they are:
less is not worth the memory that they take, and take from other cores of the chip."""
_HOPELESS = 8.0
"""Contractions whose bound is so many times the lowest are not looked at. Plain low rank from its wrong end has rows by
the million: for 25088 x 4096, rank 256, it took 7 of 7.4 s to see that no schedule makes it fast."""
_MOST_SLICES = 64
"""Slices of K, at most, in a stage whose panels are widened: the sums of more slices are not worth adding up."""
_SCALAR_BLOCK = 4
"""Sums at a time in plain C."""
_BLOCKS = {1: (6, 8, 12, 20), 2: (5, 6, 8, 12), 4: (3, 4, 5, 6), 8: (1, 2)}
"""Sums at a time by LMUL: few enough for a short loop and a ring of vectors, enough to hide latencies."""

_FEWEST_SIZES = 2
"""Numbers of sums that are tried at least."""

_SUMS = 8
"""Registers of sums that hide the latency of multiply-adds on every chip that is described."""

ScheduleCost = Callable[[KernelSchedule], float]


def has_half(target: Target) -> bool:
    """Whether the chip computes vectors in half precision."""
    return "zvfh" in target.cc.mcpu.split("+")


@lru_cache(maxsize=1 << 14)
def default_schedule(spec: KernelSpec, target: Target, *, cut: bool = True) -> KernelSchedule:
    """The schedule that the closed form likes best; without `cut` of those that cut nothing into slices.

    It is remembered: layers of one size share their kernels, and one is asked for in several stages.

    These take a third of the time to find, and few kernels are faster in slices: enough to rank a whole space.
    """
    return schedules(spec, target, 1, cut=cut)[0]


@lru_cache(maxsize=1 << 12)
def copied_schedule(spec: KernelSpec, target: Target) -> KernelSchedule | None:
    """The schedule that the closed form likes best of those that widen weights in few bits at load; None in fp32.

    The result is None as well where every schedule has slices of K that cut groups of int4.
    """
    if not spec.few_bits:
        return None
    # Few bits allow one contraction only: the one whose stage matrices were rounded.
    (merges, order), *_ = _contractions(spec, target)
    cost = _cost(spec, target)

    def copied(schedule: KernelSchedule) -> KernelSchedule:
        return replace(schedule, copied=True)

    def copied_cost(schedule: KernelSchedule) -> float:
        return cost(copied(schedule))

    # The stages read the copy, which is fp32: the schedules to look at are those of a kernel in fp32.
    plain = replace(spec, storages=())
    found = set(_of_contraction(plain, target, merges, order, copied_cost, cut=True))
    # `found` is a set: the text decides ties, so that the choice does not depend on the order of hashes.
    best = min(found, key=lambda schedule: (*_liking(schedule, copied_cost), str(schedule)))
    return copied(best) if copied_cost(best) < inf else None


def schedules(spec: KernelSpec, target: Target, limit: int, *, cut: bool = True) -> tuple[KernelSchedule, ...]:
    """At most `limit` schedules, best first; see `default_schedule` for `cut`."""
    cost = _cost(spec, target)
    ways = _contractions(spec, target)
    found = {schedule for way in ways for schedule in _of_contraction(spec, target, *way, cost, cut=cut)}
    fitting = (schedule for schedule in found if cost(schedule) < inf)
    return tuple(sorted(fitting, key=lambda schedule: (*_liking(schedule, cost), str(schedule)))[:limit])


def _liking(schedule: KernelSchedule, cost: ScheduleCost) -> tuple[float, int]:
    """The less, the better: cycles, then how many registers of sums a stage lacks to hide latencies.

    Schedules that wait for memory all the time take the same cycles, whatever they compute meanwhile. The one with more
    sums under way is the fastest of them where memory is faster than modelled (1.7 times on 784x300 d=2 r24).
    """
    return cost(schedule), -sum(min(how.lmul * how.block, _SUMS) for how in schedule.stages)


def _cost(spec: KernelSpec, target: Target) -> ScheduleCost:
    known: dict[tuple[Any, ...], float] = {}

    @cache
    def cost(schedule: KernelSchedule) -> float:
        try:
            return known_cost(schedule)
        except ValueError:  # slices that cut a stream or groups of int4, a stream that needs too many registers
            return inf

    def known_cost(schedule: KernelSchedule) -> float:
        cycles = predicted_cycles(spec, schedule, target, known=known)
        return issued_cycles(spec, schedule) if cycles is None else cycles

    return cost


def _contractions(spec: KernelSpec, target: Target) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Merges and orders that are looked at: those with the lowest bounds, and the best of the cores as they are."""
    if is_monarch(spec.core_shapes):
        return [((1, 1), MONARCH_ORDER)]
    if spec.few_bits:
        # Codes are those of the stages' matrices in one order, and cannot be multiplied.
        count = len(spec.core_shapes)
        return [((1,) * count, contraction_orders(count)[0 if spec.order == "last_first" else -1])]
    # Cores as they are come first on a tie: max(merges) is 1 for them.
    ranked = sorted(
        (*_bound(spec, merges, order, target), max(merges), merges, order)
        for merges in core_merges(len(spec.core_shapes))
        for order in contraction_orders(len(merges))
    )
    plain = next(way for way in ranked if way[2] == 1)
    likely = (way for way in ranked if way[0] <= _HOPELESS * ranked[0][0])
    worth = [way for way in likely if way[2] == 1 or not way[1] or way[0] <= _FAR_SAVING * plain[0]]
    return [way[3:] for way in dict.fromkeys([*worth[:_CONTRACTIONS], plain])]


def _bound(spec: KernelSpec, merges: tuple[int, ...], order: tuple[int, ...], target: Target) -> tuple[float, bool]:
    """Cycles that no schedule of this contraction can beat, or its FLOPs, and whether its weights come from memory.

    A stage counts with what takes longer, its multiply-adds or its weights. The states are those of one row, as a batch
    may go by rows.
    """
    counts = [stage.count for stage in stages_of(merged_shapes(spec.core_shapes, merges), order, batch=1)]
    # All weights are read again in the next run, but only two states are alive at a time.
    used = sum(count.weight_bytes for count in counts) + max(c.state_in_bytes + c.state_out_bytes for c in counts)
    size = next((level.size_bytes for level in target.memory if level.level == "L2"), None)
    far = size is not None and used > size
    if target.core.fma_per_cycle is None:
        return float(sum(count.flops for count in counts)), far
    flops_per_cycle = 2 * target.core.fma_per_cycle.value
    rate = level_rate(target, len(target.memory) - 1 if far else min(1, len(target.memory) - 1))
    return sum(max(c.flops * spec.batch / flops_per_cycle, c.weight_bytes / rate) for c in counts), far


def _of_contraction(
    spec: KernelSpec, target: Target, merges: tuple[int, ...], order: tuple[int, ...], cost: ScheduleCost, *, cut: bool
) -> Iterator[KernelSchedule]:
    """Schedules of one contraction: for every way to cut it, each stage's best choices while the others stay."""
    stages = stages_of(merged_shapes(spec.core_shapes, merges), order, batch=spec.batch)
    storages = [spec.core_storages[stage.core] if spec.few_bits else "fp32" for stage in stages]
    options = [tuple(_stage_schedules(*pair, target)) for pair in zip(stages, storages, strict=True)]
    half = spec.few_bits and has_half(target)
    plain = KernelSchedule(order, merges, target.fp32_lanes, tuple(some[0] for some in options), half=half)
    # One stage varies at a time: all combinations would be as many as the product of the stages' options.
    for start in dict.fromkeys(_cuts(spec, plain, stages)) if cut else (plain,):
        best = start
        for number, some in enumerate(options):
            every = (_with_stage(best, number, option) for option in some)
            variants = sorted(every, key=lambda schedule: _liking(schedule, cost))
            # The second best is kept as well, for a tuner that measures several schedules.
            yield from variants[:2]
            best = variants[0]


def _cuts(spec: KernelSpec, plain: KernelSchedule, stages: tuple[Stage, ...]) -> Iterator[KernelSchedule]:
    """`plain` as it is, and in slices: of the rows of x, of the leading modes, of the last rank."""
    yield plain
    # Slices run one after the other through one scratch buffer, which threads that share a stage do not allow.
    if spec.threads > 1 or is_monarch(spec.core_shapes):
        return
    count = len(stages)
    for fused in range(2, count + 1):
        # Each fused stage gets an equal part of its leading index, so the number of slices divides all of them.
        common = gcd(*(stage.count.batches for stage in stages[:fused]))
        for slices in sorted({spec.batch, common}):
            if slices > 1 and common % slices == 0 and (fused < count or spec.batch % slices == 0):
                yield replace(plain, fused=fused, slices=slices)
                yield from _rank_cuts(spec, replace(plain, fused=fused, slices=slices), stages)
    yield from _rank_cuts(spec, plain, stages)


def _rank_cuts(spec: KernelSpec, cut: KernelSchedule, stages: tuple[Stage, ...]) -> Iterator[KernelSchedule]:
    """`cut` with its last two stages together, where they grow to the left."""
    leftwards = len(stages) > 1 and stages[-1].side == "left" and stages[-2].side != "right"
    if not leftwards or (cut.slices > 1 and cut.fused == len(stages) - 1):
        return
    rank = merged_shapes(spec.core_shapes, cut.merges)[stages[-1].core][3]
    yield from (replace(cut, rank_slices=slices) for slices in (2, 4, 8, 16) if rank % slices == 0)


def _with_stage(schedule: KernelSchedule, number: int, how: StageSchedule) -> KernelSchedule:
    return replace(schedule, stages=(*schedule.stages[:number], how, *schedule.stages[number + 1 :]))


def _stage_schedules(stage: Stage, storage: Storage, target: Target) -> Iterator[StageSchedule]:
    """What a stage may look like: vector axis, LMUL, and how many sums at a time (no two that come to the same)."""
    if target.isa.vlen_bits is not None:
        for offer in OFFERS.values():
            yield from offer(stage, storage, target)
        return
    few = storage != "fp32" and _has_one_column(stage)
    yield StageSchedule("stream", _SCALAR_BLOCK, 1) if few else StageSchedule("columns", 1, _SCALAR_BLOCK)


def _has_one_column(stage: Stage) -> bool:
    return stage.at_once.batches * stage.at_once.columns == 1


def _streams(stage: Stage, storage: Storage, target: Target) -> Iterator[StageSchedule]:
    """Streams of every LMUL, for a stage that uses each weight once."""
    count, one_column = stage.at_once, _has_one_column(stage)
    for lmul, chains in product(LMULS if one_column else (), CHAINS):
        # An instruction costs the same however much of its vector is used: a vector that half the registers hold is no
        # option.
        if lmul == 1 or count.rows > lmul // 2 * target.fp32_lanes:
            yield StageSchedule("stream", lmul, chains)
            if storage != "fp32" and count.k <= MOST_SHORT and has_half(target):
                yield StageSchedule("short", lmul, chains)


def _tiles(stage: Stage, storage: Storage, target: Target) -> Iterator[StageSchedule]:
    """Register tiles along either axis, for any stage."""
    count, one_column = stage.at_once, _has_one_column(stage)
    axes: tuple[VectorAxis, ...] = ("columns", "rows")
    for vector, (lmul, sizes) in product(axes, _BLOCKS.items()):
        in_vector = count.columns if vector == "columns" else count.rows
        sums = count.rows if vector == "columns" else count.columns * count.batches
        if lmul > 1 and in_vector <= lmul // 2 * target.fp32_lanes:
            continue
        # Beside a panel that was just widened the fewest sums wait for its vectors (512x512 d=3: 1.15 times as long).
        # They are tried where the next more would read from rows that push each other out of the first cache.
        waits = storage != "fp32" and vector == "rows" and len(sizes) > _FEWEST_SIZES
        tried = sizes[1:] if waits and not _is_crowded(stage, min(sums, sizes[1]), target) else sizes
        for block in dict.fromkeys(max(blocks(sums, size)) for size in tried):
            if storage != "fp32":
                width = block if vector == "columns" else lmul * target.fp32_lanes
                yield StageSchedule(vector, lmul, block, k_slices=_widened_slices(count.k, width, storage, target))
                if vector == "rows" and lmul <= MOST_IN_HALF and has_half(target) and not one_column:
                    yield StageSchedule(vector, lmul, block, in_half=True)
                continue
            yield StageSchedule(vector, lmul, block)
            panels = min(
                _near_panels(target, count.k * lmul * target.fp32_lanes), count.rows // target.fp32_lanes // lmul
            )
            if vector == "rows" and panels > 1 and count.columns == 1:
                yield StageSchedule(vector, lmul, block, panels=panels)


def _is_crowded(stage: Stage, sums: int, target: Target) -> bool:
    """Whether the rows of a state push each other out of the first cache where so many sums are computed at a time."""
    timing, step = target.timing, FP32_BYTES * stage.at_once.k * stage.at_once.columns
    return timing is not None and len(timing.cache) > 1 and is_crowded(step, sums, timing)


OFFERS: dict[str, Callable[[Stage, Storage, Target], Iterator[StageSchedule]]] = {"stream": _streams, "tiles": _tiles}
"""Who offers ways to compute a stage on a chip with vectors: of a stage, the storage of its weights and the target."""


def _widened_slices(k: int, width: int, storage: Storage, target: Target) -> int:
    """Into how many parts K is cut so that a widened panel takes half of the first cache, if K can be cut so."""
    if not target.memory:
        return 1
    # A group of int4 has one scale, so slices end where groups do.
    unit = GROUP if storage == "int4" else 1
    most = (target.memory[0].size_bytes or 0) // 2 // (FP32_BYTES * width)
    slices = [parts for parts in range(1, min(k, _MOST_SLICES) + 1) if k % parts == 0 and k // parts % unit == 0]
    return next((parts for parts in slices if k // parts <= most), slices[-1] if slices else 1)


def _near_panels(target: Target, panel_floats: int) -> int:
    """How many panels of A take a quarter of the second cache."""
    if len(target.memory) < 2:
        return 1
    return (target.memory[1].size_bytes or 0) // 4 // (FP32_BYTES * panel_floats)

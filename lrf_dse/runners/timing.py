"""The timing model of a target, as the plugin toolchain/plugin/timing.c reads it, and what the plugin writes.

The module makes text and values and runs nothing. A fact of a chip that nobody has published is a switch here, and not
a guess in the chip's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrf_dse.target import Target, Timing, operations
from lrf_dse.target.figure import Figure
from lrf_dse.target.timing import SEWS, UNKNOWN_OPERATION

# The plugin computes in integers: costs are in 1/16 cycles, bandwidths in 1/256 bytes a cycle. These two must be equal
# to LRF_FRACTION and LRF_RATE of toolchain/plugin/timing_model.h.
FRACTION = 16
RATE = 256
# As many as targets/sifive-x280.toml assumes of the one chip that is known to have such a queue.
SWEEP_QUEUE = 16


@dataclass(frozen=True)
class TimingSwitches:
    """What may be set against the target's file. `vector_queue` is a number of entries; None leaves the file's."""

    perfect_memory: bool = False
    prefetch: bool = True
    in_order_writeback: bool = False
    vector_queue: int | None = None


DEFAULT_SWITCHES = TimingSwitches()

MODEL_SWEEP: Mapping[str, TimingSwitches] = {
    "default": DEFAULT_SWITCHES,
    "perfect memory": TimingSwitches(perfect_memory=True),
    "no prefetcher": TimingSwitches(prefetch=False),
    "in-order write-back": TimingSwitches(in_order_writeback=True),
    "decoupled vector queue": TimingSwitches(vector_queue=SWEEP_QUEUE),
}
"""The models under which a figure is shown, by name: what is unpublished of a chip, one thing at a time."""


def sweep_of(target: Target) -> Mapping[str, TimingSwitches]:
    """The part of MODEL_SWEEP that means something for `target`; empty without a timing model.

    Write-back order and queue are switches only where issue is in order, the queue only beside a vector unit that has
    none.
    """
    timing = target.timing
    if timing is None:
        return {}
    skipped = set()
    # A core with a reorder buffer writes results of its instructions in any order and lets them wait in its window.
    if timing.window is not None:
        skipped |= {"in-order write-back", "decoupled vector queue"}
    if target.isa.vlen_bits is None or timing.vector_queue is not None:
        skipped |= {"decoupled vector queue"}
    return {name: switches for name, switches in MODEL_SWEEP.items() if name not in skipped}


def timing_model_text(target: Target, *, switches: TimingSwitches = DEFAULT_SWITCHES, threads: int = 1) -> str:
    """The parameter file of `target` (toolchain/plugin/timing_model.h), one `key value...` a line.

    It is all that the plugin knows of the chip: no name, no source, so that it can be part of a content key. With
    several `threads`, one core's share of shared caches and of memory is what is left when all are busy.
    Raises ValueError for a target without [timing].
    """
    timing = target.timing
    if timing is None or target.core.issue_width is None:
        raise ValueError(f"target {target.name} has no timing model")
    scalars = _core_scalars(target, timing, switches) | _memory_scalars(timing, switches, threads)
    lines = [f"{key} {value}" for key, value in scalars.items()]
    lines += [f"pipe {name}" for name in timing.costs.pipes]
    lines += [_operation_line(name, timing) for name in operations()]
    return "\n".join([*lines, *_cache_lines(timing, threads), ""])


def _core_scalars(target: Target, timing: Timing, switches: TimingSwitches) -> dict[str, int]:
    queue = switches.vector_queue
    if queue is None:
        queue = 0 if timing.vector_queue is None else round(timing.vector_queue.value)
    width = target.core.issue_width
    return {
        "vlen_bits": target.isa.vlen_bits or 0,
        "issue_width": 1 if width is None else round(width.value),
        "window": 0 if timing.window is None else round(timing.window.value),
        "vector_queue": queue,
        "vector_in_order": int(timing.vector_in_order is not None),
        "in_order_writeback": int(switches.in_order_writeback),
        "load_after_store": round(_value(timing.load_after_store_cycles)),
        "store_drain_rate": round(RATE * _value(timing.store_drain_bytes_per_cycle)),
        "float_to_vector": round(_value(timing.float_to_vector_cycles)),
        "mispredict_cycles": round(timing.mispredict_cycles.value),
        "taken_branch_cycles": timing.taken_branch_cycles,
        "barrier_cycles": round(timing.barrier_cycles.value),
        "predictor_entries": timing.predictor.entries,
        "history_bits": timing.predictor.history_bits,
        "return_stack": timing.predictor.return_stack,
        "target_entries": timing.predictor.targets,
    }


def _memory_scalars(timing: Timing, switches: TimingSwitches, threads: int) -> dict[str, int]:
    dram, share = timing.dram, timing.dram.chip_bytes_per_cycle.value / threads
    writes = dram.write_bytes_per_cycle or dram.bytes_per_cycle
    return {
        "line_bytes": timing.line_bytes,
        "perfect_memory": int(switches.perfect_memory),
        "misses": round(timing.outstanding_misses.value),
        "store_buffer": round(timing.store_buffer.value),
        "write_stream_lines": round(_value(timing.write_stream_lines)),
        "fill_cycles": _fixed(_value(timing.line_fill_cycles)),
        "write_back_cycles": _fixed(_value(timing.line_write_back_cycles)),
        "prefetch_streams": timing.prefetch.streams if switches.prefetch else 0,
        "prefetch_near_lines": timing.prefetch.near_lines,
        "prefetch_far_lines": timing.prefetch.far_lines,
        "dram_latency": round(timing.dram.latency_cycles.value),
        # A rate of 0 would mean that nothing ever arrives.
        "dram_rate": max(1, round(RATE * min(dram.bytes_per_cycle.value, share))),
        "dram_write_rate": max(1, round(RATE * min(writes.value, share))),
    }


def _value(figure: Figure | None) -> float:
    """The figure's value. Where a chip has no such figure the plugin gets 0, which switches the mechanism off."""
    return 0.0 if figure is None else figure.value


def _operation_line(name: str, timing: Timing) -> str:
    """The line of one operation: busy and latency are 16 numbers, M1 to M8 at e8, then at e16, e32 and e64."""
    # Instructions that the plugin does not know, and vector ones of a chip without vectors, must cost something: they
    # are charged like simple integer arithmetic, and the plugin counts the unknown ones.
    cost = timing.costs.cost.get(name) or timing.costs.cost["int_alu"]
    by_sew = [cost.at(sew) for sew in SEWS]
    busy = " ".join(_numbers(busy, FRACTION) for busy, _ in by_sew)
    latency = " ".join(_numbers(latency, 1) for _, latency in by_sew)
    return (
        f"operation {name} {','.join(cost.pipes)} busy {busy} latency {latency} "
        f"per_element {_fixed(cost.per_element)} per_register {_fixed(cost.per_register)} fields {cost.fields} "
        f"masked {_fixed(cost.masked)}"
    )


def _numbers(values: tuple[float, ...], scale: int) -> str:
    return " ".join(str(round(scale * value)) for value in values)


def _fixed(value: float) -> int:
    return round(FRACTION * value)


def _cache_lines(timing: Timing, threads: int) -> list[str]:
    """One line for each cache. A shared cache is divided among the threads that share it."""
    lines = []
    for level, cache in enumerate(timing.cache):
        sharers = 1
        # The plugin finds a set by a mask of the address, so the number of sets stays a power of two: three threads get
        # a quarter each.
        while sharers < min(threads, cache.shared_by):
            sharers *= 2
        sets = max(1, cache.size_bytes // (cache.ways * timing.line_bytes) // sharers)
        fill = cache.fill_bytes_per_cycle or timing.dram.bytes_per_cycle  # unused of the last one
        write = cache.write_bytes_per_cycle or fill
        rates = f"read {round(RATE * fill.value)} write {round(RATE * write.value)}"
        lines.append(f"cache {level} sets {sets} ways {cache.ways} latency {round(cache.latency_cycles.value)} {rates}")
    return lines


@dataclass(frozen=True)
class PassFigures:
    """One pass through the measured region, as the plugin saw it.

    `cycles` is the sum of `busy_cycles` and `stalls` of the thread that forks the others, `forks` times; what they
    execute is in all counts. `bytes_by_level` are those that instructions accessed (l1) and those that crossed from
    there on. `unknown_vtype` vector instructions ran under a vtype that was not in an immediate: taken for LMUL 1.
    """

    cycles: int
    instructions: int
    ipc: float
    forks: int
    busy_cycles: int
    stalls: Mapping[str, int]
    bytes_by_level: Mapping[str, int]
    counts: Mapping[str, int]
    unknown_operations: int
    unknown_vtype: int
    branches: int
    mispredicts: int


def read_passes(data: Mapping[str, Any]) -> tuple[PassFigures, ...]:
    """The passes of the plugin's output, which must be its JSON object; `counts` includes `unknown`."""
    return tuple(_read_pass(dict(entry)) for entry in data["passes"])


def _read_pass(entry: dict[str, Any]) -> PassFigures:
    counts = {**entry.pop("counts"), UNKNOWN_OPERATION: entry.pop("unknown")}
    return PassFigures(counts=counts, bytes_by_level=entry.pop("bytes"), **entry)

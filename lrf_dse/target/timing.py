"""What the timing model needs of a chip, as data: instruction costs, branch predictor, caches and memory.

The module owns names and checks only. lrf_dse/runners/timing.py turns it into the plugin's parameter file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lrf_dse.resources import data_dir
from lrf_dse.target.figure import Figure, Known, Section

# Fractions of a register (mf2, mf4, mf8) are charged as one register (timing_decode_vector.c).
LMULS = (1, 2, 4, 8)
UNKNOWN_OPERATION = "unknown"
# The size of `pipe` in struct lrf_cost (toolchain/plugin/timing_model.h).
MAX_PIPES_OF_A_COST = 4

# operations.def is C text for the preprocessor; this pattern reads the same table, one line for each operation.
_OPERATION_LINE = re.compile(r'^LRF_OPERATION\((\w+), "(.*)"\)$', re.MULTILINE)


@functools.cache
def operations() -> Mapping[str, str]:
    """Name -> meaning of every operation that has a cost, in the order of the plugin's table; `unknown` is last."""
    table = data_dir("toolchain") / "plugin" / "operations.def"
    return dict(_OPERATION_LINE.findall(table.read_text(encoding="utf-8")))


def _per_lmul(value: Any) -> Any:
    """One number stands for all of M1, M2, M4 and M8."""
    return [value] * len(LMULS) if isinstance(value, int | float) else value


def _names(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


PerLmul = Annotated[tuple[float, float, float, float], BeforeValidator(_per_lmul)]
Sew = Literal[8, 16, 32, 64]
SEWS: tuple[Sew, ...] = (8, 16, 32, 64)
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Cost(Section):
    """What one operation costs: `busy` cycles of one of its pipes (the first that is free), a result after `latency`.

    Both are those of e32; `busy_e8`, `busy_e16` and `busy_e64` are given where the element width changes them, and the
    latency changes in the same proportion. `per_element` cycles for each element of a full vector replace `busy`;
    `per_register` cycles for each register do so for segments of at most `fields` fields. A masked operation is busy
    `masked` times as long. `known` names the entry of the table's sources.
    """

    pipes: Names = Field(min_length=1, max_length=MAX_PIPES_OF_A_COST)
    busy: PerLmul = (1.0, 1.0, 1.0, 1.0)
    latency: PerLmul
    busy_e8: PerLmul | None = None
    busy_e16: PerLmul | None = None
    busy_e64: PerLmul | None = None
    per_element: float = Field(default=0.0, ge=0)
    per_register: float = Field(default=0.0, ge=0)
    fields: int = Field(default=8, ge=1, le=8)
    masked: float = Field(default=1.0, ge=1)
    known: str

    def at(self, sew: Sew) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Busy cycles and latencies at M1, M2, M4 and M8 for elements of `sew` bits."""
        # Most costs depend on the bytes of a register group, not on the width of its elements, so e32 stands for all.
        busy = {8: self.busy_e8, 16: self.busy_e16, 64: self.busy_e64}.get(sew) or self.busy
        # A cost of 0 keeps its latency as it is.
        scale = (mine / usual if usual else 1.0 for mine, usual in zip(busy, self.busy, strict=True))
        return busy, tuple(factor * latency for factor, latency in zip(scale, self.latency, strict=True))


class CostTable(Section):
    """targets/costs/NAME.toml: the costs of one core's instructions; several chips may have the same."""

    title: str
    pipes: Names = Field(min_length=1)
    sources: Mapping[str, Known]
    cost: Mapping[str, Cost]

    @model_validator(mode="after")
    def _names_are_known(self) -> CostTable:
        for name, cost in self.cost.items():
            if name not in operations() or name == UNKNOWN_OPERATION:
                raise ValueError(f"cost.{name}: no such operation (see toolchain/plugin/operations.def)")
            if strangers := set(cost.pipes) - set(self.pipes):
                raise ValueError(f"cost.{name}: pipes must be of {', '.join(self.pipes)}, got {', '.join(strangers)}")
            if cost.known not in self.sources:
                raise ValueError(f"cost.{name}: known must be one of {', '.join(self.sources)}, got {cost.known}")
        return self


class Cache(Known):
    """One data cache. `basis` and `source` are those of its shape.

    `latency_cycles` is from a load's issue to its use; `fill_bytes_per_cycle` what the next level gives and
    `write_bytes_per_cycle` what it takes at the same time, as much as it gives unless said (for the last cache see
    dram). A cache `shared_by` several cores is divided among those that run.
    """

    size_bytes: int = Field(gt=0)
    ways: int = Field(ge=1, le=64)
    shared_by: int = Field(default=1, ge=1)
    latency_cycles: Figure
    fill_bytes_per_cycle: Figure | None = None
    write_bytes_per_cycle: Figure | None = None


class Dram(Section):
    """Memory: load-to-use latency, what one core can read, write (as much unless said) and what the chip has in all.

    Reads and writes share one bus: while it writes, nothing is read.
    """

    latency_cycles: Figure
    bytes_per_cycle: Figure
    write_bytes_per_cycle: Figure | None = None
    chip_bytes_per_cycle: Figure


class Predictor(Known):
    """Two-bit counters by address and history, a return-address stack, last targets of indirect jumps."""

    entries: int = Field(ge=1)
    history_bits: int = Field(ge=0, le=20)
    return_stack: int = Field(ge=1, le=64)
    targets: int = Field(ge=1)


class Prefetch(Known):
    """A stride prefetcher: how many loads and stores it follows, how many lines ahead into first and second cache."""

    streams: int = Field(ge=0, le=256)
    near_lines: int = Field(ge=0, le=64)
    far_lines: int = Field(ge=0, le=256)


class Timing(Section):
    """[timing] of a target file. `costs` is the name of a table in the file, the table itself here.

    Without a `window` (reorder buffer) the core issues in order; a `vector_queue` lets vector instructions wait beside
    the scalar core; `vector_in_order` says that a window does not reorder vector instructions among themselves.
    `barrier_cycles` lie between the end of the slowest thread of a dispatch and what follows.

    Without `write_stream_lines` a store reads the rest of its line first; with it, a run of stores to adjacent
    addresses claims its lines unread once it is so many lines long. `line_fill_cycles` and `line_write_back_cycles` are
    what a line that moves into or out of the first cache takes of the load and store unit. Behind a vector store a
    vector load waits `load_after_store_cycles`, and until the store has drained at `store_drain_bytes_per_cycle`. A
    scalar that was loaded reaches the vector unit `float_to_vector_cycles` after its latency.
    """

    costs: CostTable
    line_bytes: int = 64
    window: Figure | None = None
    vector_queue: Figure | None = None
    vector_in_order: Known | None = None
    mispredict_cycles: Figure
    taken_branch_cycles: int = Field(default=0, ge=0)
    barrier_cycles: Figure
    outstanding_misses: Figure
    store_buffer: Figure
    write_stream_lines: Figure | None = None
    line_fill_cycles: Figure | None = None
    line_write_back_cycles: Figure | None = None
    load_after_store_cycles: Figure | None = None
    store_drain_bytes_per_cycle: Figure | None = None
    float_to_vector_cycles: Figure | None = None
    predictor: Predictor
    prefetch: Prefetch
    cache: tuple[Cache, ...] = Field(min_length=1, max_length=3)
    dram: Dram

    @model_validator(mode="after")
    def _hierarchy_is_whole(self) -> Timing:
        for number, cache in enumerate(self.cache, start=1):
            # The plugin finds a set by a mask of the address.
            sets = cache.size_bytes // (cache.ways * self.line_bytes)
            if sets * cache.ways * self.line_bytes != cache.size_bytes or sets & (sets - 1):
                raise ValueError(f"cache {number}: size_bytes must be ways x line_bytes x a power of two")
            # What lies behind the last cache is memory, and [timing.dram] has its rates.
            last = number == len(self.cache)
            if (cache.fill_bytes_per_cycle is None) != last or (last and cache.write_bytes_per_cycle is not None):
                raise ValueError(
                    "every [[timing.cache]] but the last needs fill_bytes_per_cycle; the last has no rates"
                )
        # A level that is farther and faster is a mistake in a file (such as cycles beside nanoseconds).
        latencies = [cache.latency_cycles.value for cache in self.cache] + [self.dram.latency_cycles.value]
        if sorted(latencies) != latencies:
            raise ValueError(f"latency_cycles must grow from level to level, got {latencies}")
        return self


def missing_costs(timing: Timing, *, vector: bool) -> list[str]:
    """Operations that the cost table must have and has not: all of them, or the scalar ones without a vector unit."""
    needed = [name for name in operations() if name != UNKNOWN_OPERATION and (vector or not name.startswith("v_"))]
    return [name for name in needed if name not in timing.costs.cost]


def timing_figures(timing: Timing) -> list[tuple[str, str, Known]]:
    """Every figure of the timing model as (name, value as text, how it is known), for tables."""
    rows: list[tuple[str, str, Known]] = []
    for name, field in type(timing).model_fields.items():
        # Every figure that is added to Timing appears by itself; those that have a form of their own follow below.
        if field.annotation in (Figure, Figure | None) and (figure := getattr(timing, name)) is not None:
            rows.append((name.replace("_", " "), f"{figure.value:g}", figure))
    if timing.vector_in_order is not None:
        rows.append(("vector instructions", "in order", timing.vector_in_order))
    p, f = timing.predictor, timing.prefetch
    rows.append(("branch predictor", f"{p.entries} counters, {p.history_bits} bits of history", p))
    rows.append(("prefetcher", f"{f.streams} streams, {f.near_lines} and {f.far_lines} lines ahead", f))
    for number, cache in enumerate(timing.cache, start=1):
        shared = f", shared by {cache.shared_by}" if cache.shared_by > 1 else ""
        rows.append((f"L{number}", f"{cache.size_bytes // 1024} KiB, {cache.ways} ways{shared}", cache))
        rows.append((f"L{number} latency cycles", f"{cache.latency_cycles.value:g}", cache.latency_cycles))
        for name in ("fill_bytes_per_cycle", "write_bytes_per_cycle"):
            if (figure := getattr(cache, name)) is not None:
                rows.append((f"L{number} {name.replace('_', ' ')}", f"{figure.value:g}", figure))
    for name in ("latency_cycles", "bytes_per_cycle", "write_bytes_per_cycle", "chip_bytes_per_cycle"):
        if (figure := getattr(timing.dram, name)) is not None:
            rows.append((f"DRAM {name.replace('_', ' ')}", f"{figure.value:g}", figure))
    return rows + [
        (f"cost of {name}", _cost_text(cost), timing.costs.sources[cost.known])
        for name, cost in timing.costs.cost.items()
    ]


def _cost_text(cost: Cost) -> str:
    busy = f"{cost.per_element:g} an element" if cost.per_element else _lmul_text(cost.busy)
    if cost.per_register:
        busy = f"{cost.per_register:g} a register, {busy} beyond {cost.fields} fields"
    for width in (8, 16, 64):
        if other := getattr(cost, f"busy_e{width}"):
            busy += f" (e{width} {_lmul_text(other)})"
    return f"{busy} on {' or '.join(cost.pipes)}, latency {_lmul_text(cost.latency)}"


def _lmul_text(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "/".join(f"{value:g}" for value in values)

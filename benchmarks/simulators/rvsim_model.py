"""The core that rvsim simulates for a target: the nearest one that its out-of-order model can be set to.

Pure values. rvsim's in-order core issues a vector operation only at the head of its reorder buffer, so that even an
in-order chip is nearest to a narrow out-of-order one (measured on the X60's microbenchmarks with rvsim 2.1.0: vfmacc M1
to M8 in 1, 2, 4.5 and 11 cycles, published 1, 2, 4 and 8; vle32 M1 to M8 in 3, 8 and 23, published 2.25, 8 and 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lrf_dse.errors import UsageError
from lrf_dse.target import Target, Timing

ARCHITECTURAL_REGISTERS = 32
MIN_RAM_BYTES = 16 << 20

_UNITS = {
    "IntAlu": "int_alu",
    "IntMul": "int_mul",
    "IntDiv": "int_div",
    "FpAdd": "float_add",
    "FpMul": "float_mul",
    "FpFma": "float_fma",
    "FpDivSqrt": "float_div",
    "Branch": "branch",
    "VecIntAlu": "v_int_alu",
    "VecIntMul": "v_int_mul",
    "VecIntDiv": "v_int_div",
    "VecFpAlu": "v_float_add",
    "VecFpFma": "v_float_fma",
    "VecFpDivSqrt": "v_float_div",
    "VecPermute": "v_slide",
}
"""rvsim's functional unit -> the operation of the target's cost table whose pipes and latency (at M1) it takes."""

_WINDOW_BY_WIDTH = 12
_SPARE_VECTOR_REGISTERS = 9


@dataclass(frozen=True)
class RvsimCache:
    """A cache; `latency_cycles` is its own, on top of the levels before it."""

    size_bytes: int
    ways: int
    latency_cycles: int


@dataclass(frozen=True)
class RvsimModel:
    """What rvsim is told; `units` are (count, latency) by the name of the functional unit. None: no vector unit."""

    width: int
    window: int
    vlen_bits: int | None
    vector_registers: int
    vector_lanes: int
    vector_bytes: int
    load_ports: int
    units: dict[str, tuple[int, int]]
    line_bytes: int
    caches: tuple[RvsimCache, ...]
    misses: int
    prefetch_streams: int
    prefetch_near_lines: int
    prefetch_far_lines: int
    dram_latency_cycles: int
    dram_gib_per_s: float
    freq_mhz: int


def model_of(target: Target) -> RvsimModel:
    """The simulated core nearest to `target`. Raises UsageError if the target has no timing figures."""
    timing, core = target.timing, target.core
    if timing is None or core.freq_hz is None or core.issue_width is None or core.fma_per_cycle is None:
        raise UsageError(f"rvsim has no model of target {target.name}: its file has no [timing]")
    width = round(core.issue_width.value)
    units = {unit: _unit(timing, operation) for unit, operation in _UNITS.items() if operation in timing.costs.cost}
    fma_pipes = units.get("VecFpFma", (1, 0))[0]
    loads = timing.costs.cost["load" if target.isa.vlen_bits is None else "v_load"]
    levels = [cache.latency_cycles.value for cache in timing.cache]
    return RvsimModel(
        width=width,
        window=round(timing.window.value) if timing.window else _WINDOW_BY_WIDTH * width,
        vlen_bits=target.isa.vlen_bits,
        # rvsim keeps a vector unit one cycle whatever the LMUL. With few registers to rename to, an operation on a
        # group waits for them instead, about LMUL cycles: 41 registers gave the X60's costs best.
        vector_registers=ARCHITECTURAL_REGISTERS + _SPARE_VECTOR_REGISTERS * fma_pipes,
        vector_lanes=_power_of_two(2 * core.fma_per_cycle.value, least=1, most=64),
        vector_bytes=_power_of_two(target.memory[0].read_bytes_per_cycle.value, least=8, most=64),
        load_ports=len(loads.pipes),
        units=units,
        line_bytes=timing.line_bytes,
        # A level's figure is load-to-use; rvsim adds a cycle for the load and one for each further level.
        caches=tuple(
            RvsimCache(cache.size_bytes, cache.ways, max(1, round(here - before) - 1))
            for cache, here, before in zip(timing.cache, levels, [0.0, *levels], strict=False)
        ),
        misses=round(timing.outstanding_misses.value),
        prefetch_streams=timing.prefetch.streams,
        prefetch_near_lines=timing.prefetch.near_lines,
        prefetch_far_lines=timing.prefetch.far_lines,
        dram_latency_cycles=round(timing.dram.latency_cycles.value - levels[-1]),
        dram_gib_per_s=timing.dram.bytes_per_cycle.value * core.freq_hz.value / 2**30,
        freq_mhz=round(core.freq_hz.value / 1e6),
    )


def _unit(timing: Timing, operation: str) -> tuple[int, int]:
    cost = timing.costs.cost[operation]
    return len(cost.pipes), max(1, round(cost.latency[0]))


def _power_of_two(value: float, *, least: int, most: int) -> int:
    """The largest power of two that is not above `value`, within the bounds."""
    return min(most, max(least, 1 << (int(value).bit_length() - 1)))


def config_of(model: RvsimModel, *, ram_bytes: int) -> dict[str, Any]:
    """`model` as the arguments that rvsim_process.py gives to rvsim: JSON values only."""
    units = {**model.units, "Mem": (model.load_ports, 1), "VecMem": (model.load_ports, 1)}
    return {
        "config": {
            "width": model.width,
            "vlen": model.vlen_bits or 128,
            "num_vec_lanes": model.vector_lanes,
            "vector_mem_width": model.vector_bytes,
            "ram_size": max(MIN_RAM_BYTES, ram_bytes),
            "cpu_clock_mhz": model.freq_mhz,
            # The serial line says the result and is no part of what is measured.
            "device_latency_ns": 0,
        },
        "backend": {
            "rob_size": model.window,
            "prf_vpr_size": model.vector_registers,
            "load_ports": model.load_ports,
        },
        "units": units,
        "caches": [
            {"size": cache.size_bytes, "line": model.line_bytes, "ways": cache.ways, "latency": cache.latency_cycles}
            for cache in model.caches
        ],
        "misses": model.misses,
        "prefetch": {
            "table_size": model.prefetch_streams,
            "l1_lines": model.prefetch_near_lines,
            "l2_lines": model.prefetch_far_lines,
        },
        "memory": {"latency": model.dram_latency_cycles, "bandwidth_gib_s": model.dram_gib_per_s},
    }

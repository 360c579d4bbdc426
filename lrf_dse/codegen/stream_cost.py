"""Cycles in closed form of what few bits add: streams, the state they prepare, and panels that are widened once."""

from __future__ import annotations

from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.tile_cost import AROUND_LOOP, CALL_SLOTS, LATE
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.traffic import level_rate
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing

HIDDEN_BADLY = 0.05
"""Share of what takes less time, instructions or bytes, that is not hidden behind the other."""

AROUND_WIDENING = 60
"""Cycles before a panel's first widened vector is stored and after its last, until tiles can read them."""

PREPARED_PASSES = 2
"""How often the state is read before a stream in half precision: for its largest element, and to round it."""


def stream_cycles(plan: StagePlan, touched: int, lanes: int, target: Target) -> float:
    """One call of a stream, with `touched` bytes between two of them. Raises ValueError if its registers do not fit."""
    if target.isa.vlen_bits is None:
        return max(3.0 * plan.k * plan.rows, _bytes_cycles(plan, touched, target))
    streams = [Stream(plan, run, lanes) for run in panel_runs(plan.panels)]
    arithmetic = sum(stream.run.count * _panel_cycles(stream, target) for stream in streams)
    both = arithmetic / min(plan.groups, target.core.count), _bytes_cycles(plan, touched, target)
    cycles = max(both) + HIDDEN_BADLY * min(both)
    return cycles + (_preparing_cycles(plan, lanes, target.timing) if streams[0].half and target.timing else 0.0)


def _bytes_cycles(plan: StagePlan, touched: int, target: Target) -> float:
    """The weights at the rate of the level that holds what is touched between two calls."""
    levels = [number for number, level in enumerate(target.memory) if touched <= (level.size_bytes or touched)]
    return FP32_BYTES * plan.packed.words(plan.panels) / level_rate(target, levels[0])


def _panel_cycles(stream: Stream, target: Target) -> float:
    """One panel: its units, and what lies around them."""
    registers, units, lmul = stream.registers, stream.units, stream.lmul
    if target.timing is None:
        return float(units * lmul * (2 + stream.widens))
    costs = target.timing.costs.cost
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    floats, whole = _busy(target.timing, stream)
    slots = _slots(stream)
    latency = costs["v_float_fma"].latency[_index(lmul)] / len(registers.sums) * stream.per_unit
    step = max(floats, whole, slots / width, latency) + LATE * slots
    around = (3 + len(registers.sums)) * costs["v_float_fma"].latency[_index(lmul)]
    around += costs["v_store"].busy[_index(lmul)]
    if (
        stream.widens and len(registers.temps) < 2 and not stream.nibbles_apart
    ):  # every product waits for its own widening
        step += costs["v_int_alu"].latency[_index(lmul / 2 if stream.half else lmul)]
    if not stream.crosses:
        around += AROUND_LOOP
    if stream.per_unit == 2:
        around += -(-units // stream.group_units) * (4 * costs["v_float_fma"].busy[_index(lmul)] + 4)
    return units * step + around + CALL_SLOTS / width / 4


def _busy(timing: Timing, stream: Stream) -> tuple[float, float]:
    """What a unit takes of the pipe for floats, and of the busiest other one."""
    costs, lmul, storage = timing.costs.cost, stream.lmul, stream.plan.storage
    load = costs["v_load"].busy[_index(lmul * stream.code_bits / 32)]
    if not stream.half:
        fma, alu = costs["v_float_fma"].busy[_index(lmul)], costs["v_int_alu"].busy[_index(lmul)]
        floats = {"fp32": fma, "fp16": 2 * fma, "int8": 2 * fma, "int4": 4 * fma}[storage]
        return floats, max(load, {"fp32": 0, "fp16": 3, "int8": 2, "int4": 5}[storage] * alu)
    product, alu = costs["v_float_widen"].busy[_index(lmul)], costs["v_int_alu"].busy[_index(lmul / 2)]
    return stream.per_unit * product, max(load, {"fp16": 0, "int8": 1, "int4": 3}[storage] * alu)


def _preparing_cycles(plan: StagePlan, lanes: int, timing: Timing) -> float:
    """What it takes to round the state."""
    costs = timing.costs.cost
    vectors = -(-plan.k // (4 * lanes))
    if plan.rounds_as_it_goes:
        summed = {"int8": costs["v_float_convert"].busy[2] + 4, "int4": 2 * costs["v_reduce_float"].busy[2]}
        each = costs["v_load"].busy[2] + summed.get(plan.storage, 0.0)
        return vectors * each + 3 * costs["v_reduce_float"].latency[0]
    each = PREPARED_PASSES * costs["v_load"].busy[2] + costs["v_float_convert"].busy[3] + costs["v_store"].busy[1]
    each += {"int8": costs["v_load"].busy[1], "int4": costs["v_reduce_float"].latency[2]}.get(plan.storage, 0.0)
    return vectors * each + 3 * costs["v_reduce_float"].latency[3]


def widening_cycles(plan: StagePlan, lanes: int, target: Target) -> float:
    """Widening all panels of one call, once."""
    if plan.storage == "fp32" or plan.is_stream:
        return 0.0
    elements = plan.k * plan.k_slices * sum(panel.width for panel in plan.panels)
    if target.timing is None or target.isa.vlen_bits is None:
        return 4.0 * elements
    costs = target.timing.costs.cost
    each = costs["v_store"].busy[2] + costs["v_load"].busy[0] + 2 * costs["v_int_alu"].busy[2] / 2
    around = len(plan.panels) * plan.k_slices * AROUND_WIDENING
    return elements / (4 * lanes) * (each + costs["v_float_mul"].busy[2]) + around


def _index(lmul: float) -> int:
    return max(0, min(3, int(lmul).bit_length() - 1))


def stream_issue_cycles(plan: StagePlan, lanes: int, target: Target) -> float:
    """What the instructions of a stream cannot beat: of every unit its busiest pipe, or its issue slots."""
    if target.timing is None or target.isa.vlen_bits is None:
        return float(plan.k * plan.rows)
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    cycles = 0.0
    for run in panel_runs(plan.panels):
        stream = Stream(plan, run, lanes)
        cycles += run.count * stream.units * max(*_busy(target.timing, stream), _slots(stream) / width)
    return cycles / min(plan.groups, target.core.count)


def _slots(stream: Stream) -> int:
    """Instructions of a unit: its load and the step of the pointer, what widens it, products and their scalars."""
    scalars = 0 if stream.resident else stream.per_unit
    widening = {"fp32": 0, "fp16": 4, "int8": 3, "int4": 7}[stream.plan.storage]
    if stream.half:
        widening = {"fp16": 0, "int8": 1, "int4": 3}[stream.plan.storage]
    if stream.rounds:
        scalars *= 2
    return 2 + widening + stream.per_unit + scalars

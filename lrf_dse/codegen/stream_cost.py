"""Cycles in closed form of what few bits add: streams, the state they prepare, and panels that are widened once."""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.codegen.plan import FEW_ELEMENTS, StagePlan
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.tile_cost import AROUND_LOOP, CALL_SLOTS, LATE
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.traffic import level_rate
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.schema import Storage
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing

HIDDEN_BADLY = 0.05
"""Share of what takes less time, instructions or bytes, that is not hidden behind the other."""

AROUND_WIDENING = 60
"""Cycles before a panel's first widened vector is stored and after its last, until tiles can read them."""

AROUND_PASS = 100
"""Cycles around the pass that rounds the state of a stream: its largest element, its sum."""
AROUND_FEW, FEW_EACH = 30, 3
"""Cycles to round a state of few elements: around them, and for each."""


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


@dataclass(frozen=True)
class _Issue:
    """What a panel takes of the pipe for floats, of that for integers, of that for memory, and of issue slots."""

    floats: float
    integers: float
    memory: float
    slots: float

    def cycles(self, width: float) -> float:
        """What it takes at least, `width` instructions a cycle."""
        return max(self.floats, self.integers, self.memory, self.slots / width)


def _panel_cycles(stream: Stream, target: Target) -> float:
    """One panel: its units, and what lies around them."""
    lmul = stream.lmul
    if target.timing is None:
        return float(stream.plan.k * lmul * (2 + stream.widens))
    costs = target.timing.costs.cost
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    issued = _issue(stream, target.timing)
    product = costs["v_float_widen" if stream.half else "v_float_fma"]
    waiting = stream.plan.k * product.latency[_index(lmul)] / stream.chains
    cycles = max(issued.cycles(width), waiting) + LATE * issued.slots
    around = (3 + stream.chains) * costs["v_float_fma"].latency[_index(lmul)]
    around += costs["v_store"].busy[_index(lmul)]
    if not stream.crosses:
        around += AROUND_LOOP
    return cycles + around + CALL_SLOTS / width / 4


_WIDENING: dict[tuple[Storage, bool], tuple[int, int, int]] = {
    ("int8", True): (0, 1, 1),
    ("int4", True): (0, 4, 1),
    ("fp16", False): (1, 1, 2),
    ("int8", False): (2, 3, 2),
    ("int4", False): (4, 8, 2),
}
"""Of one unit, with half precision and without: operations on floats, on integers, and shifts (so are extensions)."""


def _issue(stream: Stream, timing: Timing) -> _Issue:
    """The instructions of a panel: products, what widens codes, loads, and the ends of groups of int4."""
    costs, lmul, storage, plan = timing.costs.cost, stream.lmul, stream.plan.storage, stream.plan
    wide, lanes = _index(lmul), _index(lmul / 2 if stream.half else lmul)
    floats, integers, shifts = _WIDENING.get((storage, stream.half), (0, 0, 0))
    product = costs["v_float_widen" if stream.half else "v_float_fma"].busy[wide]
    ends = stream.groups * (stream.chains + (2 if stream.half else 1)) if storage == "int4" else 0
    scalars = 0 if stream.resident else 1
    each = costs["v_int_alu"].busy[lanes] * integers + costs["v_int_shift"].busy[lanes] * shifts
    load = costs["v_load"].busy[_index(lmul * stream.code_bits / 32)]
    return _Issue(
        floats=plan.k * product + (stream.units * floats + ends) * costs["v_float_fma"].busy[wide],
        integers=stream.units * each,
        memory=stream.units * load,
        slots=stream.units * (2 + floats + integers + shifts) + plan.k * (1 + scalars) + 2 * ends,
    )


def _preparing_cycles(plan: StagePlan, lanes: int, timing: Timing) -> float:
    """What it takes to round the state, and to sum it up where there are codes."""
    costs = timing.costs.cost
    if plan.k <= FEW_ELEMENTS:
        return AROUND_FEW + FEW_EACH * plan.k
    vectors = -(-plan.k // (4 * lanes))
    summed = {"int8": costs["v_float_widen"].busy[2], "int4": costs["v_reduce_float"].busy[1] + 3}
    floats = costs["v_float_convert"].busy[2] + summed.get(plan.storage, 0.0)
    memory = costs["v_load"].busy[2] + costs["v_store"].busy[1]
    return vectors * (max(floats, memory) + 1) + AROUND_PASS


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
    streams = (Stream(plan, run, lanes) for run in panel_runs(plan.panels))
    cycles = sum(stream.run.count * _issue(stream, target.timing).cycles(width) for stream in streams)
    return cycles / min(plan.groups, target.core.count)

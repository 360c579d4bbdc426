"""Cycles in closed form of what few bits add: streams, the state they prepare, and panels that are widened once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lrf_dse.codegen.plan import FEW_ELEMENTS, StagePlan
from lrf_dse.codegen.storage import PER_WORD
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.stream_short import require_fits, terms_of
from lrf_dse.codegen.tile_cost import AROUND_LOOP, CALL_SLOTS, LATE
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.traffic import level_rate
from lrf_dse.codegen.widening_halves import rounded_state
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.schema import Storage
from lrf_dse.target import Target
from lrf_dse.target.timing import Timing

HIDDEN_BADLY = 0.05
"""Share of what takes less time, instructions or bytes, that is not hidden behind the other."""

LINE_BYTES = 64

_HALVING: dict[Storage, tuple[float, float]] = {"int8": (0.5, 0.5), "int4": (2.0, 0.25)}
"""What makes a code half precision: operations on integers, and shifts."""

AROUND_WIDENING = 60
"""Cycles before a panel's first widened vector is stored and after its last, until tiles can read them."""

SHORT_GROUP = 14
"""Cycles at the end of a group of int4 in a short stream, until its scaled sums are in the total."""

_PAIRED = 2.0
AROUND_PASS = 100
"""Cycles around the pass that rounds the state of a stream: its largest element, its sum."""
AROUND_FEW, FEW_EACH = 30, 3
"""Cycles to round a state of few elements: around them, and for each."""


PLAIN: dict[Storage, float] = {"fp16": 7.5, "int8": 4.1, "int4": 4.0}
"""Cycles for an element of a stream in plain C on JH7110: half precision is made single in integer instructions."""


def stream_cycles(plan: StagePlan, touched: int, lanes: int, target: Target) -> float:
    """One call of a stream, with `touched` bytes between two of them. Raises ValueError if its registers do not fit."""
    if target.isa.vlen_bits is None:
        return PLAIN.get(plan.storage, 3.0) * plan.k * plan.rows
    streams = [Stream(plan, run, lanes) for run in panel_runs(plan.panels)]
    level = next(number for number, level in enumerate(target.memory) if touched <= (level.size_bytes or touched))
    # A line that comes from beyond the first cache also keeps the pipe for loads busy.
    filled = _fill_cycles(target) if level else 0.0
    panel_cycles = _short_cycles if plan.is_short else _panel_cycles
    arithmetic = sum(stream.run.count * panel_cycles(stream, target, filled) for stream in streams)
    # Arithmetic and bytes run side by side; the shorter of the two is hidden but for a share.
    both = arithmetic / min(plan.groups, target.core.count), _bytes_cycles(plan, level, target)
    # A short stream loads a turn ahead: from beyond the first cache that is late.
    hidden = 1.0 if plan.is_short and level else HIDDEN_BADLY
    cycles = max(both) + hidden * min(both)
    if not streams[0].half or not target.timing:
        return cycles
    read = FP32_BYTES * plan.in_floats / level_rate(target, level)
    return cycles + max(_preparing_cycles(plan, lanes, target.timing), read + AROUND_PASS)


def _short_cycles(stream: Stream, target: Target, filled: float) -> float:
    """One panel of a short stream: its turns, between which nothing overlaps, and what lies around them."""
    require_fits(stream)
    if target.timing is None:
        return float(stream.plan.k * stream.lmul * 3)
    costs, wide = target.timing.costs.cost, _index(stream.lmul)
    turns, size = -(-stream.plan.k // terms_of(stream)), stream.plan.packed.panel_bytes(stream.run.first.width)
    issued = _short_issue(stream, target.timing) + _Issue(0.0, 0.0, filled * size, 0.0)
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    around = 3 * costs["v_float_fma"].latency[wide] + costs["v_store"].busy[wide] + AROUND_LOOP
    ends = SHORT_GROUP * stream.groups if stream.plan.storage == "int4" else 0
    return issued.cycles(width) + 2 * turns * costs["v_config"].latency[0] + ends + around


def _short_issue(stream: Stream, timing: Timing) -> _Issue:
    """The instructions of a panel of a short stream: loads, what widens codes, products; vector types twice a turn."""
    costs, wide, narrow = timing.costs.cost, _index(stream.lmul), _index(stream.lmul / 2)
    integers, shifts = {"int8": (1, 1), "int4": (4, 1)}.get(stream.plan.storage, (0, 0))
    each = costs["v_int_alu"].busy[narrow] * integers + costs["v_int_shift"].busy[narrow] * shifts
    product = costs["v_float_fma"].busy[wide] + costs["v_float_widen"].busy[wide]
    slots = stream.units * (2 + integers + shifts) + 3 * stream.plan.k + 2 * -(-stream.plan.k // terms_of(stream))
    memory = stream.units * costs["v_load"].busy[narrow] + costs["v_store"].busy[wide]
    return _Issue(stream.plan.k * product, stream.units * each, memory, slots)


def _fill_cycles(target: Target) -> float:
    """Cycles of the memory pipe for a byte that comes from beyond the first cache."""
    cycles = target.timing.line_fill_cycles if target.timing else None
    return cycles.value / LINE_BYTES if cycles else 0.0


def _bytes_cycles(plan: StagePlan, level: int, target: Target) -> float:
    """The weights at the rate of the level of memory that holds what is touched between two calls."""
    return FP32_BYTES * plan.packed.words(plan.panels) / level_rate(target, level)


@dataclass(frozen=True)
class _Issue:
    """What instructions take of the pipe for floats, of that for integers, of that for memory, and of issue slots."""

    floats: float
    integers: float
    memory: float
    slots: float

    def __add__(self, other: _Issue) -> _Issue:
        return _Issue(
            self.floats + other.floats,
            self.integers + other.integers,
            self.memory + other.memory,
            self.slots + other.slots,
        )

    def times(self, count: int) -> _Issue:
        """The same `count` times."""
        return _Issue(*(count * part for part in (self.floats, self.integers, self.memory, self.slots)))

    def cycles(self, width: float) -> float:
        """What it takes at least, `width` instructions a cycle."""
        return max(self.floats, self.integers, self.memory, self.slots / width)


def _panel_cycles(stream: Stream, target: Target, filled: float) -> float:
    """One panel: its units, and what lies around them. Each byte keeps the memory pipe `filled` cycles longer."""
    lmul = stream.lmul
    if target.timing is None:
        return float(stream.plan.k * lmul * (2 + stream.widens))
    costs = target.timing.costs.cost
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    size = stream.plan.packed.panel_bytes(stream.run.first.width)
    issued = _issue(stream, target.timing) + _Issue(0.0, 0.0, filled * size, 0.0)
    product = costs["v_float_widen" if stream.half else "v_float_fma"]
    # Products of one sum wait for each other; `chains` sums take turns.
    waiting = stream.plan.k * product.latency[_index(lmul)] / stream.chains
    cycles = max(issued.cycles(width), waiting) + LATE * issued.slots
    around = 3 * costs["v_float_fma"].latency[_index(lmul)] + costs["v_store"].busy[_index(lmul)]
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
"""By storage, and whether products are half: operations on floats, on integers, and shifts or extensions of a unit."""


def _issue(stream: Stream, timing: Timing) -> _Issue:
    """The instructions of a panel: loads, what widens codes, products, ends of groups of int4, scales, the store."""
    costs, lmul, storage, plan = timing.costs.cost, stream.lmul, stream.plan.storage, stream.plan
    wide, lanes = _index(lmul), _index(lmul / 2 if stream.half else lmul)
    floats, integers, shifts = _WIDENING.get((storage, stream.half), (0, 0, 0))
    product = costs["v_float_widen" if stream.half else "v_float_fma"].busy[wide]
    ends = stream.groups * (stream.chains + (2 if stream.half else 1)) if storage == "int4" else stream.chains - 1
    ends += stream.half * {"int8": 3, "fp16": 1, "int4": 1}.get(storage, 0) or int(storage == "int8")
    scalars = 0 if stream.resident else 1
    each = costs["v_int_alu"].busy[lanes] * integers + costs["v_int_shift"].busy[lanes] * shifts
    load = costs["v_load"].busy[_index(lmul * stream.code_bits / 32)]
    whole = plan.k * product + (stream.units * floats + ends) * costs["v_float_fma"].busy[wide]
    # Where one pipe does both, operations on integers delay products.
    if costs["v_int_alu"].pipes == costs["v_float_fma"].pipes:  # one pipe for both
        whole += stream.units * each
    memory = stream.units * load + costs["v_store"].busy[wide]
    memory += {"int8": costs["v_load"].busy[wide], "int4": stream.groups * costs["v_load"].busy[lanes]}.get(
        storage, 0.0
    )
    return _Issue(
        floats=whole,
        integers=stream.units * each,
        memory=memory,
        slots=stream.units * (2 + floats + integers + shifts) + plan.k * (1 + scalars) + 2 * ends,
    )


def _preparing_cycles(plan: StagePlan, lanes: int, timing: Timing) -> float:
    """What it takes to round the state, and to sum it up where there are codes."""
    if plan.k <= FEW_ELEMENTS:
        return AROUND_FEW + FEW_EACH * plan.k
    return _rounding(plan, lanes, timing).cycles(_PAIRED) + -(-plan.k // (4 * lanes)) + AROUND_PASS


def _rounding(plan: StagePlan, lanes: int, timing: Timing) -> _Issue:
    """The instructions that round a state of many elements, keep its largest, and sum it up where there are codes."""
    costs = timing.costs.cost
    vectors = -(-plan.k // (4 * lanes))
    summed = {"int8": costs["v_float_widen"].busy[2], "int4": costs["v_reduce_float"].at(16)[0][1]}
    floats = costs["v_float_convert"].busy[2] + summed.get(plan.storage, 0.0)
    memory = costs["v_load"].busy[2] + costs["v_store"].busy[1]
    return _Issue(floats, 2 * costs["v_int_alu"].busy[1], memory, 6 + len(summed)).times(vectors)


def widening_cycles(plan: StagePlan, lanes: int, target: Target) -> float:
    """Widening all panels of one call, once, and rounding the state where tiles multiply in half precision."""
    if plan.storage == "fp32" or plan.is_stream:
        return 0.0
    if plan.in_half and target.timing is not None:
        return _halving_cycles(plan, lanes, target, target.timing)
    elements = plan.k * plan.k_slices * sum(panel.width for panel in plan.panels)
    if target.timing is None or target.isa.vlen_bits is None:
        return 4.0 * elements
    costs = target.timing.costs.cost
    each = costs["v_store"].busy[2] + costs["v_load"].busy[0] + 2 * costs["v_int_alu"].busy[2] / 2
    around = float(len(plan.panels) * plan.k_slices * AROUND_WIDENING)
    if not _stays_near(plan, target):
        around += FP32_BYTES * elements / _written_rate(target, target.timing)
    return elements / (4 * lanes) * (each + costs["v_float_mul"].busy[2]) + around


def _halving_cycles(plan: StagePlan, lanes: int, target: Target, timing: Timing) -> float:
    """Panels of codes made half precision, a vector for each element along K, and the state rounded to it."""
    cycles = _preparing_cycles(rounded_state(plan), lanes, timing)
    if plan.storage == "fp16":
        return cycles
    costs, (integers, shifts) = timing.costs.cost, _HALVING[plan.storage]
    written = 0.0 if _stays_near(plan, target) else 2 / _written_rate(target, timing)
    for width, count in Counter(panel.width for panel in plan.panels).items():
        index = _index(width / (2 * lanes))
        load, store = (costs[f"v_{name}"].busy[index] for name in ("load", "store"))
        issued = integers * costs["v_int_alu"].busy[index] + shifts * costs["v_int_shift"].busy[index]
        each = max(issued, store + load / PER_WORD[plan.storage]) + written * width
        cycles += count * plan.k_slices * (plan.k * each + AROUND_WIDENING)
    return cycles


def _stays_near(plan: StagePlan, target: Target) -> bool:
    """Whether what is widened at a time takes half of the first cache at most; else it goes on into the next one."""
    widened = plan.k * plan.how.panels * max(panel.width for panel in plan.panels)
    return (2 if plan.in_half else FP32_BYTES) * widened <= (target.memory[0].size_bytes or 0) // 2


def _written_rate(target: Target, timing: Timing) -> float:
    """Bytes per cycle from the first cache to the next one."""
    rate = timing.cache[0].write_bytes_per_cycle if timing.cache else None
    return rate.value if rate else level_rate(target, min(1, len(target.memory) - 1))


def _index(lmul: float) -> int:
    return max(0, min(3, int(lmul).bit_length() - 1))


def stream_issue_cycles(plan: StagePlan, lanes: int, target: Target) -> float:
    """What the instructions of a stream cannot beat: all that one of the pipes has to do, or the issue slots."""
    if target.timing is None or target.isa.vlen_bits is None:
        return float(plan.k * plan.rows)
    width = target.core.issue_width.value if target.core.issue_width else 1.0
    total = _Issue(0.0, 0.0, 0.0, 0.0)
    for stream in (Stream(plan, run, lanes) for run in panel_runs(plan.panels)):
        if plan.is_short:
            total += _short_issue(stream, target.timing).times(stream.run.count)
            continue
        total += _issue(stream, target.timing).times(stream.run.count)
        # The state is rounded once for all panels, so only the first run counts it.
        if stream.half and plan.k > FEW_ELEMENTS and stream.run.first is plan.panels[0]:
            total += _rounding(plan, lanes, target.timing)
    return total.cycles(width) / min(plan.groups, target.core.count)

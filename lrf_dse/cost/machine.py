"""What the closed form takes from a target, as plain numbers; and where the data of a layer lie when it runs again.

Bytes and cycles. "Near" is the first cache, "far" what lies behind the last one: memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.cost.matmuls import MatMul, ceil_div
from lrf_dse.cost.prefetch import Prefetcher
from lrf_dse.target import Target

_USABLE = 0.9  # of a cache: the rest holds the stack, tables and pieces of the other operand
_FAR_FROM, _FAR_TO = 0.92, 1.3  # of the last cache: nothing is read from memory below, everything above
_MASKED_ROWS = 5  # accumulators beside which there are registers for a mask and for what it merges

PerLmul = tuple[float, float, float, float]


@dataclass(frozen=True)
class Machine:
    """One core. `step` and the costs of odd rows are ClosedForm's; `multiply_add` the busy cycles of one, by LMUL.

    `near_wait` and `far_wait` are how much later than from the near cache a line comes; `after_load` the way from a
    line's arrival to the end of what it feeds, by LMUL.
    """

    lanes: int
    near_bytes: int
    near_sets: int
    near_ways: int
    last_bytes: int
    near_wait: float
    far_wait: float
    far_bytes_per_cycle: float
    after_load: PerLmul
    multiply_add: PerLmul
    step: PerLmul
    masked_row: float
    spilled_row: float
    ragged_row: float
    prefetcher: Prefetcher

    def step_cycles(self, rows: int, lmul: int, *, masked: bool = False, ragged: bool = False) -> float:
        """One step of an inner loop from the near cache: load a vector, multiply-add it into `rows` accumulators."""
        at = _at(lmul)
        if ragged:
            return self.step[at] + rows * self.ragged_row
        if masked:
            return self.step[at] + rows * self.masked_row + max(0, rows - _MASKED_ROWS) * self.spilled_row
        return self.step[at] + rows * self.multiply_add[at]

    def far_step_cycles(self, lines: float, lmul: int) -> float:
        """The least that a step takes whose `lines` come from memory."""
        return lines * self.prefetcher.line_bytes / self.far_bytes_per_cycle + self.after_load[_at(lmul)]


def machine_of(target: Target) -> Machine | None:
    """None where the target has no coefficients, or lacks the timing model or the vector unit that they are for."""
    timing, form = target.timing, target.closed_form
    if timing is None or form is None or target.isa.vlen_bits is None:
        return None
    near, fma, prefetch = timing.cache[0], timing.costs.cost["v_float_fma"], timing.prefetch
    first = near.latency_cycles.value
    behind = timing.cache[1].latency_cycles.value if len(timing.cache) > 1 else timing.dram.latency_cycles.value
    return Machine(
        lanes=target.fp32_lanes,
        near_bytes=near.size_bytes,
        near_sets=near.size_bytes // (near.ways * timing.line_bytes),
        near_ways=near.ways,
        last_bytes=timing.cache[-1].size_bytes,
        near_wait=behind - first,
        far_wait=timing.dram.latency_cycles.value - first,
        far_bytes_per_cycle=timing.dram.bytes_per_cycle.value,
        after_load=_per_lmul([first + latency for latency in fma.latency]),
        multiply_add=fma.busy,
        step=form.step,
        masked_row=form.masked_row,
        spilled_row=form.spilled_row,
        ragged_row=form.ragged_row,
        prefetcher=Prefetcher(timing.line_bytes, prefetch.near_lines, prefetch.far_lines),
    )


def weight_bytes(m: MatMul) -> int:
    """Of one stage; of a batched one every slice has a copy of A, as IREE broadcasts it."""
    return FP32_BYTES * m.k * (m.columns if m.weights == "B" else m.rows * m.batches)


def state_bytes(m: MatMul) -> int:
    """Input and output of one stage."""
    read = m.rows * m.k if m.weights == "B" else m.batches * m.k * m.columns
    return FP32_BYTES * (read + m.batches * m.rows * m.columns)


def far_share(machine: Machine, footprint_bytes: int) -> float:
    """The share of the weights that is read from memory, between all that fit the last cache and all that do not."""
    over = footprint_bytes / machine.last_bytes - _FAR_FROM
    return min(1.0, max(0.0, over / (_FAR_TO - _FAR_FROM)))


def stays_near(machine: Machine, rows: int, pitch: int, width: int, *, beside: int) -> bool:
    """Whether a panel of `rows` x `width` bytes, `pitch` apart, stays in the near cache with `beside` bytes more.

    Rows at a pitch of a large power of two share few sets of it.
    """
    line = machine.prefetcher.line_bytes
    if rows * width + beside > _USABLE * machine.near_bytes:
        return False
    if pitch <= width:
        return ceil_div(rows * pitch, line) <= machine.near_sets * machine.near_ways
    lines = ceil_div(width, line) + (pitch % line != 0)
    starts = machine.near_sets
    if pitch % line == 0:
        starts = min(starts, machine.near_sets // gcd(pitch // line, machine.near_sets) * lines)
    return rows * lines <= _USABLE * starts * machine.near_ways


def stays_in_last(machine: Machine, size_bytes: int) -> bool:
    """Whether an operand that is read more than once comes from the last cache from the second time on."""
    return size_bytes <= _USABLE * machine.last_bytes


def _per_lmul(values: Sequence[float]) -> PerLmul:
    m1, m2, m4, m8 = values
    return m1, m2, m4, m8


def _at(lmul: int) -> int:
    return lmul.bit_length() - 1

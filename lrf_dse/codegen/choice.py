"""Which schedules a kernel may have, ranked by the closed form; the first is the default. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from lrf_dse.codegen.closed_form import issued_cycles, predicted_cycles
from lrf_dse.codegen.microkernel import VECTOR_REGISTERS
from lrf_dse.codegen.schedule import LMULS, KernelSchedule, StageSchedule, VectorAxis
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stages import contraction_orders, stages_of
from lrf_dse.target import Target

_ORDERS = 3
"""Orders that are looked at, the fewest multiply-adds first."""
_SCALAR_BLOCK = 4
"""Sums at a time in plain C."""


def default_schedule(spec: KernelSpec, target: Target) -> KernelSchedule:
    """The schedule that the closed form likes best."""
    return schedules(spec, target, 1)[0]


def schedules(spec: KernelSpec, target: Target, limit: int) -> tuple[KernelSchedule, ...]:
    """At most `limit` schedules, best first."""
    cost = _cost(spec, target)
    orders = sorted(contraction_orders(len(spec.core_shapes)), key=lambda order: _multiply_adds(spec, order))[:_ORDERS]
    found = {schedule for order in orders for schedule in _of_order(spec, target, order, cost)}
    return tuple(sorted(found, key=lambda schedule: (cost(schedule), str(schedule)))[:limit])


def _cost(spec: KernelSpec, target: Target) -> Callable[[KernelSchedule], float]:
    def cost(schedule: KernelSchedule) -> float:
        cycles = predicted_cycles(spec, schedule, target)
        return issued_cycles(spec, schedule) if cycles is None else cycles

    return cost


def _multiply_adds(spec: KernelSpec, order: tuple[int, ...]) -> int:
    return sum(stage.count.flops for stage in stages_of(spec.core_shapes, order, batch=spec.batch))


def _of_order(
    spec: KernelSpec, target: Target, order: tuple[int, ...], cost: Callable[[KernelSchedule], float]
) -> Iterator[KernelSchedule]:
    """Schedules of one order: every stage's best choice while the others stay as they are, then what was second."""
    merges = (1,) * len(order)
    choices = [tuple(_stage_schedules(target))] * len(order)
    best = KernelSchedule(order, merges, target.fp32_lanes, tuple(options[0] for options in choices))
    for number, options in enumerate(choices):
        variants = [_with_stage(best, number, option) for option in options]
        variants.sort(key=cost)
        yield from variants[:4]
        best = variants[0]
    yield best


def _with_stage(schedule: KernelSchedule, number: int, how: StageSchedule) -> KernelSchedule:
    stages = (*schedule.stages[:number], how, *schedule.stages[number + 1 :])
    return KernelSchedule(schedule.order, schedule.merges, schedule.lanes, stages)


def _stage_schedules(target: Target) -> Iterator[StageSchedule]:
    """What a stage may look like: every vector axis and LMUL, with sums in all registers or in half of them."""
    if target.isa.vlen_bits is None:
        yield StageSchedule("columns", 1, _SCALAR_BLOCK)
        return
    axes: tuple[VectorAxis, ...] = ("columns", "rows")
    for vector, lmul in product(axes, LMULS):
        most = VECTOR_REGISTERS // lmul - 2
        for block in sorted({most, max(1, (most + 1) // 2), min(most, 16)}, reverse=True):
            yield StageSchedule(vector, lmul, block)

"""Measure what a target's operations cost on a real board: `lrf-dse calibrate`.

The module owns the way from cycles of loops to the entries of a table of costs. A test runs the same loops under the
timing model and gets the model's own table back (tests/benchmarks/test_calibrate.py): loops and model mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from lrf_dse.calibrate.board_cases import BoardCase, cycles_of, time_cases
from lrf_dse.calibrate.board_program import BARRIERS, bodies_of, input_of, link_micros
from lrf_dse.calibrate.calibration import Calibration, MeasuredCost
from lrf_dse.calibrate.micro import Micro
from lrf_dse.calibrate.probes import CALL, LMULS, Case, cases_of, machine_cases, measurable
from lrf_dse.errors import RunError, UsageError
from lrf_dse.progress import Progress, silent
from lrf_dse.runners.board import Board
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import FP32_BITS, Target, Timing

POLICY = RepeatPolicy(max_repeats=160, time_limit_s=3.0, warm_up_s=0.05)
"""There are hundreds of loops, and none takes longer than some milliseconds."""

BARRIER = "timing barrier_cycles"
# As many cores as share the L2 of a K1.
_BARRIER_THREADS = 4


@dataclass(frozen=True)
class Loops:
    """What is to be measured: costs of operations, and figures of the machine by their place in a target file."""

    cases: tuple[Case, ...]
    figures: Mapping[str, Micro]
    barrier_threads: int | None

    @property
    def micros(self) -> list[Micro]:
        """All loops, in the order of the program."""
        return [CALL, *(case.micro for case in self.cases), *self.figures.values()]


def loops_of(target: Target, only: Sequence[str] = ()) -> Loops:
    """The loops for `target`, or for those of its operations and figures that `only` names. Raises UsageError."""
    timing = _timing(target)
    figures = machine_cases(timing)
    threads = min(_BARRIER_THREADS, target.core.count)
    valid = [*measurable(target), *figures, *([BARRIER] if threads > 1 else [])]
    if unknown := [name for name in only if name not in valid]:
        raise UsageError(f"--only {unknown[0]!r}: use one of {', '.join(valid)}")
    wanted = only or valid
    cases = [case for name in measurable(target) if name in wanted for case in cases_of(name)]
    chosen = {place: micro for place, micro in figures.items() if place in wanted}
    return Loops(tuple(cases), chosen, threads if BARRIER in wanted else None)


def _timing(target: Target) -> Timing:
    if target.timing is None:
        raise UsageError(f"target {target.name} has no timing model: there is nothing to calibrate")
    return target.timing


def calibrate(
    target: Target,
    board: Board,
    work: Path,
    *,
    only: Sequence[str] = (),
    allow_emulator: bool = False,
    policy: RepeatPolicy = POLICY,
    now: datetime | None = None,
    progress: Progress = silent,
) -> Calibration:
    """The costs of `target` as measured on `board`; files go to the folder `work`.

    Raises UsageError for a target without a timing model, or a board without times of its own unless that is allowed
    (its figures are never written); RunError where the board fails, or nothing could be measured.
    """
    loops = loops_of(target, only)
    program = link_micros(loops.micros, target, work / "program")
    asked = _questions(loops)
    outcomes = time_cases(
        program,
        asked,
        board,
        target.isa,
        work=work / "board",
        allow_emulator=allow_emulator,
        policy=policy,
        progress=progress,
    )
    measured = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Measurement)}
    failures = {name: outcome.reason for name, outcome in outcomes.items() if isinstance(outcome, Failure)}
    # Every figure is a difference to this loop.
    if CALL.name not in measured:
        raise RunError(f"board {board.host}: not even an empty loop can be measured: {failures[CALL.name]}")
    known = {name: cycles_of(measurement, target) for name, measurement in measured.items()}
    cycles = {name: cycles for name, (cycles, _) in known.items()}
    figures = figures_of(loops, cycles, failures)
    return Calibration(
        target=target.name,
        host=board.host,
        date=f"{now or datetime.now(UTC):%Y-%m-%d}",
        how=" or ".join(sorted({how for _, how in known.values()})),
        program=hashlib.sha256(program.read_bytes()).hexdigest(),
        emulator=next(m.board.emulator for m in measured.values() if m.board is not None),
        costs=costs_of(loops.cases, cycles, target, failures),
        figures=figures,
        failures=failures,
    )


def _questions(loops: Loops) -> dict[str, BoardCase]:
    """A run of the program for every loop by name; that of a baseline has the name of `_less`."""
    asked: dict[str, BoardCase] = {}
    bodies = bodies_of(loops.micros)
    for number, (micro, _) in enumerate(bodies):
        # `bodies_of` puts a baseline right behind its loop, so the second body of a name is the baseline.
        name = _less(micro) if micro.name in asked else micro.name
        asked[name] = BoardCase(input_of(number))
    if loops.barrier_threads is not None:
        asked[BARRIER] = BoardCase(input_of(len(bodies)), threads=loops.barrier_threads)
    return asked


def _less(micro: Micro) -> str:
    return f"{micro.name}, less"


def value_of(micro: Micro, cycles: Mapping[str, float]) -> float | None:
    """The figure of one loop; None where it, or what is subtracted, was not measured, or is lost in the noise."""
    # A baseline contains the call as well, so it is subtracted once in either case.
    baseline = CALL.name if micro.baseline is None else _less(micro)
    if micro.name not in cycles or baseline not in cycles:
        return None
    own = cycles[micro.name] - cycles[baseline]
    # Noise can make a loop of free instructions look faster than an empty one.
    return micro.value(own) if own > 0 else None


def figures_of(loops: Loops, cycles: Mapping[str, float], failures: dict[str, str]) -> dict[str, float]:
    """The figures of the machine by their place; adds to `failures` those that are lost in the noise."""
    values = {place: value_of(micro, cycles) for place, micro in loops.figures.items()}
    if loops.barrier_threads is not None:
        values[BARRIER] = cycles[BARRIER] / BARRIERS if BARRIER in cycles else None
    for place, value in values.items():
        if value is None:
            failures.setdefault(place, "not longer than what surrounds it, or not measured")
    return {place: value for place, value in values.items() if value is not None}


def costs_of(
    cases: Iterable[Case], cycles: Mapping[str, float], target: Target, failures: dict[str, str]
) -> dict[str, MeasuredCost]:
    """The measured costs by operation; adds to `failures` the loops that are lost in the noise.

    A part of a cost is known only at all its LMULs, or not at all.
    """
    parts: dict[str, dict[str, dict[int | None, float | None]]] = {}
    for case in cases:
        value = value_of(case.micro, cycles)
        parts.setdefault(case.operation, {}).setdefault(case.part, {})[case.lmul] = value
        if value is None:
            failures.setdefault(case.micro.name, "not longer than an empty loop")
    costs = {name: _cost(name, found, target) for name, found in parts.items()}
    return {name: cost for name, cost in costs.items() if cost != MeasuredCost()}


def _cost(name: str, found: Mapping[str, Mapping[int | None, float | None]], target: Target) -> MeasuredCost:
    """The cost of one operation. Independent instructions share its pipes: each is busy that many times as long."""
    cost = _timing(target).costs.cost[name]
    each = _whole(found.get("busy", {}))
    busy = None if each is None else {lmul: value * len(cost.pipes) for lmul, value in each.items()}
    latency = _whole(found.get("latency", {}))
    # One figure for all LMULs, as the table has it: the median is not moved by an LMUL that behaves otherwise.
    if busy is not None and cost.per_element and target.isa.vlen_bits is not None:
        lanes = target.isa.vlen_bits // FP32_BITS
        rates = [value / (lanes * (lmul or 1)) for lmul, value in busy.items()]
        return MeasuredCost(latency=_per_lmul(latency), per_element=median(rates))
    return MeasuredCost(busy=_per_lmul(busy), latency=_per_lmul(latency))


def _whole(values: Mapping[int | None, float | None]) -> dict[int | None, float] | None:
    known = {lmul: value for lmul, value in values.items() if value is not None}
    return known if known and len(known) == len(values) else None


def _per_lmul(values: Mapping[int | None, float] | None) -> tuple[float, ...] | None:
    """Four figures, for M1, M2, M4 and M8; a single one stands for all of them."""
    if values is None:
        return None
    return tuple(values.values()) if len(values) == len(LMULS) else tuple(values.values()) * len(LMULS)

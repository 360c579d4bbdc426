"""Cycles of a few instructions on a target's core: the timing plugin's rules of issue, without caches and branches.

In program order, as many a cycle as the core issues, each when its operands and one of its pipes are free; or from a
window, each as soon as they are. An instruction names registers by any text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lrf_dse.target import Target
from lrf_dse.target.timing import Cost


@dataclass(frozen=True)
class Instruction:
    """An operation of the cost table, what it writes (None: nothing), and what it reads."""

    operation: str
    result: str | None = None
    operands: tuple[str, ...] = ()


def cycles_of(instructions: Iterable[Instruction], target: Target) -> float:
    """Cycles from the first issue to the last result. Raises ValueError for a target without a timing model."""
    core = _Core(target)
    for instruction in instructions:
        core.step(instruction)
    return core.end


def cycles_of_loop(start: list[Instruction], turn: list[Instruction], turns: int, target: Target) -> float:
    """`start`, then `turns` times `turn`. A long loop is followed until it is steady."""
    first, last = _FOLLOWED // 2, _FOLLOWED
    if turns <= last:
        return cycles_of(start + turn * turns, target)
    # Once it is steady, each turn takes as long as the average of those between the two lengths.
    half, whole = (cycles_of(start + turn * count, target) for count in (first, last))
    return whole + (turns - last) * (whole - half) / (last - first)


_FOLLOWED = 8
"""Turns until every loop so far was steady, with as many again to measure one."""


@dataclass
class _Core:
    """The state of the core. In order, `free` is when a pipe is free again; in a window, `busy` holds its cycles."""

    target: Target
    cycle: float = 0.0
    slots: int = 0
    end: float = 0.0
    ready: dict[str, float] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=dict)
    busy: dict[str, set[int]] = field(default_factory=dict)
    retired: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        timing, width = self.target.timing, self.target.core.issue_width
        if timing is None or width is None:
            raise ValueError(f"target {self.target.name} has no timing model")
        self.costs, self.width = timing.costs.cost, round(width.value)
        self.window = 0 if timing.window is None else round(timing.window.value)

    def step(self, instruction: Instruction) -> None:
        cost = self.costs[instruction.operation]
        operands = max((self.ready.get(name, 0.0) for name in instruction.operands), default=0.0)
        start = self._from_window(cost, operands) if self.window else self._in_order(cost, operands)
        done = start + cost.latency[0]
        if instruction.result is not None:
            self.ready[instruction.result] = done
        self.end = max(self.end, done)
        if self.window:
            # Instructions retire in program order: none before the one in front of it.
            self.retired.append(max(done, self.retired[-1] if self.retired else 0.0))

    def _in_order(self, cost: Cost, operands: float) -> float:
        # In order: not before the last instruction, and a cycle after it where its cycle is full.
        earliest = max(self.cycle + (self.slots == self.width), operands)
        pipe = min(cost.pipes, key=lambda name: self.free.get(name, 0.0))
        start = max(earliest, self.free.get(pipe, 0.0))
        self.free[pipe] = start + cost.busy[0]
        self._count(start)
        return start

    def _from_window(self, cost: Cost, operands: float) -> float:
        entry = self.cycle + (self.slots == self.width)
        if len(self.retired) >= self.window:
            # The window is full until the instruction that entered `window` places before has retired.
            entry = max(entry, self.retired[-self.window])
        self._count(entry)
        length = max(1, round(cost.busy[0]))
        # An instruction that enters the window in one cycle starts in the next one at the earliest.
        starts = {name: self._gap(name, max(entry + 1, operands), length) for name in cost.pipes}
        pipe = min(cost.pipes, key=starts.__getitem__)
        self.busy.setdefault(pipe, set()).update(range(int(starts[pipe]), int(starts[pipe]) + length))
        return starts[pipe]

    def _gap(self, pipe: str, earliest: float, length: int) -> float:
        taken, start = self.busy.setdefault(pipe, set()), int(earliest)
        while any(cycle in taken for cycle in range(start, start + length)):
            start += 1
        return float(start)

    def _count(self, cycle: float) -> None:
        self.slots = self.slots + 1 if cycle == self.cycle and self.slots else 1
        self.cycle = cycle

"""The account of processor time, of this process and of the programs that it starts, by purpose.

The module owns the running account of this process, which only grows: what something took is the difference of two
looks at it. An account is exact for programs (the system counts what a child and its children took) and for the thread
that did the work; what library threads do beside that is counted with the main thread.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

REST = "rest"
"""The purpose of everything for which no block names one: starting up, reading files, records, the report."""


@dataclass(frozen=True)
class Spending:
    """Processor seconds in all and by purpose, seconds on the clock alike, and how often each program ran.

    `programs` holds (runs, processor seconds) by the program's name; its seconds are in `cpu_s` too.
    """

    cpu_s: Mapping[str, float] = field(default_factory=dict)
    wall_s: Mapping[str, float] = field(default_factory=dict)
    programs: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def total_cpu_s(self) -> float:
        """Processor seconds of everything."""
        return sum(self.cpu_s.values())

    @property
    def total_wall_s(self) -> float:
        """Seconds on the clock."""
        return sum(self.wall_s.values())

    def __add__(self, other: Spending) -> Spending:
        """The sums of both."""
        runs = {
            name: (self.programs.get(name, (0, 0.0))[0] + count, self.programs.get(name, (0, 0.0))[1] + cpu_s)
            for name, (count, cpu_s) in other.programs.items()
        }
        return Spending(_added(self.cpu_s, other.cpu_s), _added(self.wall_s, other.wall_s), {**self.programs, **runs})


def _added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in (*one, *(n for n in other if n not in one))}


@contextmanager
def spent_on(purpose: str) -> Iterator[None]:
    """What this thread does in the block, and the programs that it waits for, is spent on `purpose`.

    A block inside another has its own purpose, and does not count for the outer one.
    """
    stack = _blocks()
    block = _Block(purpose)
    # An inner block pauses the outer one, so that no second is counted twice.
    if stack:
        stack[-1].pause()
    stack.append(block)
    try:
        yield
    finally:
        block.pause()
        stack.pop()
        if stack:
            stack[-1].go_on()


@contextmanager
def waiting() -> Iterator[None]:
    """In the block this thread waits for others, and its seconds are not counted: those threads count theirs."""
    stack = _blocks()
    if stack:
        stack[-1].pause()
    try:
        yield
    finally:
        if stack:
            stack[-1].go_on()


def program_ended(name: str, used: resource.struct_rusage) -> None:
    """Count a program of that `name`, which took what the system says of it and of those that it waited for."""
    stack, cpu_s = _blocks(), used.ru_utime + used.ru_stime
    with _ACCOUNT.lock:
        purpose = stack[-1].purpose if stack else REST
        _ACCOUNT.cpu_s[purpose] = _ACCOUNT.cpu_s.get(purpose, 0.0) + cpu_s
        runs, before = _ACCOUNT.programs.get(name, (0, 0.0))
        _ACCOUNT.programs[name] = (runs + 1, before + cpu_s)


@dataclass(frozen=True)
class Look:
    """A copy of the account at one moment."""

    at_s: float
    all_cpu_s: float
    cpu_s: Mapping[str, float]
    main_wall_s: Mapping[str, float]
    thread_wall_s: Mapping[str, float]
    programs: Mapping[str, tuple[int, float]]


def look() -> Look:
    """The account now; blocks that are open count from their end on."""
    with _ACCOUNT.lock:
        return Look(
            time.monotonic(),
            _all_cpu_s(),
            dict(_ACCOUNT.cpu_s),
            dict(_ACCOUNT.main_wall_s),
            dict(_ACCOUNT.thread_wall_s),
            dict(_ACCOUNT.programs),
        )


def spent_since(before: Look) -> Spending:
    """What was spent since the look `before`.

    What blocks do not explain is REST. Threads work side by side while the main thread waits for them: the seconds on
    the clock that it waited are shared out as the threads' own seconds are.
    """
    now = look()
    cpu_s = _less(now.cpu_s, before.cpu_s)
    # The system counts the whole process; blocks count what they enclose. What no block explains is start-up, records
    # and library threads.
    unexplained = now.all_cpu_s - before.all_cpu_s - sum(cpu_s.values())
    cpu_s[REST] = cpu_s.get(REST, 0.0) + max(0.0, unexplained)
    wall_s, threads = _less(now.main_wall_s, before.main_wall_s), _less(now.thread_wall_s, before.thread_wall_s)
    left = max(0.0, now.at_s - before.at_s - sum(wall_s.values()))
    # With n threads at a time their seconds are at most n times those on the clock, and where they are fewer than one
    # time, the main thread was not waiting.
    waited = min(left, sum(threads.values()))
    for name, seconds in threads.items():
        wall_s[name] = wall_s.get(name, 0.0) + waited * seconds / sum(threads.values())
    wall_s[REST] = wall_s.get(REST, 0.0) + left - waited
    programs = {
        name: (runs - before.programs.get(name, (0, 0.0))[0], used - before.programs.get(name, (0, 0.0))[1])
        for name, (runs, used) in now.programs.items()
    }
    return Spending(cpu_s, wall_s, {name: found for name, found in programs.items() if found[0]})


def _less(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    found = {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}
    return {name: seconds for name, seconds in found.items() if seconds > 0}


def _all_cpu_s() -> float:
    """Processor seconds of this process and of all children that it waited for."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


class _Account:
    """The running sums. Seconds on the clock are counted apart for the main thread and for the others."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cpu_s: dict[str, float] = {}
        self.main_wall_s: dict[str, float] = {}
        self.thread_wall_s: dict[str, float] = {}
        self.programs: dict[str, tuple[int, float]] = {}


_ACCOUNT = _Account()
_LOCAL = threading.local()


def _blocks() -> list[_Block]:
    """The open blocks of this thread, innermost last."""
    if not hasattr(_LOCAL, "blocks"):
        _LOCAL.blocks = []
    found: list[_Block] = _LOCAL.blocks
    return found


class _Block:
    """A block that is open, and since when it counts."""

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self._is_main = threading.current_thread() is threading.main_thread()
        self.go_on()

    def go_on(self) -> None:
        self._wall_s, self._cpu_s = time.monotonic(), self._clock()

    def pause(self) -> None:
        wall_s, cpu_s = time.monotonic() - self._wall_s, self._clock() - self._cpu_s
        walls = _ACCOUNT.main_wall_s if self._is_main else _ACCOUNT.thread_wall_s
        with _ACCOUNT.lock:
            walls[self.purpose] = walls.get(self.purpose, 0.0) + wall_s
            _ACCOUNT.cpu_s[self.purpose] = _ACCOUNT.cpu_s.get(self.purpose, 0.0) + cpu_s

    def _clock(self) -> float:
        # Libraries compute on threads of their own for the main thread, while no others work.
        return time.process_time() if self._is_main else time.thread_time()

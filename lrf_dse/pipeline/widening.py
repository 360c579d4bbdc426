"""Plans whose weights in few bits are widened once, when the program loads: fewer cycles for more RAM.

A plan was measured as it is stored. Its twin has the same weights in the artifact; some layers read a copy in RAM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from lrf_dse.codegen import KernelSchedule, copied_schedule, copy_bytes, predicted_cycles
from lrf_dse.pipeline.kernels import Schedules, kernel_spec
from lrf_dse.schema import Candidate, Measurement, Outcome
from lrf_dse.target import Target

LEAST_GAIN = 1.03
"""A copy is worth its RAM where the closed form predicts so many times fewer cycles: it is off by 3 to 6 %."""

Choices = tuple[Candidate, ...]


@dataclass(frozen=True)
class _Copy:
    """What a copy of one layer's weights gains in cycles, and the RAM that it takes, over all uses of the layer."""

    layer: str
    schedule: KernelSchedule
    cycles: float
    size_bytes: int


def widened_variants(
    measured: Iterable[tuple[Choices, Schedules, Outcome]], target: Target, *, max_ram_bytes: int | None
) -> Iterator[tuple[Choices, dict[str, KernelSchedule]]]:
    """The twins of the measured plans that gain by copies, with the schedules of every layer.

    Where RAM is limited the copies that gain most for a byte come first, as far as the measured plan leaves room.
    """
    for choices, schedules, outcome in measured:
        if not isinstance(outcome, Measurement):
            continue
        # Copies come on top of what the plan takes by itself.
        room = inf if max_ram_bytes is None else max_ram_bytes - outcome.ram_bytes
        chosen: dict[str, KernelSchedule] = {}
        for copy in _copies(choices, schedules, target):
            if copy.size_bytes <= room:
                room -= copy.size_bytes
                chosen[copy.layer] = copy.schedule
        if chosen:
            yield choices, dict(schedules) | chosen


def _copies(choices: Sequence[Candidate], schedules: Schedules, target: Target) -> list[_Copy]:
    """The layers' copies that gain enough, the most cycles for a byte first."""
    found = []
    for choice in choices:
        spec = kernel_spec(choice)
        schedule = copied_schedule(spec, target) if choice.kernel == "rvv" else None
        if schedule is None:
            continue
        now, then = (predicted_cycles(spec, one, target) for one in (schedules[choice.layer.name], schedule))
        if now is None or then is None or now < LEAST_GAIN * then:
            continue
        uses = choice.layer.uses
        found.append(_Copy(choice.layer.name, schedule, uses * (now - then), uses * copy_bytes(spec, schedule)))
    # Bytes for a cycle, the fewest first: the greedy order of a knapsack.
    return sorted(found, key=lambda copy: copy.size_bytes / copy.cycles)

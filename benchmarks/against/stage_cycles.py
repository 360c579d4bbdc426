"""How many modelled cycles each stage of our kernel takes: the kernel with a mark before every call of a stage.

A mark ends one pass through the measured region and begins the next (toolchain/host/region.h), so the plugin counts
every call by itself. Draining the pipeline at marks costs some cycles a call: the figures are on the safe side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.against.our_columns import OurKernel
from lrf_dse.codegen import kernel_stages, stage_bounds
from lrf_dse.cost.counts import StageCount
from lrf_dse.errors import ToolError
from lrf_dse.runners.job import TIMED_PASSES, write_raw
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.timing import TimingSwitches
from lrf_dse.target import Target

PEAK_FLOPS = 1_000_000
"""Stages of at least so many FLOPs count for the share of the FMA peak."""

_MARK = '#define NEXT_STAGE __asm__ volatile("sltiu x0, x0, 0x5a2\\n sltiu x0, x0, 0x5a1" ::: "memory")\n'
_CALL = re.compile(r"^\s+stage_(\d+)\(")
_LOOP = re.compile(r"^\s+for \(size_t \w+ = 0; \w+ < (\d+); \w+\+\+\) \{$")


@dataclass(frozen=True)
class StageFigures:
    """One stage: its size, its bounds, and cycles by model; `fits_l2`: its weights and both states lie in the L2."""

    count: StageCount
    fma_cycles: float
    byte_cycles: float
    fits_l2: bool
    cycles: dict[str, float]

    @property
    def bound(self) -> float:
        """The larger of FMA time and bytes over bandwidth."""
        return max(self.fma_cycles, self.byte_cycles)

    @property
    def counts_for_peak(self) -> bool:
        """Whether it is large enough, and near enough, for its share of the FMA peak to mean something."""
        return self.fits_l2 and self.count.flops >= PEAK_FLOPS


def measure_stages(kernel: OurKernel, models: Mapping[str, TimingSwitches], folder: Path) -> tuple[StageFigures, ...]:
    """The figures of every stage of `kernel` under each of `models`. Raises BuildError, ToolError.

    Empty for a target without a timing model.
    """
    bounds = stage_bounds(kernel.spec, kernel.schedule, kernel.target)
    if bounds is None or kernel.target.timing is None:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    source, calls = marked(kernel.code().source)
    program = kernel.link(source, folder)
    write_raw(folder / "input.bin", kernel.data.x)
    stages = kernel_stages(kernel.spec, kernel.schedule)
    cycles: list[dict[str, float]] = [{} for _ in stages]
    for model, switches in models.items():
        arguments = ("--passes", str(TIMED_PASSES), "input.bin", "output.bin")
        passes = run_timed(program, kernel.target, folder, switches=switches, arguments=arguments)
        if len(passes) != TIMED_PASSES * (len(calls) + 1):
            raise ToolError(f"the marked kernel made {len(passes)} passes, expected {TIMED_PASSES * (len(calls) + 1)}")
        for number in range(len(stages)):
            # The first pass of an inference lies before the first stage.
            mine = [p.cycles for p, call in zip(passes[-len(calls) :], calls, strict=True) if call == number + 1]
            cycles[number][model] = float(sum(mine))
    return tuple(
        StageFigures(stage.count, bound.fma_cycles, bound.byte_cycles, _fits_l2(stage.count, kernel.target), figures)
        for stage, bound, figures in zip(stages, bounds, cycles, strict=True)
    )


def peak_fraction(stages: Sequence[StageFigures], model: str) -> float | None:
    """The share of the FMA peak under `model`, weighted by FLOPs over the stages that count; None if none does."""
    counted = [stage for stage in stages if stage.counts_for_peak and model in stage.cycles]
    flops = sum(stage.count.flops for stage in counted)
    return sum(s.count.flops * s.fma_cycles / s.cycles[model] for s in counted) / flops if counted else None


def marked(source: str) -> tuple[str, list[int]]:
    """The kernel's C with a mark before every call of a stage, and the stages in the order in which they are called."""
    lines = source.splitlines()
    start = max(number for number, line in enumerate(lines) if line == "{")
    body = lines[start:]
    calls = list(_calls(iter(body)))
    with_marks = [f"NEXT_STAGE;\n{line}" if _CALL.match(line) else line for line in body]
    return "\n".join([_MARK, *lines[:start], *with_marks, ""]), calls


def _calls(lines: Iterator[str]) -> Iterator[int]:
    """The numbers of the stages called by a block, loops unrolled; `lines` are left after its closing brace."""
    for line in lines:
        if call := _CALL.match(line):
            yield int(call.group(1))
        elif loop := _LOOP.match(line):
            inside = list(_calls(lines))
            yield from inside * int(loop.group(1))
        elif line.strip() == "}":
            return


def _fits_l2(count: StageCount, target: Target) -> bool:
    sizes = [level.size_bytes for level in target.memory if level.level == "L2"]
    used = count.weight_bytes + count.state_in_bytes + count.state_out_bytes
    return bool(sizes) and sizes[0] is not None and used <= sizes[0]

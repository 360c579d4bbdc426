"""Verify and time one program that already lies on a board; the ssh runner, deploy and calibrate share this half.

The module owns the order of the steps (nothing is timed before its outputs are right) and the batches of repeats.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lrf_dse.builders.elf import read_elf
from lrf_dse.jsonform import from_json
from lrf_dse.runners.answers import Rejected, output_names, read_object, read_outputs, read_ram_parts
from lrf_dse.runners.board import BoardFacts, pinned_cpus
from lrf_dse.runners.job import BOARD_S, DEFAULT_TOLERANCE, Array
from lrf_dse.runners.repeats import RepeatPolicy, is_stable, next_batch, summarise
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import FILES, BoardFolder, Conditions, FinishedOnBoard
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import BoardFigures, Measurement

_STATS, _TIMES = "stats.json", "board.json"


@dataclass(frozen=True, eq=False)
class PlacedProgram:
    """A program in a board's folder: its name and those of its inputs there, and what it must answer.

    `local` is the same file here; what comes back is written to the folder `work`.
    """

    name: str
    local: Path
    inputs: tuple[str, ...]
    expected: tuple[Array, ...]
    work: Path
    tolerance: float = DEFAULT_TOLERANCE
    timeout_s: float = BOARD_S
    threads: int = 1


def measure_placed(folder: BoardFolder, facts: BoardFacts, program: PlacedProgram, policy: RepeatPolicy) -> Measurement:
    """Verify a program that lies in `folder`, then time it. Raises Rejected (BoardProblem is one)."""
    for name in (*output_names(len(program.expected)), _STATS, _TIMES):
        # What an earlier run left must not be taken for an answer of this one.
        (program.work / name).unlink(missing_ok=True)
    if program.threads > len(facts.cpus):
        reason = f"it lets programs run on {len(facts.cpus)} cores, this one wants {program.threads} threads"
        raise BoardProblem(folder.board, reason)
    bench = _Bench(folder, facts, program)
    # A first run gives outputs and memory; it is verified before anything is timed.
    bench.call("--stats", _STATS, wanted=(_STATS,), timeout_s=program.timeout_s)
    ram_parts = read_ram_parts(program.work / _STATS)
    errors = bench.verify()
    figures = _time(bench, policy)
    emulated = f" (programs run by {facts.emulator})" if facts.emulator else ""
    return Measurement(
        source=f"board seconds, {folder.board.host}{emulated}",
        instructions=None,
        counts={},
        flash_bytes=read_elf(program.local).flash_bytes,
        ram_bytes=sum(ram_parts.values()),
        ram_parts=ram_parts,
        max_abs_error=errors.max_abs,
        max_rel_error=errors.max_rel,
        cycles=figures.median_cycles,
        seconds=figures.median_s,
        board=figures,
    )


@dataclass(frozen=True, eq=False)
class _Bench:
    """One program in its place, ready to be run."""

    folder: BoardFolder
    facts: BoardFacts
    program: PlacedProgram

    @property
    def cpus(self) -> str | None:
        return pinned_cpus(self.facts, self.folder.board, threads=self.program.threads)

    def call(self, *options: str, wanted: Sequence[str], timeout_s: float) -> FinishedOnBoard:
        """Run the program with `options` and fetch its outputs and the `wanted` files."""
        outputs = output_names(len(self.program.expected))
        inputs = (FILES + name for name in self.program.inputs)
        pin = ("taskset", "-c", self.cpus) if self.cpus is not None else ()
        if self.program.threads > 1:
            options = ("--threads", str(self.program.threads), *options)
        words = [*pin, *self.folder.board.runner_prefix, FILES + self.program.name, *options, *inputs, *outputs]
        # Frequency is read of the first core of the list, such as 4 of "4-7".
        core = int((self.cpus or "0").replace("-", ",").partition(",")[0])
        return self.folder.run(words, self.program.work, wanted=(*outputs, *wanted), core=core, timeout_s=timeout_s)

    def verify(self) -> Errors:
        """The errors of the outputs that were fetched last. Raises Rejected."""
        outputs = read_outputs(self.program.work, self.program.expected)
        errors = compare(outputs, self.program.expected, tolerance=self.program.tolerance)
        if isinstance(errors, str):
            raise Rejected("verify", errors)
        return errors


@dataclass(frozen=True)
class Batch:
    """What one process measured, as toolchain/host/board.c writes it."""

    ns: tuple[int, ...]
    cycles: tuple[int, ...]
    passes: int
    cold_ns: int
    peak_resident_kb: int

    def __post_init__(self) -> None:
        # Cold time and resident set may be 0 (unknown), hence the 1 that is added to each before all must be above 0.
        figures = (*self.ns, *self.cycles, self.passes, self.cold_ns + 1, self.peak_resident_kb + 1)
        if len(self.ns) < 2 or not all(0 < figure < 1 << 63 for figure in figures):
            raise ValueError("two samples and more are expected, all above 0")


def read_batch(path: Path) -> Batch:
    """The batch in the file that came back. Raises Rejected."""
    try:
        return cast(Batch, from_json(Batch, read_object(path, "the program")))
    except ValueError as error:
        raise Rejected(
            "run", f"the program wrote a damaged {path.name}: {' '.join(str(error).split())[:200]}"
        ) from error


@dataclass(frozen=True)
class _Timing:
    """The figures of all batches of one program so far. Seconds and cycles are of one inference."""

    seconds: tuple[float, ...] = ()
    cycles: tuple[float, ...] = ()
    cold_s: float = math.inf
    peak_resident_kb: int = 0
    before: Conditions | None = None
    after: Conditions | None = None

    def with_batch(self, batch: Batch, around: FinishedOnBoard) -> _Timing:
        """A copy of this value with the figures of one more process."""
        return _Timing(
            (*self.seconds, *(ns * 1e-9 / batch.passes for ns in batch.ns)),
            (*self.cycles, *(cycles / batch.passes for cycles in batch.cycles)),
            min(self.cold_s, batch.cold_ns * 1e-9),
            max(self.peak_resident_kb, batch.peak_resident_kb),
            self.before or around.before,
            around.after,
        )


def _time(bench: _Bench, policy: RepeatPolicy) -> BoardFigures:
    """Batches of repeats, each a process of its own, until the policy is satisfied; every batch is verified too."""
    timing, elapsed_s = _Timing(), 0.0
    while (count := next_batch(timing.seconds, elapsed_s=elapsed_s, policy=policy)) > 0:
        left_s = policy.time_limit_s - elapsed_s
        options = ("--board", _TIMES, str(count), str(round(policy.warm_up_s * 1e3)), str(round(left_s * 1e3)))
        start = time.monotonic()
        # The program stops its repeats itself after `left_s`; beyond this sum it hangs.
        limit_s = bench.program.timeout_s + policy.warm_up_s + left_s
        around = bench.call(*options, wanted=(_TIMES,), timeout_s=limit_s)
        # The way over the network counts too, so that a slow connection cannot stretch the limit.
        elapsed_s += time.monotonic() - start
        bench.verify()
        timing = timing.with_batch(read_batch(bench.program.work / _TIMES), around)
    return _figures(bench, timing, policy)


def _figures(bench: _Bench, timing: _Timing, policy: RepeatPolicy) -> BoardFigures:
    facts, native = bench.facts, bench.facts.emulator is None
    timed = summarise(timing.seconds)
    # Under an emulator the cycle counter and the resident set are the emulator's.
    counted = summarise(timing.cycles) if timing.cycles and native else None
    before, after = timing.before or Conditions(), timing.after or Conditions()
    return BoardFigures(
        host=bench.folder.board.host,
        isa=facts.isa,
        vlen_bits=facts.vlen_bits,
        kernel=facts.kernel,
        emulator=facts.emulator,
        cpus=bench.cpus,
        repeats=len(timing.seconds),
        min_s=timed.minimum,
        median_s=timed.median,
        spread=timed.spread,
        stable=is_stable(timing.seconds, policy),
        cold_s=timing.cold_s,
        min_cycles=counted.minimum if counted else None,
        median_cycles=counted.median if counted else None,
        peak_resident_bytes=timing.peak_resident_kb * 1024 if timing.peak_resident_kb and native else None,
        freq_hz_before=before.freq_hz,
        freq_hz_after=after.freq_hz,
        celsius_before=before.celsius,
        celsius_after=after.celsius,
        load_before=before.load,
    )

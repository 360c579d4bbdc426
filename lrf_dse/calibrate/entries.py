"""The timing model of a target against published figures: `lrf-dse timing`.

Every figure is shown as the model computes it; no entry is corrected. Only silicon entries validate the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.micro import Micro, program_text, regions_of
from lrf_dse.calibrate.published import Kind, Published, published
from lrf_dse.calibrate.silicon import Level
from lrf_dse.errors import ToolError, UsageError
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.timing import DEFAULT_SWITCHES, PassFigures, TimingSwitches
from lrf_dse.target import Target

KINDS: tuple[Kind, ...] = get_args(Kind)
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class TimingEntry:
    """One microbenchmark: what the model says, in `quantity`, and the range that was published."""

    name: str
    quantity: str
    modelled: float
    published: tuple[float, float]
    kind: Kind
    source: str
    level: Level | None = None
    sets: str = ""

    @property
    def error(self) -> float:
        """The relative error from the nearer end of the published range, 0 inside it: 0.1 is 10% above, -0.1 below."""
        low, high = self.published
        if low <= self.modelled <= high:
            return 0.0
        return self.modelled / (low if self.modelled < low else high) - 1

    @property
    def factor(self) -> float:
        """The factor by which the model is off, at least 1: twice and half are both 2."""
        # error is ratio - 1, so log1p(error) is the logarithm of the ratio.
        return math.exp(abs(math.log1p(self.error)))


@dataclass(frozen=True)
class TimingReport:
    """All entries of a target."""

    target: str
    entries: tuple[TimingEntry, ...]

    def of_kind(self, kind: Kind, level: Level | None = None) -> tuple[TimingEntry, ...]:
        """The entries of a kind, all or those whose data are at `level`."""
        return tuple(entry for entry in self.entries if entry.kind == kind and level in (None, entry.level))

    @property
    def silicon_levels(self) -> tuple[Level, ...]:
        """The levels that boards measured, the nearest first."""
        return tuple(level for level in LEVELS if self.of_kind("silicon", level))

    def to_json(self) -> dict[str, Any]:
        """Entries, and the errors of each kind and of the silicon entries of each level."""
        return {
            "target": self.target,
            "entries": [{**asdict(entry), "error": entry.error} for entry in self.entries],
            **{kind: _summary(self.of_kind(kind)) for kind in KINDS},
            "silicon_by_level": {level: _summary(self.of_kind("silicon", level)) for level in self.silicon_levels},
        }


def _summary(entries: Sequence[TimingEntry]) -> dict[str, Any]:
    return {"entries": len(entries), "geomean_error": geomean_error(entries), "worst": worst(entries)}


def geomean_error(entries: Iterable[TimingEntry]) -> float:
    """The geometric mean of the factors by which figures are off, less 1: twice and half are the same error."""
    factors = [math.log(entry.factor) for entry in entries]
    return math.expm1(sum(factors) / len(factors)) if factors else 0.0


def worst(entries: Iterable[TimingEntry]) -> dict[str, Any] | None:
    """Name and error of the entry that is furthest off."""
    furthest = max(entries, key=lambda entry: entry.factor, default=None)
    return None if furthest is None else {"name": furthest.name, "error": furthest.error}


def run_timing(target: Target, work: Path, *, switches: TimingSwitches = DEFAULT_SWITCHES) -> TimingReport:
    """Run every microbenchmark of which something is published for `target`, in the folder `work`.

    Raises UsageError if there is none, ToolError and BuildError where a tool fails.
    """
    return run_switches(target, work, {"": switches})[""]


def run_switches(target: Target, work: Path, sweep: Mapping[str, TimingSwitches]) -> dict[str, TimingReport]:
    """The reports of `run_timing` under each of the switches of `sweep`, by the same names."""
    figures = published(target)
    if not figures or target.timing is None:
        raise UsageError(f"target {target.name}: no published measurement to compare the timing model with")
    micros = [figure.micro for figure in figures]
    program = assemble_micros(target, micros, work)
    reports = {}
    for name, switches in sweep.items():
        runs = run_micros(program, target, micros, switches=switches)
        entries = tuple(_entry(figure, run) for figure, run in zip(figures, runs, strict=True))
        reports[name] = TimingReport(target.name, entries)
    return reports


def assemble_micros(target: Target, micros: Sequence[Micro], work: Path) -> Path:
    """One program of all loops, in the folder `work`. Raises ToolError and BuildError."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "micro.S").write_text(program_text(micros), encoding="utf-8")
    # Without a C library: the program is its loops and the system call that ends it. medany: the buffer is addressed
    # relative to the code, wherever the linker puts the two.
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany"]
    include = ["-I", str(data_dir("toolchain") / "host")]
    zig_cc([*machine, "-nostdlib", "-static", *include, "micro.S", "-o", "micro"], cwd=work)
    return work / "micro"


def run_micros(
    program: Path, target: Target, micros: Sequence[Micro], *, switches: TimingSwitches = DEFAULT_SWITCHES
) -> tuple[tuple[PassFigures, ...], ...]:
    """The passes of each of `micros` under the model of `target`, in order; `program` is what was assembled of them.

    Raises ToolError.
    """
    passes = run_timed(program, target, program.parent, switches=switches)
    expected = sum(map(regions_of, micros))
    if len(passes) != expected:
        raise ToolError(f"the microbenchmarks made {len(passes)} passes, expected {expected}")
    rest = iter(passes)
    return tuple(tuple(islice(rest, regions_of(micro))) for micro in micros)


def micro_value(micro: Micro, passes: Sequence[PassFigures]) -> float:
    """The figure of `micro` by its last pass, less that of its baseline."""
    # The passes of the baseline follow those of the loop; the last of each half is warm.
    counted = passes[: regions_of(micro) // (1 if micro.baseline is None else 2)][-1]
    cycles = counted.cycles - (passes[-1].cycles if micro.baseline is not None else 0)
    return micro.value(float(cycles))


def _entry(figure: Published, passes: Sequence[PassFigures]) -> TimingEntry:
    micro, limits = figure.micro, (figure.low, figure.high)
    return TimingEntry(
        micro.name,
        micro.quantity,
        micro_value(micro, passes),
        limits,
        figure.kind,
        figure.source,
        figure.level,
        figure.sets,
    )

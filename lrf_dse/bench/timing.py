"""The timing model of a target against published measurements: `lrf-dse bench timing`.

Every figure is what the model says, as it is: no entry is corrected. Only the held-out ones validate it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_dse.bench.micro import program_text, regions_of
from lrf_dse.bench.published import Kind, Published, published
from lrf_dse.builders.zig import zig_cc
from lrf_dse.errors import ToolError, UsageError
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.timing import DEFAULT_SWITCHES, PassFigures, TimingSwitches
from lrf_dse.target import Target


@dataclass(frozen=True)
class TimingEntry:
    """One microbenchmark: what the model says, in `quantity`, and the range that was published."""

    name: str
    quantity: str
    modelled: float
    published: tuple[float, float]
    kind: Kind
    source: str

    @property
    def error(self) -> float:
        """Relative to the nearer end of the published range, 0 inside: 0.1 is 10% above, -0.1 below."""
        low, high = self.published
        if low <= self.modelled <= high:
            return 0.0
        return self.modelled / (low if self.modelled < low else high) - 1


@dataclass(frozen=True)
class TimingReport:
    """All entries of a target; errors are of the held-out ones, where there are any."""

    target: str
    entries: tuple[TimingEntry, ...]

    def of_kind(self, kind: Kind) -> tuple[TimingEntry, ...]:
        """The fitted entries, or the held-out ones."""
        return tuple(entry for entry in self.entries if entry.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Entries, and the errors of the held-out ones and of each kind."""
        validated = self.of_kind("held_out") or self.entries
        kinds: tuple[Kind, ...] = ("fitted", "held_out")
        parts = {kind: self.of_kind(kind) for kind in kinds}
        return {
            "target": self.target,
            "entries": [_entry_json(entry) for entry in self.entries],
            "geomean_error": geomean_error(validated),
            "worst": worst(validated),
            **{kind: {"geomean_error": geomean_error(part), "worst": worst(part)} for kind, part in parts.items()},
        }


def geomean_error(entries: Iterable[TimingEntry]) -> float:
    """The geometric mean of the factors by which figures are off, less 1: twice and half are the same error."""
    factors = [abs(math.log1p(entry.error)) for entry in entries]
    return math.expm1(sum(factors) / len(factors)) if factors else 0.0


def worst(entries: Iterable[TimingEntry]) -> dict[str, Any] | None:
    """Name and error of the entry that is furthest off."""
    furthest = max(entries, key=lambda entry: abs(math.log1p(entry.error)), default=None)
    return None if furthest is None else {"name": furthest.name, "error": furthest.error}


def run_timing(target: Target, work: Path, *, switches: TimingSwitches = DEFAULT_SWITCHES) -> TimingReport:
    """Run every microbenchmark of which something is published for `target`, in the folder `work`.

    Raises UsageError if there is none, ToolError and BuildError where a tool fails.
    """
    measurements = published(target)
    if not measurements or target.timing is None:
        raise UsageError(f"target {target.name}: no published measurement to compare the timing model with")
    passes = run_micros(target, measurements, work, switches=switches)
    return TimingReport(target.name, tuple(_entries(measurements, passes)))


def run_micros(
    target: Target, measurements: Sequence[Published], work: Path, *, switches: TimingSwitches = DEFAULT_SWITCHES
) -> tuple[PassFigures, ...]:
    """Assemble one program of all loops and run it under the timing model; every pass, in order."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "micro.S").write_text(program_text([entry.micro for entry in measurements]), encoding="utf-8")
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany"]
    include = ["-I", str(data_dir("toolchain") / "host")]
    zig_cc([*machine, "-nostdlib", "-static", *include, "micro.S", "-o", "micro"], cwd=work)
    return run_timed(work / "micro", target, work, switches=switches)


def _entries(measurements: Sequence[Published], passes: Sequence[PassFigures]) -> Iterable[TimingEntry]:
    expected = sum(regions_of(entry.micro) for entry in measurements)
    if len(passes) != expected:
        raise ToolError(f"the microbenchmarks made {len(passes)} passes, expected {expected}")
    first = 0
    for entry in measurements:
        micro, mine = entry.micro, passes[first : first + regions_of(entry.micro)]
        first += len(mine)
        cycles = float(mine[micro.passes - 1].cycles) - (mine[-1].cycles if micro.baseline is not None else 0)
        yield TimingEntry(
            micro.name, micro.quantity, micro.value(cycles), (entry.low, entry.high), entry.kind, entry.source
        )


def _entry_json(entry: TimingEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "quantity": entry.quantity,
        "modelled": entry.modelled,
        "published": list(entry.published),
        "kind": entry.kind,
        "source": entry.source,
        "error": entry.error,
    }

"""The timing model of a target against published measurements: `lrf-dse bench timing`.

Every figure is what the model says, as it is: no entry is corrected. Only the held-out ones validate it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lrf_dse.bench.micro import Micro, program_text, regions_of
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
    micros = [entry.micro for entry in measurements]
    runs = run_micros(assemble_micros(target, micros, work), target, micros, switches=switches)
    entries = zip(measurements, runs, strict=True)
    return TimingReport(target.name, tuple(_entry(measured, run) for measured, run in entries))


def assemble_micros(target: Target, micros: Sequence[Micro], work: Path) -> Path:
    """One program of all loops, in the folder `work`. Raises ToolError and BuildError."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "micro.S").write_text(program_text(micros), encoding="utf-8")
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
    cycles = passes[micro.passes - 1].cycles - (passes[-1].cycles if micro.baseline is not None else 0)
    return micro.value(float(cycles))


def _entry(measured: Published, passes: Sequence[PassFigures]) -> TimingEntry:
    micro, figure = measured.micro, micro_value(measured.micro, passes)
    published_range = (measured.low, measured.high)
    return TimingEntry(micro.name, micro.quantity, figure, published_range, measured.kind, measured.source)


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

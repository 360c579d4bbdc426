"""The command `lrf-dse timing`: it compares the timing model with figures of boards and of other simulators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrf_dse.cli.show import print_json, print_line, print_table, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrf_dse.calibrate.entries import TimingEntry, TimingReport

# The chips with whole loops in calibrate.silicon, the main target first.
_MEASURED = ["spacemit-k1", "canaan-k230", "spacemit-k3"]
_MEANING = {
    "silicon": "loops measured on boards that set no parameter: they validate the model",
    "fitted": "figures that set a parameter of the model",
    "simulated": "figures of other simulators, as a cross-check",
}


def command(
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A chip with published figures; may be given several times. Default: those that boards measured."
        ),
    ] = None,
    model_sweep: Annotated[
        bool, typer.Option("--model-sweep", help="Show the silicon entries under every switch of the model as well.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the entries to FILE (- prints them).")] = None,
) -> None:
    """Run microbenchmarks under the timing model and compare them with what boards and others say of the chip."""
    from lrf_dse.calibrate.entries import run_switches
    from lrf_dse.runners.timing import DEFAULT_SWITCHES, sweep_of
    from lrf_dse.target import load_target

    found: dict[str, Mapping[str, TimingReport]] = {}
    for name in target or _MEASURED:
        chip = load_target(name)
        with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
            # A chip without a timing model has no switches: run_switches then says what is missing.
            sweep = sweep_of(chip) if model_sweep else {"default": DEFAULT_SWITCHES}
            found[name] = run_switches(chip, Path(scratch), sweep or {"default": DEFAULT_SWITCHES})
    facts = {name: {switch: one.to_json() for switch, one in reports.items()} for name, reports in found.items()}
    if json_file is not None and str(json_file) == "-":
        print_json(facts)
        return
    if json_file is not None:
        write_json(json_file, facts)
    for reports in found.values():
        _print_entries(reports["default"])
    _print_levels(found)


def _print_entries(report: TimingReport) -> None:
    rows = [
        (
            e.name,
            e.kind,
            e.level or "",
            f"{e.modelled:.4g}",
            # One figure where both ends of the range are equal.
            "-".join(f"{v:g}" for v in dict.fromkeys(e.published)),
            f"{100 * e.error:+.1f}",
            f"{e.source}; set: {e.sets}" if e.sets else e.source,
        )
        for e in report.entries
    ]
    columns = ("microbenchmark", "kind", "level", ">modelled", ">published", ">error %", "source")
    print_table(f"Timing model of {report.target}", columns, rows)
    for kind, meaning in _MEANING.items():
        summary = report.to_json()[kind]
        if summary["worst"]:
            furthest = f"worst {summary['worst']['name']} {100 * summary['worst']['error']:+.1f} %"
            mean = f"geometric mean error {100 * summary['geomean_error']:.1f} %"
            print_line(f"{kind} ({meaning}): {summary['entries']} entries, {mean}, {furthest}")


def _print_levels(found: Mapping[str, Mapping[str, TimingReport]]) -> None:
    """Silicon entries by chip, level and switch: geometric mean of the error factor, and the worst."""
    switches = list(dict.fromkeys(switch for reports in found.values() for switch in reports))
    rows = []
    for chip, reports in found.items():
        for level in reports["default"].silicon_levels:
            parts = [reports[s].of_kind("silicon", level) if s in reports else () for s in switches]
            rows.append((chip, level, str(len(parts[0])), *(_cell(part) for part in parts)))
    if rows:
        columns = ("chip", "level", ">entries", *(f">{switch}" for switch in switches))
        print_table("Silicon entries: error factor, geometric mean / worst", columns, rows)


def _cell(entries: tuple[TimingEntry, ...]) -> str:
    from lrf_dse.calibrate.entries import geomean_error

    if not entries:
        return "-"
    return f"{1 + geomean_error(entries):.2f} / {max(entry.factor for entry in entries):.2f}"

"""The command `lrf-dse calibrate`: it measures the costs of a target on a board."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_dse.cli.boards import Directory, Host, board_of
from lrf_dse.cli.reading import with_ssh
from lrf_dse.cli.show import print_json, print_line, print_table, progress_bar, warn

if TYPE_CHECKING:
    from lrf_dse.calibrate.calibration import Calibration
    from lrf_dse.target import Target


@with_ssh
def command(
    board: Host,
    target: Annotated[str, typer.Option(help="The board's chip: see `lrf-dse targets`, or a .toml file.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The new target file. Default: TARGET-calibrated.toml.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only this cost or figure; may be given several times.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Measure and show, but write nothing. This is allowed on an emulated board, too."
        ),
    ] = False,
    directory: Directory = None,
    *,
    ssh: dict[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress on standard error.")] = False,
) -> None:
    """Measure what instructions, caches and barriers cost on a board, and write a target file with these costs."""
    from lrf_dse.calibrate.calibration import calibrated_files, write_calibration
    from lrf_dse.calibrate.measuring import calibrate
    from lrf_dse.jsonform import to_json
    from lrf_dse.target import load_target

    chip = load_target(target)
    where = board_of(board, target, directory=directory, **ssh)
    assert where is not None
    file = None if dry_run else out or Path(f"{chip.name}-calibrated.toml")
    if file is not None and chip.timing is not None:
        calibrated_files(target, file)  # measuring takes minutes: what cannot be written is told before
    # The program is not kept: its SHA-256 stands in the source of every figure.
    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch, progress_bar(quiet=quiet) as progress:
        # An emulator's times are no chip's: they may be looked at, and write_calibration refuses them.
        found = calibrate(chip, where, Path(scratch), only=tuple(only or ()), allow_emulator=dry_run, progress=progress)
    table = None if file is None else write_calibration(target, found, file)
    if as_json:
        print_json({**to_json(found), "file": None if file is None else str(file)})
    else:
        _show(found, chip)
    for name, reason in found.failures.items():
        warn(f"{name} is not measured: {reason}")
    if not as_json:
        print_line(
            "nothing is written" if file is None else f"written: {file} and {table}; use it with --target {file}"
        )


def _show(found: Calibration, chip: Target) -> None:
    from lrf_dse.calibrate.calibration import figure_at

    by = f", programs run by {found.emulator}: no chip's figures" if found.emulator else ""
    title = f"{chip.title} on {found.host}, cycles ({found.how}{by})"
    assert chip.timing is not None
    rows = []
    for name, cost in found.costs.items():
        # In the units of the table: cycles of one pipe at M1, M2, M4 and M8, for elements of 32 bits.
        before = chip.timing.costs.cost[name]
        for part, now, then in (
            ("busy", cost.busy, before.busy),
            ("latency", cost.latency, before.latency),
            ("per element", cost.per_element, before.per_element),
        ):
            if now is not None:
                rows.append((name, part, _text(now), _text(then)))
    for place, value in found.figures.items():
        what, _, part = place.rpartition(" ")
        rows.append((what, part, _text(value), _text(figure_at(chip.timing, place).value)))
    print_table(title, ("what", "part", ">measured", ">as it was"), rows)


def _text(value: float | tuple[float, ...]) -> str:
    """A figure; those of M1, M2, M4 and M8 where they differ."""
    words = [f"{one:.4g}" for one in (value if isinstance(value, tuple) else (value,))]
    return words[0] if len(set(words)) == 1 else " ".join(words)

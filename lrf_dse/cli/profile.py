"""The command `lrf-dse profile`: it measures one model or bundle once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_dse.cli.boards import OptionalHost, Timeout, board_of
from lrf_dse.cli.reading import with_reading, with_ssh
from lrf_dse.cli.show import number, print_json, print_table
from lrf_dse.errors import UsageError

if TYPE_CHECKING:
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.target import Target


@with_reading
@with_ssh
def command(
    subject: Annotated[Path, typer.Argument(help="A model file, a bundle folder, or the program in one.")],
    target: Annotated[str, typer.Option(help="A chip: see `lrf-dse targets`.")],
    *,
    reading: ReadOptions,
    model_sweep: Annotated[
        bool, typer.Option("--model-sweep", help="Show the cycles under every switch of the timing model.")
    ] = False,
    timeout: Timeout = None,
    board: OptionalHost = None,
    ssh: dict[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure one model, bundle or program: compile it if it is a model, verify its outputs, then measure it."""
    from lrf_dse.jsonform import to_json
    from lrf_dse.pipeline.profile import profile_program, profile_rows
    from lrf_dse.target import load_target

    chip = load_target(target)
    if model_sweep:
        if board is not None:
            raise UsageError("--model-sweep is of the timing model: it says nothing of a board; leave --board out")
        _show_sweep(subject, chip, reading=reading, timeout_s=timeout, as_json=as_json)
        return
    where = board_of(board, target, **ssh)
    found = profile_program(subject, chip, board=where, reading=reading, timeout_s=timeout)
    if as_json:
        print_json(to_json(found))
    else:
        print_table(f"{subject} on {chip.title}, {found.runner}", ("", ">"), profile_rows(found))


def _show_sweep(subject: Path, target: Target, *, reading: ReadOptions, timeout_s: float | None, as_json: bool) -> None:
    from lrf_dse.pipeline.profile import make_job
    from lrf_dse.runners.qemu import model_sweep
    from lrf_dse.schema import Measurement

    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
        # One program is built and run under every switch; building it again would give the same bytes.
        outcomes = model_sweep(make_job(subject, target, Path(scratch), reading=reading, seed=0, timeout_s=timeout_s))
    if not outcomes:
        raise UsageError(f"target {target.name} has no timing model: there is nothing to sweep")
    cycles: dict[str, float | str] = {
        name: outcome.cycles or 0.0 if isinstance(outcome, Measurement) else outcome.reason
        for name, outcome in outcomes.items()
    }
    if as_json:
        print_json({"subject": str(subject), "target": target.name, "cycles": cycles})
        return
    print_table(f"{subject}: modelled cycles, {target.name}", ("model", ">cycles", ">of default"), sweep_rows(cycles))


def sweep_rows(cycles: Mapping[str, float | str]) -> list[tuple[str, str, str]]:
    """A row for each switch: its cycles, or why its run failed, and the cycles by those of the default model."""
    default = cycles["default"]
    rows = []
    for name, value in cycles.items():
        shown = number(value) if isinstance(value, float) else f"failed: {value}"
        ratio = f"{value / default:.2f}" if isinstance(value, float) and isinstance(default, float) else "-"
        rows.append((name, shown, ratio))
    return rows

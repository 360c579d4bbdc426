"""The command `lrf-dse export`: it writes a plan of a run as files that run on a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_line, warn


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    pick: Annotated[
        str | None,
        typer.Option(
            help="Which plan: fastest, smallest, least-ram, most-accurate, knee (within the run's budgets), or a "
            "plan's id. Default: what the run's --objective asks for."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the bundle. Default: RUN/bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Build, verify and write the bundle of one plan: model.onnx, model.vmfb, a static riscv64 program, manifest."""
    import lrf_dse
    from lrf_dse.plan.budgets import over_budget

    folder, opened = out or run / "bundle", lrf_dse.open_run(run)
    manifest = lrf_dse.export(opened, pick, folder)
    for note in opened.notes:
        warn(note)
    if as_json:
        print_json(manifest)
        return
    choices = ", ".join(f"{layer}: {label}" for layer, label in manifest["choices"].items())
    verified = manifest["verified"]
    print_line(f"plan {manifest['plan']} ({choices})")
    # A plan that is picked by its id may break the limits: it is exported all the same, and this line says so.
    if excess := over_budget(opened.plan(pick), opened.info.budgets):
        print_line(f"it is over the run's budget: {excess}")
    print_line(
        f"verified under QEMU against onnxruntime on {verified['inputs']} {verified['of']}: "
        f"error {verified['max_rel_error']:.1e} of max |y|"
    )
    print_line(f"flash {manifest['flash_bytes']:,} bytes, RAM {manifest['ram_bytes']:,} bytes")
    print_line(f"bundle: {folder}")

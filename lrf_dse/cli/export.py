"""`lrf-dse export`: a plan of a run as files that run on a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_line


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    pick: Annotated[
        str, typer.Option(help="fastest, smallest, knee (within the run's budgets), or a plan's id.")
    ] = "knee",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Bundle folder; default RUN/bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Build, verify and write the bundle of one plan: model.onnx, model.vmfb, a static riscv64 program, manifest."""
    import lrf_dse

    folder = out or run / "bundle"
    manifest = lrf_dse.export(lrf_dse.open_run(run), pick, folder)
    if as_json:
        print_json(manifest)
        return
    choices = ", ".join(f"{layer}: {label}" for layer, label in manifest["choices"].items())
    error = manifest["verified"]["max_rel_error"]
    print_line(f"plan {manifest['plan']} ({choices})")
    print_line(f"verified under QEMU against onnxruntime: error {error:.1e} of max |y|")
    print_line(f"flash {manifest['flash_bytes']:,} bytes, RAM {manifest['ram_bytes']:,} bytes")
    print_line(f"bundle: {folder}")

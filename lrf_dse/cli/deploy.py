"""The command `lrf-dse deploy`: it copies a bundle to a board, and verifies and measures it there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lrf_dse.cli.boards import Directory, Host, board_of
from lrf_dse.cli.reading import with_ssh
from lrf_dse.cli.show import print_json, print_line, print_table


@with_ssh
def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder, as `lrf-dse export` wrote it.")],
    board: Host,
    directory: Directory = None,
    *,
    ssh: dict[str, Any],
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle on the board. Default: the name of its folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy BUNDLE to a board, check it there, run its golden input, measure it, and write the figures back."""
    from lrf_dse.deploy.board import deploy, read_bundle
    from lrf_dse.jsonform import to_json
    from lrf_dse.pipeline.profile import board_rows

    # The bundle names its target, and the target's file says how programs are run on its boards (prefix, cores).
    target = read_bundle(bundle).facts.target.name
    where = board_of(board, target, directory=directory, **ssh)
    assert where is not None
    done = deploy(bundle, where, name=name)
    if as_json:
        print_json(to_json(done))
        return
    found = done.measurement
    rows = [("seconds (median)", f"{found.seconds:.6g}"), ("error of max |y|", f"{found.max_rel_error:.1e}")]
    rows += [] if found.board is None else board_rows(found.board)
    print_table(f"{done.host}: {done.path}", ("", ">"), rows)
    print_line(f"written back to {bundle / 'manifest.json'}")

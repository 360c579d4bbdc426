"""The options that say where programs run and for how long, shared by every command that runs some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lrf_dse.runners.board import Board

# An option that several commands have is one annotated type: its name and its help are written once.
Host = Annotated[str, typer.Option("--board", help="user@host, or a name of your ssh config.")]
OptionalHost = Annotated[str | None, typer.Option("--board", help="Measure on this board: user@host.")]
Directory = Annotated[
    str | None, typer.Option("--dir", help="Folder on the board where files are put. Default: ~/lrf-dse.")
]

Timeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds that one program may run: on the clock of a board, or of processor time under an emulator. "
        "Default: as long as its work may take."
    ),
]


def board_of(
    host: str | None,
    target: str,
    *,
    directory: str | None = None,
    config: Path | None = None,
    port: int | None = None,
    options: list[str] | None = None,
) -> Board | None:
    """The board that the options name, with what its target says of boards; None without a host."""
    if host is None:
        return None
    # Imported here: targets need pydantic, which takes longer to import than `--help` may take.
    from lrf_dse.runners.board import board_for
    from lrf_dse.target import load_target

    return board_for(
        host, load_target(target), directory=directory, port=port, config=config, options=tuple(options or ())
    )

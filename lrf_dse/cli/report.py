"""`lrf-dse report`: render a run's report again, from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_line


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    open_browser: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> None:
    """Write report.html, the plots, the tables and summary.json of RUN."""
    import lrf_dse

    paths = lrf_dse.open_run(run).write_report()
    if as_json:
        print_json({"run": str(run), "files": [str(path) for path in paths]})
    else:
        for path in paths:
            print_line(str(path))
    if open_browser:
        typer.launch(str(paths[0]))

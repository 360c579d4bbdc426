"""The command `lrf-dse report`: it renders a run again, from its records alone, or several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_line
from lrf_dse.errors import UsageError

COMPARED = Path("reports/compare")
"""The folder of a comparison where none is named."""


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run folder; with --compare several.")],
    compare: Annotated[bool, typer.Option("--compare", help="Put several runs side by side on one page.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help=f"Folder of the comparison. Default: {COMPARED}.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> None:
    """Write report.html, plots, tables and summary.json of RUN; with --compare write one page about several runs."""
    paths = _compared(runs, out or COMPARED) if compare else _rendered(runs, out)
    if as_json:
        print_json({"runs": [str(run) for run in runs], "files": [str(path) for path in paths]})
    else:
        for path in paths:
            print_line(str(path))
    if open_browser:
        # The page is the first of the files, in both cases.
        typer.launch(str(paths[0]))


def _rendered(runs: list[Path], out: Path | None) -> tuple[Path, ...]:
    import lrf_dse

    if len(runs) > 1:
        raise UsageError(f"{len(runs)} run folders were given: add --compare, or name one")
    if out is not None:
        raise UsageError("-o goes with --compare: the report of one run lies in its folder")
    return lrf_dse.open_run(runs[0]).write_report()


def _compared(runs: list[Path], out: Path) -> tuple[Path, ...]:
    import lrf_dse
    from lrf_dse.report.comparison import Comparison, names_of
    from lrf_dse.report.write import write_comparison

    # Runs are told apart by their folders: two runs of one model have the same title.
    names = names_of([str(run) for run in runs])
    found = Comparison({name: lrf_dse.open_run(run).info for name, run in zip(names, runs, strict=True)})
    return write_comparison(found, out)

"""The command `lrf-dse doctor`: it looks for the external tools."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_table, warn
from lrf_dse.errors import ToolError


def command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check every external tool: found or not, its version, and how to install it.

    It fails only where something is missing that explorations, exports and their checks need.
    """
    from lrf_dse.doctor import checks

    found = checks()
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        rows = [
            (c.name, c.version or ("found" if c.found else "missing"), c.needed_for, "" if c.found else c.install)
            for c in found
        ]
        print_table("External tools", ("tool", "version", "needed for", "install with"), rows)
        for check in found:
            if check.warning:
                warn(f"{check.name}: {check.warning}")
    # Tools of extras and of benchmarks may be absent: they are in the table, and do not fail the command.
    missing = [check.name for check in found if check.needed and not check.found]
    if missing:
        raise ToolError(f"missing: {', '.join(missing)}")

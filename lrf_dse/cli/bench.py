"""`lrf-dse bench timing`: the timing model against published measurements."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from lrf_dse.cli.show import print_json, print_line, print_table

app = typer.Typer(help="Benchmarks of the tool's own instruments.", no_args_is_help=True)


@app.callback()
def benchmarks() -> None:
    """Benchmarks of the tool's own instruments."""


@app.command("timing")
def timing(
    target: Annotated[str, typer.Option(help="A chip with published measurements: see `lrf-dse targets`.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the entries to FILE (- prints them).")] = None,
) -> None:
    """Run microbenchmarks under the timing model and compare them with what is published of the chip."""
    from lrf_dse.bench.timing import run_timing
    from lrf_dse.target import load_target

    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
        report = run_timing(load_target(target), Path(scratch))
    facts = report.to_json()
    if json_file is not None and str(json_file) == "-":
        print_json(facts)
        return
    if json_file is not None:
        json_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    rows = [
        (e.name, e.kind, f"{e.modelled:.4g}", _span(e.published), f"{100 * e.error:+.1f}", e.source)
        for e in report.entries
    ]
    columns = ("microbenchmark", "kind", ">modelled", ">published", ">error %", "source")
    print_table(f"Timing model of {target}: only the held-out entries validate it", columns, rows)
    for kind in ("fitted", "held_out"):
        summary = facts[kind]
        if summary["worst"]:
            furthest = f"worst {summary['worst']['name']} {100 * summary['worst']['error']:+.1f} %"
            print_line(f"{kind}: geometric mean error {100 * summary['geomean_error']:.1f} %, {furthest}")


def _span(published: tuple[float, float]) -> str:
    low, high = published
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"

"""`lrf-dse bench`: TT kernels against every compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lrf_dse.cli.boards import OptionalHost, board_of
from lrf_dse.cli.show import print_json, print_line, print_table, progress_bar, write_json

app = typer.Typer(help="Benchmarks of the tool's own instruments and kernels.", no_args_is_help=True)


@app.callback()
def benchmarks() -> None:
    """Benchmarks of the tool's own instruments and kernels."""


@app.command("kernels")
def kernels(
    target: Annotated[str, typer.Option(help="The chip: see `lrf-dse targets`.")] = "spacemit-k1",
    kernel_set: Annotated[
        str, typer.Option("--set", help="paper, quick, or a TOML file of [[kernel]] tables.")
    ] = "quick",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to OUT (- prints it).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for kernels.html and roofline.png.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Folder of the records that a second run goes on from.")
    ] = None,
    ours_only: Annotated[
        bool, typer.Option("--ours-only", help="Measure our kernels; of the others show what is recorded.")
    ] = False,
    board: OptionalHost = None,
    jobs: Annotated[int, typer.Option(min=1, help="Rows that are measured at a time.")] = 2,
) -> None:
    """Compare our kernels with IREE, polyhedral C, plain C and the dense layer, on the same compressed layers."""
    from lrf_dse.bench import kernel_set as sets
    from lrf_dse.bench.benchmark import run_benchmark
    from lrf_dse.builders.cache import cache_dir
    from lrf_dse.target import load_target

    chip, cases = load_target(target), sets.kernel_set(kernel_set)
    records = work or cache_dir() / "bench-kernels"
    with progress_bar(quiet=False) as progress:
        host = board_of(board, target)
        report = run_benchmark(cases, chip, records, board=host, ours_only=ours_only, jobs=jobs, progress=progress)
    facts = report.to_json()
    if out is not None:
        from lrf_dse.bench.kernel_page import write_pages

        write_pages(facts, chip, out)
    if json_file is not None and str(json_file) == "-":
        print_json(facts)
        return
    if json_file is not None:
        write_json(json_file, facts)
    _print_kernels(facts)


def _print_kernels(facts: dict[str, Any]) -> None:
    from lrf_dse.bench.kernel_table import dense_table, failures, kernel_table, kind_table, stage_table, summary_table

    print_table(f"Kernels on {facts['target']}, {facts['unit']} (times ours)", *kernel_table(facts))
    print_line("D: slower than the dense layer; !: slower than another column of the same compressed layer")
    for line in failures(facts):
        print_line(f"failed: {line}")
    print_line()
    if facts["switches"]:
        print_table("Stages of our kernels against their own bounds, cycles", *stage_table(facts))
    print_table(f"Whole layers against dense by IREE, {facts['unit']}", *dense_table(facts))
    print_table("Geometric means, times ours", *kind_table(facts))
    print_table("Geometric means of all rows under the switches of the model, times ours", *summary_table(facts))

"""The command `lrf-dse space`: it counts the design space of each layer, and shows which step removes what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_dse.cli.reading import MODEL_HELP, with_reading
from lrf_dse.cli.show import number, print_json, print_line, print_table, progress_bar
from lrf_dse.errors import UsageError

if TYPE_CHECKING:
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.pipeline.spaces import LayerSpace

MOST_DIGITS = 10**12
"""Counts from this on are shown by their order of magnitude."""


@with_reading
def command(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    *,
    reading: ReadOptions,
    target: Annotated[str, typer.Option(help="A chip: see `lrf-dse targets`.")] = "spacemit-k1",
    layer: Annotated[
        list[str] | None, typer.Option(help="Only layers whose name matches this pattern; may be given several times.")
    ] = None,
    top: Annotated[
        int,
        typer.Option(help="How many TT shapes are left of each layer; half as many of low rank are left beside them."),
    ] = 8,
    without: Annotated[
        str,
        typer.Option(
            help="Steps of the funnel to leave out, such as 'whole vectors,faster'; an unknown name lists them."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Save the funnels as OUT.json and OUT.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress on standard error.")] = False,
) -> None:
    """Count the design space of each layer of MODEL and show what removes what; nothing is built or measured."""
    from lrf_dse.models.reader import read_with
    from lrf_dse.models.selection import LayerChoice, chosen
    from lrf_dse.pipeline.blas import few_blas_threads
    from lrf_dse.pipeline.spaces import model_spaces
    from lrf_dse.target import load_target

    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    chip = load_target(target)
    read = chosen(read_with(model, reading), LayerChoice(tuple(layer or ())))
    steps = tuple(step.strip() for step in without.split(",") if step.strip())
    # Threads of BLAS that wait for each other spin; on small layers they cost more than they compute (pipeline.blas).
    with progress_bar(quiet=quiet) as bars, few_blas_threads(read.fc_layers):
        spaces = model_spaces(read, chip, top=top, without=steps, progress=bars)
    title = f"{model.name} on {chip.title}"
    if out is not None:
        _save(out, title, _json(model, chip.name, spaces), spaces)
    if as_json:
        print_json(_json(model, chip.name, spaces))
        return
    _show(title, spaces)


def _show(title: str, spaces: Sequence[LayerSpace]) -> None:
    from lrf_dse.pipeline.spaces import explore_time

    for space in spaces:
        layer = space.layer
        alike = f", and {len(space.layers) - 1} layers like it" if len(space.layers) > 1 else ""
        bounds = "error bounds of any weights" if space.any_weights else "error bounds of the layer's weights"
        print_line(
            f"{layer.name}{alike}: {layer.in_features} -> {layer.out_features}, {_count(space.size.shapes)} shapes, "
            f"{_count(space.size.tuples)} tuples of ranks; {bounds}"
        )
        steps = [
            (step.name, step.kind, _count(step.remaining), _count(step.removed), step.reason)
            for step in space.found.funnel
        ]
        print_table("", ("step", "is", ">left", ">removed", "what it removes"), steps)
        rows = [
            (each.candidate.label, number(each.params), f"{100 * each.error_bound:.0f}", number(each.cycles))
            for each in (*space.found.survivors, space.found.dense)
        ]
        print_table("", ("left", ">parameters", ">error bound %", ">cycles, estimated"), rows)
    expected = explore_time(spaces)
    print_line(
        f"{title}: explore would build about {expected.programs} programs of layers and fit about {expected.fits} "
        f"times: some {max(1, round(expected.seconds / 60))} minutes of one core for small layers; wide "
        "layers, and what else is in the model, come on top"
    )


def _count(value: int) -> str:
    """A count in full, or by its order of magnitude."""
    from lrf_dse.report.funnel_figure import short

    return f"{value:,}" if value < MOST_DIGITS else short(value)


def _json(model: Path, target: str, spaces: Sequence[LayerSpace]) -> dict[str, Any]:
    from lrf_dse.jsonform import to_json
    from lrf_dse.pipeline.spaces import explore_time

    return {"model": str(model), "target": target, "explore": to_json(explore_time(spaces)), "spaces": to_json(spaces)}


def _save(out: Path, title: str, value: dict[str, Any], spaces: Sequence[LayerSpace]) -> None:
    from lrf_dse.cli.show import write_json
    from lrf_dse.report.facts import LayerFunnel
    from lrf_dse.report.funnel_figure import draw_funnels
    from lrf_dse.sealed import write_atomic

    write_json(out.with_name(f"{out.name}.json"), value)
    funnels = [LayerFunnel(space.layer.name, space.found.funnel) for space in spaces]
    write_atomic(out.with_name(f"{out.name}.png"), draw_funnels(title, funnels))

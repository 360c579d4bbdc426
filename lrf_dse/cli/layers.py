"""`lrf-dse layers`: what is in a model, and where its weight and time are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_dse.cli.show import number, print_json, print_line, print_table

if TYPE_CHECKING:
    from lrf_dse.report.facts import ModelFacts


def command(
    model: Annotated[Path, typer.Argument(help="A model file (.onnx).")],
    batch: Annotated[int | None, typer.Option(help="Batch size for a model with a dynamic batch dimension.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the fully connected layers of MODEL with their share of its parameters and multiply-accumulates."""
    from lrf_dse.models.reader import read_model
    from lrf_dse.pipeline.facts import model_facts

    facts = model_facts(read_model(model, batch=batch))
    if as_json:
        print_json(_json(model, facts))
        return
    columns = ("layer", ">in", ">out", ">batch", ">parameters", ">% of model", ">MACs", ">% of model")
    rows = [
        (
            item.layer.name,
            *(number(size) for size in (item.layer.in_features, item.layer.out_features, item.layer.batch)),
            number(item.params),
            f"{100 * _share(item.params, facts.params):.1f}",
            number(item.macs),
            f"{100 * _share(item.macs, facts.macs):.1f}",
        )
        for item in facts.layers
    ]
    print_table(f"{model.name}: {facts.params:,} parameters, {facts.macs:,} MACs", columns, rows)
    for name, reason in facts.skipped:
        print_line(f"skipped {name}: {reason}")


def _json(model: Path, facts: ModelFacts) -> dict[str, Any]:
    layers = [
        {
            "name": item.layer.name,
            "in": item.layer.in_features,
            "out": item.layer.out_features,
            "batch": item.layer.batch,
            "op": item.layer.op,
            "parameters": item.params,
            "parameters_share": _share(item.params, facts.params),
            "macs": item.macs,
            "macs_share": _share(item.macs, facts.macs),
        }
        for item in facts.layers
    ]
    return {
        "model": str(model),
        "sha256": facts.sha256,
        "totals": {"parameters": facts.params, "macs": facts.macs},
        "layers": layers,
        "skipped": [{"name": name, "reason": reason} for name, reason in facts.skipped],
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

"""The command `lrf-dse layers`: it lists what is in a model, and where its weights and its work are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_dse.cli.reading import MODEL_HELP, with_layers, with_reading
from lrf_dse.cli.show import number, print_json, print_line, print_table

if TYPE_CHECKING:
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.models.model import Model
    from lrf_dse.models.selection import LayerChoice
    from lrf_dse.report.facts import ModelFacts


@with_layers
@with_reading
def command(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    *,
    reading: ReadOptions,
    layers: LayerChoice,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the fully connected layers of MODEL and everything else that holds weights, with the shares of each."""
    from lrf_dse.models.reader import read_with
    from lrf_dse.models.selection import chosen
    from lrf_dse.pipeline.facts import model_facts

    read = chosen(read_with(model, reading), layers)
    facts = model_facts(read)
    if as_json:
        print_json(_json(model, read, facts))
        return
    for note in facts.notes:
        print_line(f"note: {note}")
    _print_layers(model, facts)
    _print_rest(read, facts)
    print_line(_best_gain(facts))


def _print_layers(model: Path, facts: ModelFacts) -> None:
    # A column that is 1 everywhere would say nothing.
    shared = any(item.layer.uses > 1 for item in facts.layers)
    columns = ("layer", "is", ">in", ">out", ">batch", *([">uses"] if shared else []))
    shares = (">parameters", ">% of model", ">MACs", ">% of model")
    rows = [
        (
            item.layer.name,
            item.layer.op,
            *(number(size) for size in (item.layer.in_features, item.layer.out_features, item.layer.batch)),
            *([number(item.layer.uses)] if shared else []),
            *_shares(item.params, item.macs, facts),
        )
        for item in facts.layers
    ]
    print_table(f"{model.name}: {facts.params:,} parameters, {facts.macs:,} MACs", (*columns, *shares), rows)


def _print_rest(read: Model, facts: ModelFacts) -> None:
    """Print what is no FC layer, by reason, and the rest, so that all shares add up to 100 %."""
    from lrf_dse.models.inventory import by_reason

    groups = by_reason(read.skipped)
    # The rest is in no group: vectors and scalars, and products of two activations, which hold no weights.
    params = facts.params - sum(item.params for item in facts.layers) - sum(group.params for group in groups)
    macs = facts.macs - sum(item.macs for item in facts.layers) - sum(group.macs for group in groups)
    rows = [(group.label, group.reason, *_shares(group.params, group.macs, facts)) for group in groups]
    if params or macs:
        what = "vectors and scalars; products of two activations" if macs else "vectors and scalars"
        rows.append(("the rest", what, *_shares(params, macs, facts)))
    if rows:
        columns = ("skipped", "because", ">parameters", ">% of model", ">MACs", ">% of model")
        print_table("Not explored", columns, rows)


def _best_gain(facts: ModelFacts) -> str:
    """One sentence that says what the whole model could gain at best."""
    # Amdahl's law, for bytes and for multiply-adds: the rest stays as it is.
    params, macs = (_share(sum(getattr(i, what) for i in facts.layers), getattr(facts, what)) for what in _WHAT)
    shares = f"FC layers are {_percent(params)} of the parameters and {_percent(macs)} of the multiply-adds"
    if params > _ALL and macs > _ALL:
        return f"{shares}: nothing else limits what the whole model can gain."
    size = "nothing else would take room" if params > _ALL else f"the model would be {_times(params)} smaller"
    work = "no multiply-add would be left" if macs > _ALL else f"its multiply-adds would be {_times(macs)} fewer"
    return f"{shares}: if they cost nothing, {size}, and {work}. No plan can gain more."


_WHAT = ("params", "macs")

_ALL = 0.9995
"""Of a share, above which it is shown as 100 %."""


def _percent(share: float) -> str:
    """A share in percent. A share that is less than all is never shown as 100 %."""
    return "100 %" if share > _ALL else f"{100 * share:.1f} %"


def _times(share: float) -> str:
    times = 1 / (1 - share)
    return f"{times:,.0f} times" if times >= 100 else f"{times:.3g} times"


def _shares(params: int, macs: int, facts: ModelFacts) -> tuple[str, ...]:
    return (
        number(params),
        f"{100 * _share(params, facts.params):.1f}",
        number(macs),
        f"{100 * _share(macs, facts.macs):.1f}",
    )


def _json(path: Path, read: Model, facts: ModelFacts) -> dict[str, Any]:
    layers = [
        {
            "name": item.layer.name,
            "in": item.layer.in_features,
            "out": item.layer.out_features,
            "batch": item.layer.batch,
            "op": item.layer.op,
            "uses": item.layer.uses,
            "parameters": item.params,
            "parameters_share": _share(item.params, facts.params),
            "macs": item.macs,
            "macs_share": _share(item.macs, facts.macs),
        }
        for item in facts.layers
    ]
    skipped = [
        {
            "name": item.name,
            "reason": item.reason,
            "parameters": item.params,
            "parameters_share": _share(item.params, facts.params),
            "macs": item.macs,
            "macs_share": _share(item.macs, facts.macs),
        }
        for item in read.skipped
    ]
    return {
        "model": str(path),
        "sha256": facts.sha256,
        "totals": {"parameters": facts.params, "macs": facts.macs},
        "batch": read.batch,
        "notes": list(facts.notes),
        "layers": layers,
        "skipped": skipped,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

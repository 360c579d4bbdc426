"""The command `lrf-dse explore`: it goes from a model file to measured plans and a report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lrf_dse
from lrf_dse.cli.boards import OptionalHost, board_of
from lrf_dse.cli.reading import MODEL_HELP, with_layers, with_reading, with_settings, with_ssh
from lrf_dse.cli.show import (
    interval,
    metric_value,
    number,
    percent,
    print_json,
    print_line,
    print_table,
    progress_bar,
    warn,
)
from lrf_dse.errors import BudgetError

if TYPE_CHECKING:
    from lrf_dse.judged import Confirmation
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.models.selection import LayerChoice
    from lrf_dse.pipeline.run import Run
    from lrf_dse.progress import Progress
    from lrf_dse.report.info import PlanRow, ReportInfo
    from lrf_dse.schema import Candidate, Plan

MOST_LAYERS = 4
"""Layers that have a column each in the table of plans; the report shows all of them."""


@with_settings
@with_layers
@with_reading
@with_ssh
def command(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    target: Annotated[str, typer.Option(help="A chip: see `lrf-dse targets`.")],
    *,
    options: dict[str, Any],
    reading: ReadOptions,
    layers: LayerChoice,
    board: OptionalHost = None,
    ssh: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the run. Default: reports/MODEL-TARGET.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary.json of the run.")] = False,
    timings: Annotated[bool, typer.Option("--timings", help="Print what the time was spent on.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress on standard error.")] = False,
) -> None:
    """Explore factorisations of MODEL's layers for one chip. The same command continues an interrupted run."""
    where = board_of(board, target, **ssh)
    given = options | {"reading": reading, "layers": layers, "board": where}
    with progress_bar(quiet=quiet) as bars:
        tell = bars if options["data"] is not None else _unknown_accuracy_first(bars)
        run = lrf_dse.explore(model, target=target, out=out, progress=tell, **given)
    _show_run(run, as_json=as_json, timings=timings)


def _unknown_accuracy_first(progress: Progress) -> Progress:
    """`progress` that says once that there is no data, when the first stage begins: the end may be hours away."""
    from lrf_dse.pipeline.explore import NO_DATA

    told: list[str] = []

    def tell(stage: str, done: int, total: int) -> None:
        if not told:
            told.append(NO_DATA)
            warn(NO_DATA)
        progress(stage, done, total)

    return tell


def _show_run(run: Run, *, as_json: bool, timings: bool) -> None:
    """The result on standard output, warnings on standard error; no plan within the budgets is a failure."""
    info = run.info
    if as_json:
        import json

        from lrf_dse.report.tables import summary_json

        print_json(json.loads(summary_json(info)))
    else:
        show_result(info)
        if timings:
            from lrf_dse.cli.spending import show_spending

            show_spending(info.spending)
        print_line(f"report: {run.folder / 'report.html'}")
    for warning in (*run.notes, *info.warnings):
        warn(warning)
    if info.chosen is None:
        # Last: the figures are of use also where no plan keeps the budgets, but a script must see the failure.
        raise BudgetError(info.chosen_reason)


def show_result(info: ReportInfo) -> None:
    """The funnel of every layer, the plans, and the chosen one."""
    # All layers pass the same steps.
    steps = [step.name for step in info.funnel[0].steps] if info.funnel else []
    rows = [(funnel.layer, *(number(step.remaining) for step in funnel.steps)) for funnel in info.funnel]
    print_table("Design space: candidates left after each step", ("layer", *(f">{name}" for name in steps)), rows)
    _print_plans(info)
    _print_dense(info)
    _print_confirmations(info)
    _print_tunings(info)
    _print_spans(info)
    for result in info.candidates:
        if result.failure is not None:
            name = f"{result.candidate.layer.name}, {result.candidate.label_with_kernel}"
            print_line(f"failed: {name}: {result.failure.stage}: {result.failure.reason}")
    if info.search.predictions or info.search.selection is not None:
        print_line(f"search: {info.search.sentence}")
    print_line(f"chosen: {info.chosen or 'none'} ({info.chosen_reason})")
    if info.gain_over_quantising is not None:
        print_line(info.gain_over_quantising)


def _print_plans(info: ReportInfo) -> None:
    layers = [item.layer.name for item in info.model.layers]
    # One column that counts kinds in the place of one for each layer (choice_cells).
    layers = layers if len(layers) <= MOST_LAYERS else ["layers"]
    columns = ("plan", f">{info.latency_unit}", ">x dense", ">instructions", ">flash B", ">x dense", ">RAM B")
    quality: tuple[str, ...] = (">weight error",)
    if info.accuracy_known and info.data is not None:
        quality = (
            f">{info.data.metric}{info.data.unit}",
            f">search drop, {info.data.drop_unit}",
            ">95%",
            *((">confirmed drop", ">bounds of 95%") if info.confirmations else ()),
            ">test",
            ">drop",
            ">95%",
        )
    title = f"Plans: * on the front. Latency: {info.dense.latency_source}. Instructions: counted under QEMU"
    marked = [index for index, row in enumerate(info.rows) if row.is_chosen]
    cells = [_plan_cells(info, row) for row in info.rows]
    print_table(title, (*columns, *quality, *([">threads"] if _threaded(info) else []), *layers), cells, marked=marked)


def _print_confirmations(info: ReportInfo) -> None:
    """Print the verdict on every plan that was frozen, in the order in which they were judged."""
    from lrf_dse.plan.budgets import confirmation_sentence

    for name, known in info.confirmations:
        verdict = "confirmed" if known.confirmed else "not confirmed"
        print_line(f"{known.order}. {name}: {verdict}: {confirmation_sentence(known)}")


def _confirmation_cells(known: Confirmation | None) -> tuple[str, str]:
    """The drop on the samples that chose nothing and whether it counts; dashes for a plan not judged there."""
    if known is None or known.drop is None or known.low is None or known.high is None:
        return "-", "-"
    return f"{percent(known.drop)} {'yes' if known.confirmed else 'no'}", interval((known.low, known.high))


def _print_dense(info: ReportInfo) -> None:
    """Print the latency of the dense model by each kernel; plans are compared with the fastest."""
    found = [f"{number(row.latency)} by {' and '.join(row.plan.kernels)}" for row in info.dense_rows]
    print_line(f"dense, {info.latency_unit}: {', '.join(found)}; the first one is the reference")


def _print_tunings(info: ReportInfo) -> None:
    """Print what training won back of each plan, and what the same training does to the dense model."""
    if info.finetuning is None or info.data is None:
        return
    rows = [
        # The first drop is that before training; the weights of the best epoch are kept.
        (name, percent(tuning.drops[0]), percent(min(tuning.drops)), str(tuning.best_epoch), tuning.how, tuning.ended)
        for name, tuning in info.tunings
    ]
    columns = ("plan", f">drop before, {info.data.drop_unit}", ">after", ">best epoch", "how", "ended")
    print_table(f"Fine-tuning on {info.finetuning.samples} samples: drops on the validation part", columns, rows)


def _print_spans(info: ReportInfo) -> None:
    """The cycles of the reference and of the chosen plan under every switch of the timing model."""
    for row in info.rows:
        span = row.plan.cycles_span
        if span and (row.is_chosen or row.plan.is_reference):
            spans = ", ".join(f"{name} {number(cycles)}" for name, cycles in row.plan.sweep.items())
            print_line(
                f"{row.plan.id}: {number(span[0])} to {number(span[1])} cycles under the model's switches ({spans})"
            )


def _plan_cells(info: ReportInfo, row: PlanRow) -> tuple[str, ...]:
    plan = row.plan
    quality = (
        (
            *(metric_value(plan.accuracy), percent(plan.drop_points), interval(plan.drop_interval)),
            *(_confirmation_cells(plan.confirmation) if info.confirmations else ()),
            *(metric_value(plan.test_accuracy), percent(plan.test_drop_points), interval(plan.test_drop_interval)),
        )
        if info.accuracy_known
        else (f"{plan.weight_error:.4f}",)
    )
    return (
        f"{plan.id}{' *' if row.on_front else ''}",
        number(row.latency),
        "-" if row.speedup is None else f"{row.speedup:.2f}{' slower' if row.slower_than_dense else ''}",
        number(plan.instructions),
        number(plan.flash_bytes),
        f"{row.flash_ratio:.2f}",
        number(plan.ram_bytes),
        *quality,
        *([str(plan.threads)] if _threaded(info) else []),
        *choice_cells(plan),
    )


def choice_cells(plan: Plan) -> tuple[str, ...]:
    """One cell for each layer; for more than MOST_LAYERS one cell that counts the layers of each kind."""
    if len(plan.choices) <= MOST_LAYERS:
        return tuple(map(plan.label_of, plan.choices))
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(map(_kind, plan.choices)).most_common())
    return (kinds + (f"; {len(plan.widened)} widened at load" if plan.widened else ""),)


def _kind(choice: Candidate) -> str:
    shape = choice.tt_shape
    kind = "dense" if shape is None else "low rank" if shape.is_low_rank else "Monarch" if shape.is_monarch else "TT"
    return kind if choice.storage == "fp32" else f"{kind} {choice.storage}"


def _threaded(info: ReportInfo) -> bool:
    return any(plan.threads > 1 for plan in info.plans)

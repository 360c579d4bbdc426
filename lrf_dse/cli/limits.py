"""The options of a command that say what a plan may cost, and what is wanted least of."""

from __future__ import annotations

from typing import Annotated

import typer

MaxBytes = Annotated[str | None, typer.Option(help="Flash budget: weights and code, such as 200KiB.")]
MaxRam = Annotated[str | None, typer.Option(help="RAM budget: buffers and stack, such as 64KiB.")]
MaxLatency = Annotated[str | None, typer.Option(help="Budget of one inference: a time such as 5ms, or cycles.")]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="What to choose by within the budgets: latency, bytes, ram or accuracy. Default: latency; without budgets "
        "the knee of the front.",
    ),
]

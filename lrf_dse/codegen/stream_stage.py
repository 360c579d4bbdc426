"""The C of a stage that is a stream: what it makes of its state, then all its panels."""

from __future__ import annotations

from lrf_dse.codegen.phases import one_column, stage_code
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.stream_code import stream_code
from lrf_dse.codegen.stream_short import short_stream
from lrf_dse.codegen.stream_state import prepared_at, preparing
from lrf_dse.codegen.text import at, indented
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.widening import FROM


def stream_function(plan: StagePlan, lanes: int) -> list[str]:
    """The C functions of one stage: its streams, what they need of the state, then stage_N itself."""
    streams = {
        f"stream_{plan.number}{chr(ord('a') + number)}": Stream(plan, run, lanes)
        for number, run in enumerate(panel_runs(plan.panels))
    }
    half = plan.half and plan.storage != "fp32" and not plan.is_short
    code = short_stream if plan.is_short else stream_code
    lines = [line for name, stream in streams.items() for line in (*code(stream, name), "")]
    body = [f"prepare_{plan.number}(s, work);"] if half else []
    for name, stream in streams.items():
        body += _call(name, stream)
    return [
        *(preparing(plan, lanes) if half else []),
        *lines,
        *stage_code(plan, one_column(plan), body),
    ]


def _call(name: str, stream: Stream) -> list[str]:
    """The call of a stream for the panels of the workgroup."""
    plan, run = stream.plan, stream.run
    before = 4 * plan.packed.words(plan.panels[: plan.panels.index(run.first)])
    size, width = plan.packed.panel_bytes(run.first.width), run.first.width
    first, count = "0", str(run.count)
    head = []
    # Each workgroup takes a run of neighbouring panels; with more workgroups than panels some take none (`if (count)`).
    if plan.groups > 1:
        head = [
            f"const size_t first = {run.count} * group / {plan.groups};",
            f"const size_t count = {run.count} * (group + 1) / {plan.groups} - first;",
        ]
        first, count = "first", "count"
    times = run.count if plan.groups > 1 else 1
    arguments = [
        prepared_at(plan) if stream.half else "s",
        at(FROM, ("", before, 1), (first, size, times)),
        at("out", ("", run.first.row, 1), (first, width, times)),
    ]
    arguments += [at("bias", ("", run.first.row, 1), (first, width, times))] if plan.has_bias else []
    arguments += ["work"] if stream.half else []
    call = f"{name}({', '.join([*arguments, count])});"
    return ["{", *indented([*head, f"if (count) {call}"]), "}"] if head else [call]

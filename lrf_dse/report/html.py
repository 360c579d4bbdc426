"""report.html: one self-contained file, made of report.html.j2, report.css, report.js and plotly.js.

Decides nothing: it formats what `info` and `charts` say. The file loads nothing from anywhere. plotly.js (4.8 MB) is
embedded once, gzipped, and unpacked by the browser; until then, without scripts or in a browser that cannot unpack, the
still pictures by matplotlib stand in its place.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from functools import cache
from math import log10
from pathlib import Path
from typing import Any

from lrf_dse.plan.budgets import confirmation_sentence
from lrf_dse.report.axis import Axis
from lrf_dse.report.charts import BudgetLine, Chart, charts
from lrf_dse.report.colours import COLOURS
from lrf_dse.report.info import PlanRow, ReportInfo, target_figures
from lrf_dse.schema import Candidate

_FOLDER = Path(__file__).resolve().parent
_HOVER_LAYERS = 12
"""Layers listed in a hover text; a longer one does not fit a laptop's screen."""

_SYMBOLS = {"dominated": ("circle", 9), "front": ("circle", 11), "dense": ("diamond", 13), "chosen": ("star", 18)}
_LEGEND = {"dominated": "other plan", "front": "on the front", "dense": "dense (reference)", "chosen": "chosen"}


def render_html(info: ReportInfo, *, stills: Mapping[str, bytes]) -> str:
    """The report as one HTML file; `stills` are the charts' SVG files by chart name."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count,
        size=size,
        ratio=ratio,
        fixed=fixed,
        signed_percent=signed_percent,
        drop=drop,
        duration=duration,
        short=short,
        value=value,
        interval=interval,
        confirmation=confirmation_sentence,
    )
    drawn = charts(info)
    return environment.get_template("report.html.j2").render(
        info=info,
        charts=drawn,
        stills={name: base64.b64encode(svg).decode() for name, svg in stills.items()},
        figures_json=_script_json({chart.name: figure(info, chart) for chart in drawn}),
        plotly_gz=_plotly_gz(),
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "report.js").read_text(encoding="utf-8"),
        target_figures=target_figures(info.target),
        choice_rows=_choice_rows(info),
        bars=_bars(info),
        by_layer=_candidates_by_layer(info),
    )


@cache
def _plotly_gz() -> str:
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _script_json(value: Any) -> str:
    """JSON that is safe inside a script element: no "<", so nothing in it can end the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


# --- numbers as people read them; an unknown is a dash ---------------------------------------------------------------

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def count(value: float | None) -> str:
    """A whole number with separators.

    >>> count(1234567.4)
    '1,234,567'
    """
    return DASH if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in binary units.

    >>> size(1075200), size(512)
    ('1.03 MiB', '512 B')
    """
    if value is None:
        return DASH
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:,.0f} {unit}"
    return f"{value:,.0f} B"


def ratio(value: float | None) -> str:
    """Three digits and a times sign: 3.14, 25.0, 250."""
    if value is None:
        return DASH
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}{TIMES}"


def signed_percent(value: float | None) -> str:
    """A relative difference with its sign.

    >>> signed_percent(-0.0349)
    '-3.5 %'
    """
    return DASH if value is None else f"{100 * value:+.1f} %"


def fixed(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point.

    >>> fixed(97.5512)
    '97.55'
    """
    return DASH if value is None else f"{value:,.{digits}f}"


def value(number: float | None, unit: str) -> str:
    """A metric's value: two digits for percentages, four that count for anything else.

    >>> value(97.5512, "%"), value(0.0012345, "")
    ('97.55%', '0.001234')
    """
    return DASH if number is None else f"{number:.2f}%" if unit == "%" else f"{number:.4g}"


def interval(bounds: tuple[float, float] | None) -> str:
    """The ends of the 95% interval of a drop.

    >>> interval((-0.2, 1.0))
    '−0.20 to 1.00'
    """
    return DASH if bounds is None else f"{drop(bounds[0])} to {drop(bounds[1])}"


def drop(value: float | None) -> str:
    """How much worse than dense, in any unit; a gain is negative, 0 has no sign."""
    if value is None:
        return DASH
    text = f"{abs(value):,.2f}"
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) else text


def duration(value: float | None) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.000123), duration(0.0123), duration(2)
    ('123 µs', '12.3 ms', '2 s')
    """
    if value is None:
        return DASH
    scale, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1.0, "s")
    return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:,.0f} {unit}"


def short(sha256: str) -> str:
    """The first twelve digits of a hash; the whole one is in summary.json."""
    return sha256[:12]


# --- tables that need a lookup ----------------------------------------------------------------------------------------


def _choice_rows(info: ReportInfo) -> list[dict[str, Any]]:
    """One row a layer: the layer, its dense parameters, and every plan's choice in the order of `info.rows`."""
    facts = {facts.layer.name: facts for facts in info.model.layers}
    rows = []
    for i, dense in enumerate(info.dense.choices):
        params = facts[dense.layer.name].params if dense.layer.name in facts else None
        cells = [_choice_cell(info, row.plan.choices[i], params) for row in info.rows]
        rows.append({"layer": dense.layer, "params": params, "cells": cells})
    return rows


def _choice_cell(info: ReportInfo, choice: Candidate, dense_params: int | None) -> dict[str, Any]:
    result = info.result_of(choice)
    params = result.estimate.params if result and not choice.is_dense else None
    times = dense_params / params if dense_params and params else None
    return {"label": choice.label_with_kernel, "is_dense": choice.is_dense, "params": params, "times": times}


def _bars(info: ReportInfo) -> dict[str, list[float]]:
    """Bar lengths of every funnel in percent: log(what remains) over log(the layer's whole space)."""
    return {
        funnel.layer: [
            round(100 * log10(1 + step.remaining) / log10(2 + max(s.remaining for s in funnel.steps)), 1)
            for step in funnel.steps
        ]
        for funnel in info.funnel
    }


def _candidates_by_layer(info: ReportInfo) -> list[dict[str, Any]]:
    layers: dict[str, list[Any]] = {}
    for result in info.candidates:
        layers.setdefault(result.candidate.layer.name, []).append(result)
    return [
        {
            "name": name,
            "results": sorted(results, key=lambda r: not r.candidate.is_dense),
            "failed": sum(r.status == "failed" for r in results),
            "measured": sum(r.status == "measured" for r in results),
        }
        for name, results in layers.items()
    ]


# --- plotly figures as plain dicts (importing plotly's Python classes costs a second and adds nothing) ----------------


def figure(info: ReportInfo, chart: Chart) -> dict[str, Any]:
    """A plotly figure: data and layout. report.js adds what depends on the page's theme."""
    return {"data": [_front_line(chart), *_markers(info, chart)], "layout": _layout(chart)}


def _front_line(chart: Chart) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [point.x for point in chart.front],
        "y": [point.y for point in chart.front],
        "line": {"color": COLOURS["front"], "width": 1.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _markers(info: ReportInfo, chart: Chart) -> list[dict[str, Any]]:
    traces = []
    for role, (symbol, width) in _SYMBOLS.items():
        members = [point for point in chart.points if point.row.role == role]
        if not members:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": _LEGEND[role],
                "x": [point.x for point in members],
                "y": [point.y for point in members],
                "text": [html.escape(point.row.plan.id) if point.corner else "" for point in members],
                "textposition": [point.corner or "top right" for point in members],
                "hovertext": [hover(info, point.row) for point in members],
                "hovertemplate": "%{hovertext}<extra></extra>",
                "marker": {"symbol": symbol, "size": width, "color": COLOURS[role], "line": {"width": 1}},
                "cliponaxis": False,
            }
        )
    return traces


def hover(info: ReportInfo, row: PlanRow) -> str:
    """What a plan is, in plotly's little HTML: its numbers, then its choice for every layer."""
    plan = row.plan
    seconds = info.seconds(plan.cycles)
    lines = [
        f"<b>{html.escape(plan.id)}</b>"
        + (" (dense, reference)" if plan.is_reference else "")
        + (f" on {plan.threads} threads" if plan.threads > 1 else ""),
        f"{count(row.latency)} {info.latency_unit}"
        + (f" = {duration(seconds)}" if seconds is not None else "")
        + f", {ratio(row.speedup)}",
        f"flash {size(plan.flash_bytes)} ({ratio(row.flash_ratio)}), RAM {size(plan.ram_bytes)}",
    ]
    if plan.accuracy is not None:
        data = info.data
        metric, unit, drop_unit = (data.metric, data.unit, data.drop_unit) if data else ("accuracy", "%", "points")
        lines.append(f"{metric} {value(plan.accuracy, unit)} (drop {drop(plan.drop_points)} {drop_unit})")
    lines.append(f"weight error {fixed(plan.weight_error, 3)}")
    for choice in plan.choices[:_HOVER_LAYERS]:
        lines.append(f"{html.escape(choice.layer.name)}: {html.escape(choice.label_with_kernel)}")
    if len(plan.choices) > _HOVER_LAYERS:
        lines.append(f"and {len(plan.choices) - _HOVER_LAYERS} more layers")
    return "<br>".join(lines)


def _layout(chart: Chart) -> dict[str, Any]:
    return {
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y),
        "shapes": [_shape(line) for line in chart.budgets],
        "annotations": [_annotation(chart, line) for line in chart.budgets],
        "margin": {"l": 62, "r": 34, "t": 34, "b": 92},
        "legend": {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0},
        "hovermode": "closest",
    }


def _axis(axis: Axis) -> dict[str, Any]:
    low, high = (log10(axis.low), log10(axis.high)) if axis.log else (axis.low, axis.high)
    return {
        "type": "log" if axis.log else "linear",
        "title": {"text": html.escape(axis.label), "standoff": 10, "font": {"size": 13}},
        "range": [high, low] if axis.inverted else [low, high],
        "tickvals": [position for position, _ in axis.ticks],
        "ticktext": [text for _, text in axis.ticks],
        "zeroline": False,
    }


def _shape(line: BudgetLine) -> dict[str, Any]:
    style = {"color": COLOURS["budget"], "width": 1.5, "dash": "dash"}
    along, across = (line.axis, "y" if line.axis == "x" else "x")
    ends = {f"{along}0": line.position, f"{along}1": line.position, f"{across}0": 0, f"{across}1": 1}
    return {"type": "line", **ends, f"{across}ref": "paper", "line": style, "layer": "below"}


def _annotation(chart: Chart, line: BudgetLine) -> dict[str, Any]:
    # Annotations on a log axis are placed by exponent, shapes by value: a plotly habit.
    axis = chart.x if line.axis == "x" else chart.y
    place = log10(line.position) if axis.log else line.position
    common = {"text": html.escape(line.label), "showarrow": False, "font": {"color": COLOURS["budget"], "size": 12}}
    if line.axis == "x":
        side = "right" if line.label_low else "left"
        return {**common, "x": place, "xanchor": side, "yref": "paper", "y": 0, "yanchor": "bottom"}
    return {**common, "y": place, "yanchor": "bottom", "xref": "paper", "x": 0.01, "xanchor": "left"}

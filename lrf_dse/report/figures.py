"""The charts as plotly figures, in plain dicts: plotly's Python classes take a second to import and add nothing.

The module decides nothing; `charts` does.
"""

from __future__ import annotations

import html
from math import log10
from typing import Any

from lrf_dse.report.axis import Axis
from lrf_dse.report.charts import BudgetLine, Chart
from lrf_dse.report.colours import COLOURS
from lrf_dse.report.info import PlanRow, ReportInfo
from lrf_dse.report.words import count, drop, duration, fixed, ratio, size, value

_HOVER_LAYERS = 12
"""Layers listed in a hover text; a longer one does not fit a laptop's screen."""

_SYMBOLS = {"dominated": ("circle", 9), "front": ("circle", 11), "dense": ("diamond", 13), "chosen": ("star", 18)}
_LEGEND = {"dominated": "other plan", "front": "on the front", "dense": "dense (reference)", "chosen": "chosen"}


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
        # A trace for each role: the legend of plotly lists traces.
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
                # plotly reads some HTML in every text, and names come from model files.
                "text": [html.escape(point.row.plan.id) if point.corner else "" for point in members],
                "textposition": [point.corner or "top right" for point in members],
                "hovertext": [hover(info, point.row) for point in members],
                "hovertemplate": "%{hovertext}<extra></extra>",
                "marker": {"symbol": symbol, "size": width, "color": COLOURS[role], "line": {"width": 1}},
                # A mark at the edge is drawn whole.
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
        lines.append(f"{html.escape(choice.layer.name)}: {html.escape(plan.label_of(choice))}")
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
    # plotly gives the range of a log axis by exponents, but its ticks by values.
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
    # "paper" coordinates go from 0 to 1 across the drawing, whatever the axis.
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

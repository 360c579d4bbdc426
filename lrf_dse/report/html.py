"""report.html: one self-contained file, made of report.html.j2, report.css, report.js and plotly.js.

The module decides nothing: it formats what `info` and `charts` say. The page loads nothing from anywhere. plotly.js
(4.8 MB) is embedded once, gzipped, and unpacked by the browser; until then, without scripts or in a browser that cannot
unpack, the still pictures by matplotlib stand in its place.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_dse.plan.budgets import confirmation_sentence
from lrf_dse.report.charts import charts
from lrf_dse.report.colours import PURPOSE_COLOURS
from lrf_dse.report.comparison import Comparison
from lrf_dse.report.figures import figure
from lrf_dse.report.info import ReportInfo, target_figures
from lrf_dse.report.words import count, drop, duration, fixed, interval, ratio, short_hash, signed_percent, size, value
from lrf_dse.schema import Plan

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).resolve().parent


def _environment() -> jinja2.Environment:
    """The templates' environment, with the filters that format numbers."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        # A name that a template misspells is an error, not an empty cell.
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
        short_hash=short_hash,
        value=value,
        interval=interval,
        confirmation=confirmation_sentence,
    )
    return environment


def render_comparison(found: Comparison, *, stills: Mapping[str, bytes]) -> str:
    """The comparison as one HTML file; `stills` are the plots' SVG files by name."""
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            runs=found.runs,
            names=list(found.runs),
            plots=found.plots,
            differences=found.differences,
            stills={name: base64.b64encode(svg).decode() for name, svg in stills.items()},
            style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        )
    )


def render_html(info: ReportInfo, *, stills: Mapping[str, bytes]) -> str:
    """The report as one HTML file; `stills` are the charts' SVG files by chart name."""
    drawn = charts(info)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
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
            purpose_colours=PURPOSE_COLOURS,
            by_layer=_candidates_by_layer(info),
        )
    )


@cache
def _plotly_gz() -> str:
    from plotly.offline import get_plotlyjs

    # No time in the header of gzip: equal runs make equal reports.
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _script_json(value: Any) -> str:
    """JSON that is safe inside a script element: no "<", so nothing in it can end the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


# --- tables that need a lookup ----------------------------------------------------------------------------------------


def _choice_rows(info: ReportInfo) -> list[dict[str, Any]]:
    """One row a layer: the layer, its dense parameters, and every plan's choice in the order of `info.rows`."""
    facts = {facts.layer.name: facts for facts in info.model.layers}
    rows = []
    for i, dense in enumerate(info.dense.choices):
        params = facts[dense.layer.name].params if dense.layer.name in facts else None
        cells = [_choice_cell(info, row.plan, i, params) for row in info.rows]
        rows.append({"layer": dense.layer, "params": params, "cells": cells})
    return rows


def _choice_cell(info: ReportInfo, plan: Plan, layer: int, dense_params: int | None) -> dict[str, Any]:
    choice = plan.choices[layer]
    result = info.result_of(choice)
    params = result.estimate.params if result and not choice.is_dense else None
    times = dense_params / params if dense_params and params else None
    return {"label": plan.label_of(choice), "is_dense": choice.is_dense, "params": params, "times": times}


def _bars(info: ReportInfo) -> dict[str, list[float]]:
    """Bar lengths of every funnel in percent: log(what remains) over log(the layer's whole space)."""
    return {
        funnel.layer: [
            # 1 is added so that a step that leaves nothing has length 0, 2 so that an empty space is no division by 0.
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

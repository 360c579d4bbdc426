"""Put a report into a folder, each file whole or not at all. The module knows file names and renders nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lrf_dse.report.charts import charts
from lrf_dse.report.comparison import Comparison
from lrf_dse.report.html import render_comparison, render_html
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.plots import draw, draw_comparison, draw_predictions
from lrf_dse.report.tables import candidates_csv, comparison_csv, plans_csv, summary_json
from lrf_dse.sealed import write_atomic

PREDICTIONS = "predicted-measured"
"""The plot of the models that the search judged, where it judged any."""


def write_report(info: ReportInfo, folder: Path) -> tuple[Path, ...]:
    """Write report.html, its plots as PNG and SVG, plans.csv, candidates.csv and summary.json; return their paths.

    The folder is created. Everything is rendered before anything is written. Raises StoreError (folder that cannot be
    written, disk full); a file that existed then keeps its old content.
    """
    drawn = {chart.name: draw(chart, "svg") for chart in charts(info)}
    unit = "points" if info.data is None else info.data.drop_unit
    predictions = info.search.predictions
    if predictions:
        drawn[PREDICTIONS] = draw_predictions(predictions, unit, "svg")
    texts = {
        "report.html": render_html(info, stills=drawn),
        "plans.csv": plans_csv(info),
        "candidates.csv": candidates_csv(info),
        "summary.json": summary_json(info),
    }
    # A file's name need not be UTF-8; what is not is escaped, which in JSON reads back as the same name.
    contents = {name: text.encode(errors="backslashreplace") for name, text in texts.items()}
    # The SVG files are also the still pictures inside report.html: they are drawn once, and are the same bytes.
    contents |= {f"{name}.svg": svg for name, svg in drawn.items()}
    contents |= {f"{chart.name}.png": draw(chart, "png") for chart in charts(info)}
    if predictions:
        contents[f"{PREDICTIONS}.png"] = draw_predictions(predictions, unit, "png")
    return _written(contents, folder)


def write_comparison(found: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write compare.html, its plots as PNG and SVG, and compare.csv; return their paths. Else as `write_report`."""
    drawn = {plot.name: draw_comparison(plot, "svg") for plot in found.plots}
    contents = {
        "compare.html": render_comparison(found, stills=drawn).encode(errors="backslashreplace"),
        "compare.csv": comparison_csv(found).encode(errors="backslashreplace"),
    }
    for plot in found.plots:
        contents[f"{plot.name}.svg"] = drawn[plot.name]
        contents[f"{plot.name}.png"] = draw_comparison(plot, "png")
    return _written(contents, folder)


def _written(contents: Mapping[str, bytes], folder: Path) -> tuple[Path, ...]:
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return tuple(folder / name for name in contents)

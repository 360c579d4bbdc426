"""The charts as PNG and SVG by matplotlib. Equal runs give equal bytes. The module decides nothing; `charts` does.

It uses the class Figure and never pyplot, which keeps a global list of figures and may ask for a display.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from lrf_dse.report.axis import Axis
from lrf_dse.report.charts import BudgetLine, Chart, ChartPoint
from lrf_dse.report.colours import COLOURS
from lrf_dse.report.comparison import ComparisonPlot
from lrf_dse.report.facts import PredictionFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (8.0, 5.0)
DPI = 200

_MARKS = {  # role: marker, size, order, legend text; the shapes tell roles apart without colour
    "dominated": ("o", 34.0, 2, "other plan"),
    "front": ("o", 52.0, 3, "on the front"),
    "dense": ("D", 74.0, 4, "dense (reference)"),
    "chosen": ("*", 250.0, 5, "chosen"),
}
_RUN_MARKS = "os^Dv<>P"
"""Shapes that tell runs apart without colour."""

_STYLE = {
    "svg.hashsalt": "lrf-dse",  # else element ids are random
    "svg.fonttype": "path",  # the same picture on a machine with other fonts
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a "$" in a name is a dollar
}


def draw_predictions(rows: Sequence[PredictionFacts], unit: str, form: Literal["png", "svg"]) -> bytes:
    """Predicted against measured drop of the models that were judged; the sums of layers stand beside them."""
    return saved(lambda figure: _draw_predictions(figure, rows, unit), form)


def _draw_predictions(figure: Figure, rows: Sequence[PredictionFacts], unit: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axes = figure.add_subplot()
    axes.set_title("Predicted and measured drop", loc="left", fontweight="bold")
    axes.grid(visible=True, color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    measured = [row.measured for row in rows]
    # The diagonal on which prediction and measurement are equal.
    ends = min(0.0, *measured), max(measured)
    axes.plot(ends, ends, color=COLOURS["muted"], linewidth=1.0, linestyle=(0, (5, 3)), label="as predicted")
    axes.scatter([row.summed for row in rows], measured, marker="x", s=26.0, color=COLOURS["dominated"], label="sum")
    axes.scatter(
        [row.predicted for row in rows], measured, marker="o", s=26.0, color=COLOURS["front"], label="corrected"
    )
    # What budgets ask about lies near 0, and models far beyond would squeeze it: logarithmic above one unit.
    axes.set(xscale="symlog", yscale="symlog")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"predicted drop, {unit}")
    axes.set_ylabel(f"measured drop, {unit}")
    axes.legend(frameon=False, fontsize=9, loc="best")
    note = "A model above the line loses more than was predicted. The sum is of what each layer loses alone."
    figure.supxlabel(note, fontsize=7.5, color=COLOURS["muted"], x=0.01, ha="left", wrap=True)


def draw_comparison(plot: ComparisonPlot, form: Literal["png", "svg"]) -> bytes:
    """Runs as lines over a logarithmic ratio, the chosen plan of each as a star; the file's content."""
    return saved(lambda figure: _draw_comparison(figure, plot), form)


def _draw_comparison(figure: Figure, plot: ComparisonPlot) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes = figure.add_subplot()
    axes.set_title(plot.title, loc="left", fontweight="bold")
    axes.grid(visible=True, color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xscale("log")
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    for number, series in enumerate(plot.series):
        colour, marker = f"C{number}", _RUN_MARKS[number % len(_RUN_MARKS)]
        places = [(x, y) for x, y, _ in series.points]
        axes.plot(*zip(*places, strict=True), color=colour, marker=marker, linewidth=1.2, label=series.run)
        if series.chosen is not None:
            axes.scatter(*series.chosen, s=250.0, marker="*", color=colour, edgecolors="black", zorder=5)
    # Plain numbers at 1, 2 and 5 of every decade; matplotlib itself would label powers of ten alone, as exponents.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=9, loc="best")
    note = "Better is right and down. A line joins the plans that none of the same run beats; a star is the chosen one."
    figure.supxlabel(note, fontsize=7.5, color=COLOURS["muted"], x=0.01, ha="left", wrap=True)


def draw(chart: Chart, form: Literal["png", "svg"]) -> bytes:
    """The chart as a file's content; a PNG is SIZE_INCHES times DPI pixels."""
    return saved(lambda figure: _draw(figure, chart), form)


def saved(draw_on: Callable[[Figure], None], form: Literal["png", "svg"]) -> bytes:
    """The content of a file with what `draw_on` draws on an empty figure in the house style."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # rc_context and not rcParams: a caller's own style stays as it is.
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
        # A Figure without pyplot has no canvas of its own that can draw.
        FigureCanvasAgg(figure)
        draw_on(figure)
        buffer = io.BytesIO()
        # Dates and versions in the metadata would make equal runs differ.
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


def _draw(figure: Figure, chart: Chart) -> None:
    axes = figure.add_subplot()
    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.grid(visible=True, color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.plot([p.x for p in chart.front], [p.y for p in chart.front], color=COLOURS["front"], linewidth=1.4, zorder=1)
    for role, (marker, size, order, text) in _MARKS.items():
        if members := [point for point in chart.points if point.row.role == role]:
            axes.scatter(
                [point.x for point in members],
                [point.y for point in members],
                s=size,
                marker=marker,
                color=COLOURS[role],
                edgecolors="white",
                linewidths=0.8,
                zorder=order,
                label=text,
            )
    _scale(axes, "x", chart.x)
    _scale(axes, "y", chart.y)
    for line in chart.budgets:
        _budget(axes, line)
    for point in chart.points:
        _label(axes, point)
    if chart.points:
        axes.legend(frameon=False, fontsize=9, loc="best")
    figure.supxlabel(chart.note, fontsize=7.5, color=COLOURS["muted"], x=0.01, ha="left", wrap=True)


def _scale(axes: Axes, which: Literal["x", "y"], axis: Axis) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    side = axes.xaxis if which == "x" else axes.yaxis
    side.set_label_text(axis.label)
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    side.set_major_locator(FixedLocator([position for position, _ in axis.ticks]))
    side.set_major_formatter(FixedFormatter([text for _, text in axis.ticks]))
    side.set_minor_locator(NullLocator())
    ends = (axis.high, axis.low) if axis.inverted else (axis.low, axis.high)
    (axes.set_xlim if which == "x" else axes.set_ylim)(*ends)


def _label(axes: Axes, point: ChartPoint) -> None:
    if point.corner is None:
        return
    right, top = point.corner.endswith("right"), point.corner.startswith("top")
    axes.annotate(
        point.row.plan.id,
        (point.x, point.y),
        xytext=(6 if right else -6, 3 if top else -3),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if top else "top",
        fontsize=8.5,
        zorder=6,
    )


def _budget(axes: Axes, line: BudgetLine) -> None:
    draw_line = axes.axvline if line.axis == "x" else axes.axhline
    draw_line(line.position, color=COLOURS["budget"], linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    across = line.axis == "y"
    axes.annotate(
        line.label,
        (0.01, line.position) if across else (line.position, 0.02),
        xycoords=("axes fraction", "data") if across else ("data", "axes fraction"),
        xytext=(0, 3) if across else (-4 if line.label_low else 4, 0),
        textcoords="offset points",
        ha="right" if line.label_low else "left",
        va="bottom",
        fontsize=8.5,
        color=COLOURS["budget"],
    )

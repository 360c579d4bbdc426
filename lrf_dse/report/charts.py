"""The Pareto plots as data: points, axes, labels and budget lines, drawn alike by plotly and by matplotlib.

The module decides what is drawn where, and knows no drawing library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lrf_dse.front.pareto import non_dominated
from lrf_dse.report.axis import Axis, Unit, error_axis, make_axis
from lrf_dse.report.facts import DataFacts
from lrf_dse.report.info import PlanRow, ReportInfo

LOG_SPAN = 6.0
"""A horizontal axis whose values span more than this factor is logarithmic."""

ZOOM_POINTS = 12.0
"""Accuracies that span more points than this are drawn by the logarithm of the error rate, or all good plans merge."""

Corner = Literal["bottom right", "top left", "top right", "bottom left"]


@dataclass(frozen=True)
class ChartPoint:
    """One plan: `x` and `y` in the axes' coordinates; its id is written at `corner`, or not where there is no room."""

    row: PlanRow
    x: float
    y: float
    corner: Corner | None = None


@dataclass(frozen=True)
class BudgetLine:
    """A limit: a line across at `position` on the `axis`; its label stands on the low side if `label_low`."""

    axis: Literal["x", "y"]
    position: float
    label: str
    label_low: bool = False


@dataclass(frozen=True)
class Chart:
    """One plot. `front` are the points no other beats in these two axes, from left to right: they are connected."""

    name: str
    title: str
    x: Axis
    y: Axis
    points: tuple[ChartPoint, ...]
    front: tuple[ChartPoint, ...]
    budgets: tuple[BudgetLine, ...]
    note: str


def charts(info: ReportInfo) -> tuple[Chart, ...]:
    """The latency plot and the bytes plot; plans without the number an axis needs are left out of that plot."""
    quality = "accuracy" if info.accuracy_known else "weight error"
    latency = [(row, row.latency) for row in info.rows if row.latency is not None]
    flash = [(row, float(row.plan.flash_bytes)) for row in info.rows]
    source = info.instructions_source if info.latency_unit == "instructions" else info.dense.latency_source
    x = _horizontal(f"{info.latency_unit} per inference ({source})", latency, line=None, unit="count")
    budget = info.budgets.max_flash_bytes
    line = None if budget is None else BudgetLine("x", budget, f"flash ≤ {budget:,} B")
    x_flash = _horizontal("flash (weights and code)", flash, line=budget, unit="bytes")
    return (
        _chart(info, "latency-accuracy", title=f"Latency and {quality}", x=x, values=latency, x_line=None),
        _chart(info, "bytes-accuracy", title=f"Flash and {quality}", x=x_flash, values=flash, x_line=line),
    )


def _horizontal(label: str, values: Sequence[tuple[PlanRow, float]], *, line: float | None, unit: Unit) -> Axis:
    numbers = [value for _, value in values]
    log = bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > LOG_SPAN
    return make_axis(label, numbers, line=line, log=log, unit=unit)


def _chart(
    info: ReportInfo,
    name: str,
    *,
    title: str,
    x: Axis,
    values: Sequence[tuple[PlanRow, float]],
    x_line: BudgetLine | None,
) -> Chart:
    y, heights, y_line, note = _vertical(info, [row for row, _ in values])
    plain = [ChartPoint(row, value, height) for (row, value), height in zip(values, heights, strict=True)]
    points = _with_labels(plain, x, y, rising=note.startswith("Better is left and up"))
    members = non_dominated([(point.x, point.row.loss) for point in points])
    front = tuple(sorted((points[i] for i in members), key=lambda point: (point.x, point.y)))
    lines = []
    for line in (x_line, y_line):
        axis = x if line and line.axis == "x" else y
        # A far budget line would squeeze the plans (axis._FARTHEST): it is named in the note instead.
        if line and axis.low <= line.position <= axis.high:
            # In the right part of the drawing the label stands left of its line, where there is room.
            low = line.axis == "x" and axis.fraction(line.position) > 0.6
            lines.append(BudgetLine(line.axis, line.position, line.label, low))
        elif line:
            note += f" The budget {line.label} lies outside."
    return Chart(name, title, x, y, tuple(points), front, tuple(lines), note)


_Vertical = tuple[Axis, list[float], BudgetLine | None, str]
"""The vertical axis, each row's height on it, the drop budget's line, and the note under the chart."""

_JOINS = "The line joins the plans that none beats in both axes."


def _vertical(info: ReportInfo, rows: Sequence[PlanRow]) -> _Vertical:
    if not info.accuracy_known:
        errors = [row.plan.weight_error for row in rows]
        axis = make_axis("relative weight error", errors, line=None, log=False, unit="plain")
        unknown = "Accuracy is unknown (no data): the weight error stands in, and does not predict accuracy."
        return axis, errors, None, f"Better is left and down. {_JOINS} {unknown}"
    data = info.data
    samples, label = (data.validation_samples, f"{data.metric}, %") if data else (1000, "accuracy, %")
    if data and not data.in_points:
        return _drop_axis(rows, info.budgets.max_drop, data)
    note = f"Better is left and up. {_JOINS} Accuracy on {samples:,} validation samples"
    accuracies = [row.plan.accuracy or 0.0 for row in rows]
    drop = info.budgets.max_drop
    # The budget is a drop from the dense model; the axis shows accuracy.
    limit = None if drop is None else (info.dense.accuracy or 0.0) - drop
    text = f"accuracy drop ≤ {drop or 0:g}"
    if max(accuracies, default=0.0) - min(accuracies, default=0.0) <= ZOOM_POINTS:
        axis = make_axis(label, accuracies, line=limit, log=False, unit="plain")
        return axis, accuracies, None if limit is None else BudgetLine("y", limit, text), f"{note}."
    # No error has no logarithm: an accuracy of 100 % stands where half a wrong sample would.
    floor = 50.0 / max(samples, 1)
    errors = [max(100.0 - accuracy, floor) for accuracy in accuracies]
    at = None if limit is None else max(100.0 - limit, floor)
    axis = error_axis(label, errors, line=at)
    note += "; the scale is logarithmic in the error rate, so equal steps are equal factors of error."
    return axis, errors, None if at is None else BudgetLine("y", at, text), note


def _drop_axis(rows: Sequence[PlanRow], drop: float | None, data: DataFacts) -> _Vertical:
    """An axis of drops from the dense model, for a metric whose drops are no differences of percentages."""
    drops = [row.plan.drop_points or 0.0 for row in rows]
    axis = make_axis(f"{data.metric}: drop, {data.drop_unit}", drops, line=drop, log=False, unit="plain")
    note = f"Better is left and down. {_JOINS} Drop on {data.validation_samples:,} validation samples."
    return axis, drops, None if drop is None else BudgetLine("y", drop, f"drop ≤ {drop:g}"), note


# --- labels -----------------------------------------------------------------------------------------------------------

_LETTER, _LINE, _MARK = 0.018, 0.05, 0.016
"""Width of a letter, height of a line and half a mark, as shares of the drawing: rough, for 400 pixels and more."""

_Box = tuple[float, float, float, float]


def _with_labels(points: Sequence[ChartPoint], x: Axis, y: Axis, *, rising: bool) -> list[ChartPoint]:
    """Give each point the first corner where its id hides no mark and no other id; dense and chosen come first.

    Corners away from the front's line are tried first: it rises to the right for accuracy, and falls for errors.
    """
    away: tuple[Corner, ...] = ("bottom right", "top left", "top right", "bottom left")
    corners = away if rising else ("top right", "bottom left", "bottom right", "top left")
    places = [(x.fraction(point.x), y.fraction(point.y)) for point in points]
    taken: list[_Box] = [(u - _MARK, v - _MARK, u + _MARK, v + _MARK) for u, v in places]
    found: dict[int, Corner] = {}
    for i in sorted(range(len(points)), key=lambda i: (points[i].row.role not in ("dense", "chosen"), i)):
        boxes = [(corner, _text_box(*places[i], points[i].row.plan.id, corner)) for corner in corners]
        free = [(c, box) for c, box in boxes if _inside(box) and not any(_overlap(box, other) for other in taken)]
        # These two are labelled in any case: every sentence of the report refers to them.
        if not free and points[i].row.role in ("dense", "chosen"):
            free = [min(boxes, key=lambda place: sum(_overlap(place[1], other) for other in taken))]
        if free:
            found[i] = free[0][0]
            taken.append(free[0][1])
    return [ChartPoint(p.row, p.x, p.y, found.get(i)) for i, p in enumerate(points)]


def _text_box(u: float, v: float, text: str, corner: Corner) -> _Box:
    width = _LETTER * len(text)
    left = u + _MARK if corner.endswith("right") else u - _MARK - width
    bottom = v + 0.2 * _MARK if corner.startswith("top") else v - 0.2 * _MARK - _LINE
    return left, bottom, left + width, bottom + _LINE


def _inside(box: _Box) -> bool:
    # Labels may stick out a little; more of that on the right, where the page has a margin.
    return box[0] >= -0.02 and box[1] >= -0.02 and box[2] <= 1.05 and box[3] <= 1.02


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

"""The kernel benchmark as pictures and a page: a roofline plot (PNG) and an HTML file that holds it with the tables."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.against.kernel_table import (
    Row,
    dense_table,
    failures,
    headline_table,
    kernel_table,
    kind_table,
    stage_table,
    storage_table,
    summary_table,
    title,
)
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.errors import UsageError
from lrf_dse.sealed import write_atomic
from lrf_dse.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES, _DPI = (8.0, 5.5), 150
_MARKS = {
    "ours": ("*", 70.0, "#b3261e"),
    "iree_as_used": ("^", 20.0, "#5b8dbb"),
    "iree_transpose_free": ("o", 20.0, "#1f5a91"),
    "polly": ("s", 16.0, "#8a6d3b"),
    "pluto": ("v", 18.0, "#c08a2d"),
    "c_hand": ("D", 16.0, "#7a7a7a"),
}
_STYLE = "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:2px 8px;text-align:right}"


def write_pages(report: Mapping[str, Any], target: Target, folder: Path) -> None:
    """Write roofline.png and kernels.html into `folder`, over none but their like. Raises UsageError, StoreError."""
    picture = roofline_png(report, target)
    page, image = folder / "kernels.html", folder / "roofline.png"
    try:
        ours = page.is_file() and _STYLE.encode() in page.read_bytes()
        if not ours and (taken := next((path for path in (page, image) if path.exists()), None)):
            raise UsageError(f"{taken}: is there already and no earlier output; choose another folder with --out")
        # The page first: it tells that the picture beside it is ours.
        write_atomic(page, kernels_html(report, picture).encode())
        write_atomic(image, picture)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; choose another folder with --out") from error


def roofline_png(report: Mapping[str, Any], target: Target) -> bytes:
    """FLOP per cycle over FLOP per byte of weights and states, under the roofs of the target's memory levels."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_roofs(axes, target)
        for name, (marker, size, colour) in _MARKS.items():
            points = [point for row in report["rows"] if (point := _point(row, name)) is not None]
            if points:
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, s=size, marker=marker, color=colour, label=title(name, report), zorder=3)
        axes.set(xscale="log", yscale="log", xlabel="FLOP per byte of weights and states", ylabel="FLOP per cycle")
        axes.set_title(f"TT kernels on {report['target']}, {report['unit']}", loc="left", fontweight="bold")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_roofs(axes: Axes, target: Target) -> None:
    if target.core.fma_per_cycle is None:
        return
    peak = 2 * target.core.fma_per_cycle.value
    axes.axhline(peak, color="0.3", linewidth=1.2, zorder=1)
    axes.annotate(f"FMA peak, {peak:g} FLOP per cycle", (0.01, peak), xycoords=("axes fraction", "data"), va="bottom")
    for level in target.memory:
        rate = level.read_bytes_per_cycle.value
        xs = [peak / rate / 64, peak / rate]
        axes.plot(xs, [x * rate for x in xs], color="0.6", linewidth=1.0, zorder=1)
        axes.annotate(f"{level.level} {rate:g} B per cycle", (xs[0] * 2, xs[0] * 2 * rate), rotation=30, color="0.4")


def _point(row: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """(FLOP per byte, FLOP per cycle) of a column; every column of a row has the same bytes: those of our stages."""
    cycles = row["columns"].get(name, {}).get("cycles")
    moved = sum(_stage_bytes(stage) for stage in row["stages"])
    return (row["flops"] / moved, row["flops"] / cycles) if cycles and moved else None


def _stage_bytes(stage: Mapping[str, Any]) -> int:
    b, r, k, d = (int(stage[key]) for key in ("batches", "rows", "k", "columns"))
    return FP32_BYTES * (r * k + b * k * d + b * r * d)


def kernels_html(report: Mapping[str, Any], picture: bytes) -> str:
    """A page that stands alone."""
    tables = {
        "Geometric means, times ours, with the least and the most over the timing model's switches": (
            headline_table(report)
        ),
        "The same by kind of rows": kind_table(report),
        "The same by switch": summary_table(report),
        "Shares of their own rooflines that our kernels reach, in percent": storage_table(report),
        f"Kernels: ours in {report['unit']}, others as times ours": kernel_table(report),
        "Whole layers against dense by IREE": dense_table(report),
        "Stages of our kernels against their own bounds, cycles": stage_table(report),
    }
    parts = [f"<h2>{escape(heading)}</h2>{_html_table(head, rows)}" for heading, (head, rows) in tables.items()]
    lines = "".join(f"<li>{escape(line)}</li>" for line in failures(report))
    image = f'<img alt="roofline" width="800" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
    heading = f"TT kernels on {escape(report['target'])}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>{heading}</title><style>{_STYLE}</style>'
        f"<h1>{heading}</h1>{image}{''.join(parts)}<h2>Failed</h2><ul>{lines}</ul>"
    )


def _html_table(head: Row, rows: Sequence[Row]) -> str:
    cells = "".join(f"<th>{escape(name.lstrip('>'))}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"

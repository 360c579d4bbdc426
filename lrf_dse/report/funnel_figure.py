"""The funnels of layers as one picture: the number of candidates that each step left, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf_dse.report.colours import COLOURS
from lrf_dse.report.facts import LayerFunnel
from lrf_dse.report.plots import saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FUNNELS = 6
"""Layers that are drawn; more would be too small to read."""


def draw_funnels(title: str, funnels: Sequence[LayerFunnel]) -> bytes:
    """A PNG of the first `MOST_FUNNELS` funnels, a panel each: a bar a step, dark where the step is safe."""
    return saved(lambda figure: _draw(figure, title, funnels[:MOST_FUNNELS]), "png")


def _draw(figure: Figure, title: str, funnels: Sequence[LayerFunnel]) -> None:
    columns = min(3, len(funnels))
    # Rounded up.
    rows = -(-len(funnels) // columns)
    figure.set_size_inches(2.2 + 3.2 * columns, 0.8 + 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for axes, funnel in zip(panels.flat, funnels, strict=False):
        names = [step.name for step in funnel.steps]
        sizes = [float(step.remaining) for step in funnel.steps]
        colours = ["C0" if step.kind == "safe" else "C1" for step in funnel.steps]
        places = range(len(names))
        # A logarithmic axis has no 0: bars begin at 0.5, and a step that leaves nothing is still a thin bar.
        axes.barh(places, [max(size, 0.7) for size in sizes], color=colours, left=0.5)
        axes.set_xscale("log")
        # Room for the count behind the longest bar: four decades.
        axes.set_xlim(0.5, max(sizes) * 1e4)
        for place, size in zip(places, sizes, strict=True):
            axes.text(max(size, 1.0) * 2, place, short(int(size)), va="center", fontsize=7.5)
        axes.set_yticks(places, names, fontsize=8)
        axes.set_title(funnel.layer, fontsize=9, loc="left")
        axes.set_xticks([])  # every bar says its count
        axes.set_xticks([], minor=True)
    for axes in list(panels.flat)[len(funnels) :]:
        axes.set_visible(False)
    panels.flat[0].set_ylim(len(funnels[0].steps) - 0.4, -0.6)  # shared: turned round once for all
    note = "Candidates that each step leaves. Blue steps are safe, orange ones heuristic."
    figure.supxlabel(note, fontsize=7.5, color=COLOURS["muted"], x=0.01, ha="left")


def short(count: int) -> str:
    """A count that may have twenty digits, in at most seven characters.

    >>> short(812), short(293720), short(1297970696393511)
    ('812', '293,720', '1.3e15')
    """
    if count < 1_000_000:
        return f"{count:,}"
    mantissa, exponent = f"{count:.1e}".split("e+")
    return f"{mantissa}e{int(exponent)}"

"""The still pictures: right size, not blank, the same bytes for the same run, names as text nowhere lost."""

import io
from dataclasses import replace

import numpy as np
import pytest

from lrf_dse.report.charts import charts
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.plots import DPI, SIZE_INCHES, draw


def pixels(png: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    from matplotlib import image

    return image.imread(io.BytesIO(png), format="png")[..., :3]


def has_colour(picture: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=2) < 0.01).sum())


def test_a_png_has_its_size_and_every_kind_of_mark(info: ReportInfo) -> None:
    for chart in charts(info):
        picture = pixels(draw(chart, "png"))
        assert picture.shape == (int(SIZE_INCHES[1] * DPI), int(SIZE_INCHES[0] * DPI), 3)
        for colour in ("#0072b2", "#a9c4d6", "#4b5563", "#d55e00", "#b3446c"):
            assert has_colour(picture, colour) > 100, colour
        edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (edges == 1.0).all()  # nothing is cut at the border


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_run_gives_the_same_bytes(info: ReportInfo, form: str) -> None:
    chart = charts(info)[0]
    assert draw(chart, form) == draw(chart, form)  # type: ignore[arg-type]


def test_an_svg_is_whole_and_loads_nothing(info_without_accuracy: ReportInfo) -> None:
    text = draw(charts(info_without_accuracy)[1], "svg").decode()
    assert text.startswith("<?xml")
    assert text.rstrip().endswith("</svg>")
    assert "<image" not in text
    assert 'href="http' not in text


def test_odd_and_empty_charts_are_drawn_without_warnings(info: ReportInfo) -> None:
    chart = charts(info)[0]
    odd = tuple(replace(p, row=replace(p.row, plan=replace(p.row.plan, id="$p_{1}^$"))) for p in chart.points)
    assert draw(replace(chart, points=odd), "png")
    assert draw(replace(chart, points=(), front=()), "svg")

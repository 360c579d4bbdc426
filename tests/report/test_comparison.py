"""Several runs on one page: what was chosen, the fronts, and what differs between them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from lrf_dse.errors import UsageError
from lrf_dse.report.comparison import Comparison, names_of
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_comparison
from lrf_dse.target import load_target


def test_what_differs_is_listed_and_nothing_else(info: ReportInfo) -> None:
    other = replace(info, seed=info.seed + 1, target=load_target("canaan-k230"))
    found = Comparison({"a": info, "b": other})
    assert dict(found.differences) == {
        "chip": (info.target.title, other.target.title),
        "seed": (str(info.seed), str(info.seed + 1)),
    }
    assert Comparison({"a": info, "b": info}).differences == ()


def test_fronts_are_ratios_to_the_runs_own_dense_model(info: ReportInfo) -> None:
    latency, flash = Comparison({"a": info, "b": info}).plots
    (first, second) = latency.series
    assert first.points == second.points and len(first.points) > 1
    xs, losses = zip(*((x, y) for x, y, _ in first.points), strict=True)
    assert list(xs) == sorted(xs) and list(losses) == sorted(losses), "faster plans of a front lose more"
    rows = {row.plan.id: row for row in info.rows}
    assert [x for x, _, plan in flash.series[0].points] == [
        pytest.approx(rows[plan].flash_ratio) for _, _, plan in flash.series[0].points
    ]
    chosen = info.chosen_row
    assert chosen is not None and first.chosen == (pytest.approx(chosen.speedup), chosen.loss)


def test_qualities_of_different_kinds_share_no_axis(info: ReportInfo) -> None:
    assert info.data is not None
    other = replace(info, data=replace(info.data, metric="top5"))
    found = Comparison({"a": info, "b": other})
    assert found.plots == ()
    assert "data" in dict(found.differences)


def test_the_files(info: ReportInfo, tmp_path: Path) -> None:
    nothing = replace(info, chosen=None, chosen_reason="no plan keeps the budgets")
    paths = write_comparison(Comparison({"a <b>": info, "none": nothing}), tmp_path)
    assert {path.name for path in paths} == {
        "compare.html", "compare.csv", *(f"compare-{n}.{form}" for n in ("latency", "flash") for form in ("svg", "png"))
    }  # fmt: skip
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;" in page and "no plan keeps the budgets" in page and "http" not in page
    again = {path: path.read_bytes() for path in paths}
    write_comparison(Comparison({"a <b>": info, "none": nothing}), tmp_path)
    assert {path: path.read_bytes() for path in paths} == again, "the same runs give the same bytes"
    first, second = csv.DictReader(io.StringIO((tmp_path / "compare.csv").read_text(encoding="utf-8")))
    assert (first["id"], first["dense_latency"]) == (info.chosen, str(info.rows[0].latency))
    assert second["id"] == "" and second["run"] == "none"


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_and_too_many_are_refused(info: ReportInfo, count: int) -> None:
    with pytest.raises(UsageError, match=f"--compare needs 2 to 8 run folders, got {count}"):
        Comparison({str(number): info for number in range(count)})


def test_the_same_folder_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="the same run folder twice"):
        names_of(["run", "run/"])

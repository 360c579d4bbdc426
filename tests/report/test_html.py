"""report.html by its text: numbers present, names escaped, nothing loaded from elsewhere, no unknown made up."""

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lrf_dse.cli.explore import show_result
from lrf_dse.cli.spending import show_spending
from lrf_dse.judged import Confirmation
from lrf_dse.plan.budgets import Budgets
from lrf_dse.process.spending import Spending
from lrf_dse.report.html import render_html
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.tables import summary_json
from lrf_dse.report.words import DASH, MINUS, TIMES, count, drop, duration, fixed, ratio, size

NO_STILLS = {"latency-accuracy": b"", "bytes-accuracy": b""}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Texts by section id, table cells, and every attribute that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self.loads: list[str] = []
        self.scripts: dict[str, str] = {}
        self.misnested: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [values[name] or "" for name in ("src", "href", "data", "poster", "srcset") if name in values]
        if tag not in VOID:
            self.open.append((tag, values.get("id")))

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1][0] != tag:
            self.misnested.append(f"{tag} closes {self.open[-1]}")
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] == "script":
            self.scripts[self.open[-1][1] or "main"] = data
            return
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + " " + data.strip()


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_tags_are_nested_and_all_sections_are_there(page: Page) -> None:
    assert page.misnested == []
    assert page.open == []
    sections = {"chosen", "warnings", "plots", "plans", "choices", "funnel", "candidates", "origins", "environment"}
    assert sections <= set(page.texts)


def test_nothing_is_loaded_from_elsewhere(page: Page, text: str) -> None:
    assert page.loads
    assert all(value.startswith("data:") for value in page.loads)
    assert not re.search(r"@import|url\((?!data:)", text)
    assert not re.search(r"https?://", page.scripts["main"])
    assert len(text) < 3_000_000


def test_numbers_are_there(page: Page, info: ReportInfo) -> None:
    plans = page.texts["plans-table"]
    for plan in info.plans:
        assert f"{plan.cycles:,.0f}" in plans
        assert f"{plan.instructions:,}" in plans
        assert f"{plan.accuracy:.2f}" in plans
        assert f"{plan.test_accuracy:.2f}" in plans
    assert f"4.14{TIMES} fewer" in page.texts["chosen"]
    assert "drop 0.30 points" in page.texts["chosen"]
    assert "292,000" in page.texts["funnel"]
    assert "271,850" in page.texts["funnel"]
    assert "10x6x5 / 4x14x14, ranks 8,8" in page.texts["choices"]
    assert "failed at verify: output differs by 0.3" in page.texts["candidates"]
    assert "roofline estimate, spacemit-k1" in page.texts["origins"]
    assert "rvv-bench" in page.texts["origins"]
    assert "3.13.0" in page.texts["environment"]
    assert "weights are int8" in page.texts["environment"]
    assert "700,000 bytes" in page.texts["plans"]


def test_names_are_escaped_everywhere(page: Page, text: str) -> None:
    assert "fc2 <wide & odd>" in page.texts["choices"]
    assert "<wide" not in text
    figures = json.loads(page.scripts["figures"])
    hovers = [hover for trace in figures["latency-accuracy"]["data"] for hover in trace.get("hovertext", [])]
    assert len(hovers) == 9
    assert all("fc2 &lt;wide &amp; odd&gt;: " in hover for hover in hovers)
    assert "iree-compile: error </script><b>x" in page.texts["warnings"]


def test_figures_hold_every_plan_and_the_budgets(page: Page, info: ReportInfo) -> None:
    figures = json.loads(page.scripts["figures"])
    assert set(figures) == {"latency-accuracy", "bytes-accuracy"}
    for figure in figures.values():
        names = [trace["name"] for trace in figure["data"]]
        assert names == ["front", "other plan", "on the front", "dense (reference)", "chosen"]
        assert sum(len(trace["x"]) for trace in figure["data"][1:]) == len(info.plans)
    flash = figures["bytes-accuracy"]
    assert sorted(flash["data"][0]["x"]) == flash["data"][0]["x"]
    assert 700_000 in [shape.get("x0") for shape in flash["layout"]["shapes"]]
    assert len(flash["layout"]["annotations"]) == 2


@pytest.mark.parametrize("variant", ["info_without_accuracy", "info_without_timing"])
def test_unknowns_are_said_and_not_made_up(variant: str, request: pytest.FixtureRequest) -> None:
    info: ReportInfo = request.getfixturevalue(variant)
    page = Page(render_html(info, stills=NO_STILLS))
    assert page.misnested == []
    whole = " ".join(page.texts.values())
    assert "None" not in whole.replace("None was given, so accuracy is unknown", "")
    assert "nan" not in whole.lower().split()
    if variant == "info_without_accuracy":
        assert "Accuracy is unknown" in page.texts["plots"]
        assert "Drop" not in page.texts["plans-table"]
        assert "unknown" in page.texts["chosen"]
    else:
        assert "Instructions, against dense" in page.texts["chosen"]
        assert "no timing model" in page.texts["origins"]
        assert "µs" not in page.texts["plans-table"]


def test_an_error_that_grew_is_a_drop_above_0(make_info: Callable[..., ReportInfo], info: ReportInfo) -> None:
    assert info.data is not None
    data = replace(info.data, metric="mse", unit="", drop_unit="% of the dense model's")
    worse = replace(info.plans[1], accuracy=0.02, drop_points=25.0, drop_interval=(20.0, 31.0))
    shown = make_info(data=data, plans=(info.dense, worse), chosen=worse.id)
    page = Page(render_html(shown, stills=NO_STILLS))
    assert "drop 25.00 % of the dense model's (20.00 to 31.00)" in page.texts["chosen"]
    heads = " ".join(page.texts["plans-table"].split())
    assert "mse Search drop, % of the dense model's Test mse Test drop" in heads
    assert "accuracy" not in page.texts["plans"].lower()
    assert "are noise" not in page.texts["origins"], "of percentages only is so much known"


def test_no_choice_no_funnel_no_candidates(make_info: Callable[..., ReportInfo], info: ReportInfo) -> None:
    bare = make_info(
        chosen=None, chosen_reason="no plan satisfies the budgets", funnel=(), candidates=(), warnings=(),
        failed_plans=(), budgets=Budgets(), plans=info.plans[:1],
    )  # fmt: skip
    page = Page(render_html(bare, stills=NO_STILLS))
    assert "no plan satisfies the budgets" in page.texts["chosen"]
    assert "warnings" not in page.texts
    assert "Budgets: none" in " ".join(page.texts["plans"].split())


def test_a_slower_choice_is_called_slower(make_info: Callable[..., ReportInfo], info: ReportInfo) -> None:
    slow = replace(info.plans[2], cycles=2 * (info.dense.cycles or 0))
    page = Page(render_html(make_info(plans=(info.dense, slow)), stills=NO_STILLS))
    assert f"2.00{TIMES} more" in page.texts["chosen"]
    page = Page(render_html(make_info(chosen="dense"), stills=NO_STILLS))
    assert page.texts["chosen"].count("the same") == 2


def test_a_hundred_layers_stay_readable(make_info: Callable[..., ReportInfo], info: ReportInfo) -> None:
    plans = tuple(replace(plan, choices=plan.choices * 40) for plan in info.plans)
    text = render_html(make_info(plans=plans), stills=NO_STILLS)
    figures = json.loads(Page(text).scripts["figures"])
    assert all(hover.count("<br>") <= 20 for hover in figures["latency-accuracy"]["data"][-1]["hovertext"])
    assert "and 108 more layers" in figures["latency-accuracy"]["data"][-1]["hovertext"][0]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (count(None), DASH),
        (size(0), "0 B"),
        (size(1023), "1,023 B"),
        (size(1024), "1 KiB"),
        (size(1_048_575), "1,024 KiB"),
        (size(5 * 2**30), "5,120 MiB"),
        (ratio(0.5), f"0.50{TIMES}"),
        (ratio(250.4), f"250{TIMES}"),
        (fixed(None), DASH),
        (ratio(3.14159), f"3.14{TIMES}"),
        (ratio(25.04), f"25.0{TIMES}"),
        (drop(None), DASH),
        (drop(0.4), "0.40"),
        (drop(-0.1), f"{MINUS}0.10"),
        (drop(-0.004), "0.00"),
        (drop(1234.5), "1,234.50"),
        (duration(0.0), "0 µs"),
        (duration(1500.0), "1,500 s"),
    ],
)
def test_numbers_as_people_read_them(found: str, expected: str) -> None:
    assert found == expected


def test_search_confirmed_and_test_drops_stand_side_by_side(
    info: ReportInfo, make_info: Callable[..., ReportInfo]
) -> None:
    held = Confirmation(True, 1, 0.3125, -0.125, 0.75, 700, holds=True)
    wide = Confirmation(False, 2, 0.5, -0.25, 1.375, 700, needed=2100)
    known = {info.plans[1].id: held, info.plans[2].id: wide}
    plans = tuple(replace(plan, confirmation=known.get(plan.id, Confirmation(plan.is_dense))) for plan in info.plans)
    shown = make_info(plans=plans, chosen=info.plans[1].id, budgets=Budgets(max_drop=1.0))
    assert [name for name, _ in shown.confirmations] == [plan.id for plan in info.plans[1:3]]
    page = Page(render_html(shown, stills=NO_STILLS))
    assert "Confirmed drop" in page.texts["plans-table"]
    assert "confirmed drop 0.31, at most 0.75 points" in page.texts["chosen"]
    assert "not confirmed" in page.texts["plans-table"]
    assert page.texts["plans-table"].count("not tested") == len(info.plans) - 3, "all but dense and the two judged"
    assert "about 2,100 such samples would decide" in page.texts["plans"]
    rows = {row["id"]: row for row in json.loads(summary_json(shown))["plans"]}
    assert rows[info.plans[1].id]["confirmed"] is True and rows[info.plans[1].id]["confirmed_drop_high"] == 0.75
    assert rows[info.plans[2].id]["samples_to_decide"] == 2100
    out = io.StringIO()
    with redirect_stdout(out):
        show_result(shown)
    assert f"2. {info.plans[2].id}: not confirmed: 0.5 lost, at most 1.38 (95 %)" in out.getvalue()


def test_where_the_time_went_is_a_bar_whose_parts_are_the_whole(make_info: Callable[..., ReportInfo]) -> None:
    spending = Spending({"fit": 30.0, "compile": 10.0}, {"fit": 31.0, "compile": 6.0}, {"zig cc": (2, 4.0)})
    text = render_html(make_info(spending=spending), stills=NO_STILLS)
    bar = re.search(r'<div class="shares">(.*?)</div>', text, re.DOTALL)
    assert bar is not None
    assert re.findall(r"width: ([\d.]+)%", bar.group(1)) == ["25.00", "75.00"]
    page = Page(text)
    assert page.misnested == []
    words = page.texts["spending"].split()
    assert words.index("compile") < words.index("fit"), "in the order of an exploration"
    assert {"40", "37", "30.0", "31.0", "25.0", "75.0"} <= set(words)


def test_a_run_that_counted_no_time_shows_none(info: ReportInfo) -> None:
    assert 'id="spending"' not in render_html(info, stills=NO_STILLS)


def test_the_time_is_printed_by_purpose_and_by_program() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        show_spending(Spending({"fit": 30.0, "compile": 10.0}, {"fit": 31.0}, {"zig cc": (1234, 4.0)}))
    printed = out.getvalue()
    assert re.search(r"compile\s+10\.0\s+25\s+0\.0", printed)
    assert re.search(r"fit\s+30\.0\s+75\s+31\.0", printed)
    assert re.search(r"all\s+40\.0\s+100\s+31\.0", printed)
    assert re.search(r"zig cc\s+1,234\s+4\.0", printed)

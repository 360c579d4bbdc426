"""What the plots show, before any library draws it: axes, ticks, fronts, budget lines, labels."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.plan.budgets import Budgets
from lrf_dse.report.axis import error_axis, make_axis
from lrf_dse.report.charts import _overlap, _text_box, charts
from lrf_dse.report.info import ReportInfo

MakeInfo = Callable[..., ReportInfo]
POSITIVE = st.floats(1e-3, 1e12)


@given(
    st.lists(POSITIVE, min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from(["count", "bytes", "plain"]),
    st.none() | POSITIVE,
)
def test_an_axis_holds_its_values_and_has_few_round_ticks(
    values: list[float], log: bool, unit: str, line: float | None
) -> None:
    axis = make_axis("x", values, line=line, log=log, unit=unit)  # type: ignore[arg-type]
    assert all(0 < axis.fraction(value) < 1 for value in values)
    places = [place for place, _ in axis.ticks]
    assert places == sorted(set(places))
    assert all(axis.low <= place <= axis.high for place in places)
    assert len(places) <= 10
    if not log:
        assert len(places) >= 2


def test_ticks_read_well() -> None:
    assert [t for _, t in make_axis("x", [1.2e4, 3e5], line=None, log=True, unit="count").ticks] == [
        "10k", "20k", "50k", "100k", "200k",
    ]  # fmt: skip
    assert [t for _, t in make_axis("x", [60_000, 300_000], line=None, log=True, unit="bytes").ticks] == [
        "64 KiB", "128 KiB", "256 KiB",
    ]  # fmt: skip
    assert [t for _, t in make_axis("y", [94.0, 97.6], line=None, log=False, unit="plain").ticks] == [
        "94", "95", "96", "97",
    ]  # fmt: skip


def test_an_error_axis_puts_the_better_accuracy_higher() -> None:
    axis = error_axis("accuracy", [2.4, 56.0], line=3.4)
    assert axis.fraction(2.4) > axis.fraction(3.4) > axis.fraction(56.0)
    assert dict(axis.ticks)[5.0] == "95"


def test_charts_of_a_run_with_accuracy(info: ReportInfo) -> None:
    latency, flash = charts(info)
    assert [point.row.plan.id for point in latency.front] == ["p7", "p6", "p5", "p3", "p2", "p1", "dense"]
    assert len(latency.points) == len(flash.points) == len(info.plans)
    assert "roofline estimate, spacemit-k1" in latency.x.label
    assert latency.y.inverted  # accuracies span 44..97.6: by error rate
    assert [(line.axis, line.position) for line in latency.budgets] == [("y", pytest.approx(3.4))]
    assert ("x", 700_000) in [(line.axis, line.position) for line in flash.budgets]
    assert "1,000 validation samples" in latency.note


def test_near_accuracies_are_drawn_as_they_are(make_info: MakeInfo, info: ReportInfo) -> None:
    near = make_info(plans=tuple(p for p in info.plans if p.accuracy is not None and p.accuracy > 90))
    latency, _ = charts(near)
    assert not latency.y.log
    assert {point.y for point in latency.points} == {p.accuracy for p in near.plans}
    assert latency.budgets[0].position == pytest.approx(96.6)


def test_a_perfect_accuracy_can_be_drawn(make_info: MakeInfo, info: ReportInfo) -> None:
    plans = (replace(info.plans[0], accuracy=100.0, drop_points=0.0), *info.plans[1:])
    latency, _ = charts(make_info(plans=plans))
    assert min(point.y for point in latency.points) == pytest.approx(0.05)  # half of one sample in 1,000


def test_without_accuracy_the_weight_error_is_shown_and_said(info_without_accuracy: ReportInfo) -> None:
    for chart in charts(info_without_accuracy):
        assert "weight error" in chart.title
        assert chart.y.label == "relative weight error"
        assert "Accuracy is unknown" in chart.note
        assert [point.y for point in chart.points] == [row.plan.weight_error for row in info_without_accuracy.rows]


def test_without_timing_the_axis_is_instructions(info_without_timing: ReportInfo) -> None:
    latency, _ = charts(info_without_timing)
    assert latency.x.label == "instructions per inference (instructions counted by QEMU 7.2)"


def test_a_budget_far_away_does_not_squeeze_the_plot(make_info: MakeInfo) -> None:
    _, flash = charts(make_info(budgets=Budgets(max_flash_bytes=2**34)))
    assert flash.budgets == ()
    assert "lies outside" in flash.note
    assert flash.x.high < 2**22


def test_a_plan_alone_can_be_drawn(make_info: MakeInfo, info: ReportInfo) -> None:
    for chart in charts(make_info(plans=info.plans[:1], chosen="dense")):
        assert chart.front == chart.points
        assert chart.x.low < chart.points[0].x < chart.x.high
        assert chart.x.ticks
        assert chart.y.ticks


def test_no_cycles_and_no_instructions_leave_the_latency_plot_empty(make_info: MakeInfo, info: ReportInfo) -> None:
    plans = tuple(replace(plan, cycles=None, instructions=None) for plan in info.plans)
    latency, flash = charts(make_info(plans=plans))
    assert latency.points == ()
    assert len(flash.points) == len(plans)


def test_labels_do_not_cover_each_other(make_info: MakeInfo, info: ReportInfo) -> None:
    crowd = tuple(
        replace(info.plans[1], id=f"q{i}", cycles=90_000.0 + 400 * i, accuracy=97.0 + i / 100) for i in range(30)
    )
    latency, _ = charts(make_info(plans=(*info.plans, *crowd)))
    boxes = [
        _text_box(latency.x.fraction(p.x), latency.y.fraction(p.y), p.row.plan.id, p.corner)
        for p in latency.points
        if p.corner and p.row.role not in ("dense", "chosen")
    ]
    assert 7 <= len(boxes) < len(latency.points)
    assert not any(_overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert all(p.corner for p in latency.points if p.row.role in ("dense", "chosen"))

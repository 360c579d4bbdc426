"""The numbers of a report: comparisons with dense, the front, units, and sentences on origins."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from lrf_dse.plan.budgets import Budgets
from lrf_dse.report.info import ReportInfo, target_figures

MakeInfo = Callable[..., ReportInfo]


def test_rows_are_compared_with_dense(info: ReportInfo) -> None:
    rows = {row.plan.id: row for row in info.rows}
    assert info.rows[0].plan.id == "dense"
    latencies = [row.latency for row in info.rows[1:]]
    assert latencies == sorted(latencies, key=float)  # type: ignore[arg-type]
    assert rows["dense"].speedup == rows["dense"].flash_ratio == 1.0
    assert rows["p2"].speedup == pytest.approx(info.dense.cycles / rows["p2"].plan.cycles)  # type: ignore[operator]
    assert rows["p2"].flash_ratio == pytest.approx(info.dense.flash_bytes / rows["p2"].plan.flash_bytes)
    assert {name for name, row in rows.items() if not row.on_front} == {"p4", "p8"}
    assert {name for name, row in rows.items() if not row.over_budget} == {"p1", "p2"}
    assert (rows["p2"].role, rows["dense"].role, rows["p1"].role, rows["p4"].role) == (
        "chosen", "dense", "front", "dominated",
    )  # fmt: skip
    assert info.chosen_row is rows["p2"]


def test_units_follow_what_is_known(
    info: ReportInfo, info_without_accuracy: ReportInfo, info_without_timing: ReportInfo
) -> None:
    assert (info.latency_unit, info.loss_kind, info.accuracy_known) == ("cycles", "drop_points", True)
    assert (info_without_accuracy.loss_kind, info_without_accuracy.accuracy_known) == ("weight_error", False)
    assert info_without_timing.latency_unit == "instructions"
    assert [row.latency for row in info_without_timing.rows] == [r.plan.instructions for r in info_without_timing.rows]


def test_every_number_has_an_origin(
    info: ReportInfo, info_without_accuracy: ReportInfo, info_without_timing: ReportInfo
) -> None:
    origins = dict(info.origins)
    assert "roofline estimate, spacemit-k1" in origins["Latency"]
    assert "1.6 GHz (published)" in origins["Latency"]
    assert "QEMU 7.2" in origins["Instructions"]
    assert "1,000 validation samples" in origins["Accuracy"]
    assert "0.95 points are noise" in origins["Accuracy"]  # 1.96 sqrt(0.976 * 0.024 / 1000)
    assert "unknown" in dict(info_without_accuracy.origins)["Accuracy"]
    assert "no timing model" in dict(info_without_timing.origins)["Latency"]
    assert info_without_timing.seconds(1000.0) is None
    assert info.seconds(1.6e9) == pytest.approx(1.0)


def test_nothing_may_be_chosen(info: ReportInfo) -> None:
    none = replace(info, chosen=None, chosen_reason="no plan satisfies the budgets")
    assert none.chosen_row is None
    assert replace(info, chosen="dense").rows[0].role == "chosen"


def test_plans_that_do_not_fit_are_refused(make_info: MakeInfo, info: ReportInfo) -> None:
    with pytest.raises(ValueError, match="a dense plan on one thread"):
        make_info(plans=info.plans[1:])
    with pytest.raises(ValueError, match="unique"):
        make_info(plans=(*info.plans, info.plans[1]))
    with pytest.raises(ValueError, match="'p77' is not among"):
        make_info(chosen="p77")


def test_budgets_of_nothing_admit_everything(make_info: MakeInfo) -> None:
    assert not any(row.over_budget for row in make_info(budgets=Budgets()).rows)


def test_target_figures_name_basis_and_source(info: ReportInfo, info_without_timing: ReportInfo) -> None:
    names = [name for name, _ in target_figures(info.target)]
    assert names[0] == "freq_hz"
    assert "L2 read bytes per cycle" in names
    assert target_figures(info_without_timing.target) == ()


def test_json_round_trip_is_identity(info: ReportInfo) -> None:
    """A caller may keep a whole ReportInfo in the store and draw it again later."""
    adapter = TypeAdapter(ReportInfo)
    assert adapter.validate_json(adapter.dump_json(info)) == info

"""plans.csv, candidates.csv and summary.json say what the run said."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lrf_dse.report.info import ReportInfo
from lrf_dse.report.tables import candidates_csv, plans_csv, summary_json


def test_plans_csv_round_trips_through_pandas(info: ReportInfo, folder: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(folder / "plans.csv").set_index("id")
    assert list(frame.index) == [row.plan.id for row in info.rows]
    for plan in info.plans:
        found = frame.loc[plan.id]
        assert found["cycles"] == plan.cycles
        assert found["instructions"] == plan.instructions
        assert found["flash_bytes"] == plan.flash_bytes
        assert found["ram_bytes"] == plan.ram_bytes
        assert found["accuracy"] == plan.accuracy
        assert found["drop_points"] == plan.drop_points
        assert found["test_accuracy"] == plan.test_accuracy
        assert found["latency_source"] == plan.latency_source
        assert found["choice fc2 <wide & odd>"] == plan.choices[1].label
    assert frame.index[frame["is_dense"]].tolist() == ["dense"]
    assert frame.index[frame["is_chosen"]].tolist() == ["p2"]
    assert frame.index[~frame["on_front"]].tolist() == ["p4", "p8"]


def test_candidates_csv_holds_measured_and_failed_ones(info: ReportInfo, folder: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(folder / "candidates.csv")
    assert len(frame) == len(info.candidates)
    assert frame["status"].value_counts().to_dict() == {"measured": 10, "failed": 1}
    broken = frame[frame["status"] == "failed"].iloc[0]
    assert broken["failure_stage"] == "verify"
    assert "limit 1e-4" in broken["failure_reason"]
    assert math.isnan(broken["instructions"])
    measured = next(r for r in info.candidates if r.candidate.label == "low rank 48")
    found = frame[frame["choice"] == "low rank 48"].iloc[0]
    assert measured.measurement is not None
    assert found["instructions"] == measured.measurement.instructions
    assert found["count vector_memory"] == measured.measurement.counts["vector_memory"]
    assert found["estimate_cycles"] == measured.estimate.cycles
    assert found["ranks"] == "1x48x1"


def test_unknowns_are_empty_cells(info_without_accuracy: ReportInfo, info_without_timing: ReportInfo) -> None:
    assert ",,,," in plans_csv(info_without_accuracy).replace(" ", "")
    assert "None" not in plans_csv(info_without_accuracy) + plans_csv(info_without_timing)
    assert "None" not in candidates_csv(info_without_timing)


def test_summary_has_what_issue_2_asks_for(info: ReportInfo, folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert {"model", "target", "funnel", "dense", "plans", "chosen", "seed", "latency_unit"} <= set(summary)
    asked = {"id", "cycles", "latency_source", "flash_bytes", "ram_bytes", "accuracy", "drop_points"}
    more = {"accuracy_samples", "test_accuracy", "test_samples", "instructions", "weight_error", "choices"}
    assert all(asked | more <= set(plan) for plan in summary["plans"])
    assert summary["chosen"] == "p2"
    assert summary["dense"] == summary["plans"][0]
    assert summary["dense"]["id"] == "dense"
    assert summary["dense"]["drop_points"] == 0.0
    assert (summary["seed"], summary["latency_unit"], summary["loss_kind"]) == (7, "cycles", "drop_points")
    assert summary["model"]["sha256"] == "ab" * 32
    assert [layer["name"] for layer in summary["model"]["layers"]] == ["fc1", "fc2 <wide & odd>", "fc3"]
    assert summary["target"]["name"] == "spacemit-k1"
    assert summary["target"]["figures"]["freq_hz"]["basis"] == "published"
    assert summary["funnel"][0]["steps"][0]["remaining"] == 292_000
    assert summary["data"]["validation_samples"] == summary["plans"][1]["accuracy_samples"] == 1000
    p7 = next(plan for plan in summary["plans"] if plan["id"] == "p7")
    assert p7["choices"]["fc1"]["ranks"] == [1, 8, 8, 1]
    assert p7["cycles"] == next(plan for plan in info.plans if plan.id == "p7").cycles


def test_summary_of_what_is_unknown(info_without_accuracy: ReportInfo, info_without_timing: ReportInfo) -> None:
    unknown = json.loads(summary_json(info_without_accuracy))
    assert unknown["data"] is None
    assert (
        {plan["accuracy"] for plan in unknown["plans"]}
        == {plan["accuracy_samples"] for plan in unknown["plans"]}
        == {None}
    )
    counted = json.loads(summary_json(info_without_timing))
    assert counted["latency_unit"] == "instructions"
    assert counted["target"]["has_timing"] is False
    assert all(plan["latency"] == plan["instructions"] for plan in counted["plans"])


def test_no_cell_is_a_formula_and_none_breaks_a_line(make_info: Callable[..., ReportInfo]) -> None:
    """Names of layers come from model files, and csv files are opened in spreadsheets."""
    info = make_info()
    named = {"fc1": "=1+1", "fc3": "-x\ny\x1b[0m"}
    results = [
        replace(r, candidate=replace(r.candidate, layer=replace(r.candidate.layer, name=named.get(name, name))))
        for r in info.candidates
        for name in (r.candidate.layer.name,)
    ]
    text = candidates_csv(make_info(candidates=tuple(results)))
    layers = {row["layer"] for row in csv.DictReader(io.StringIO(text))}
    assert layers == {"'=1+1", "fc2 <wide & odd>", r"'-x\ny\x1b[0m"}
    assert len(text.splitlines()) == len(results) + 1

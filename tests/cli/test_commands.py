"""What the commands print when all is well: tables for people, one JSON document for scripts, nothing on stderr."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import onnx
import pytest
from explored import SAMPLES, Done, command, explore_arguments, figures, open_run, result, rows, tiny_data

from lrf_dse.builders.program import BUILDERS
from lrf_dse.plan.choice import SAME_LATENCY, slower_than_dense
from lrf_dse.target import target_names


def json_of(done: Done) -> object:
    """The one JSON document on standard output of a command that succeeded in silence."""
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would compile or judge a model again fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("this was known")

    monkeypatch.setitem(BUILDERS, "iree", refuse)
    monkeypatch.setattr("lrf_dse.pipeline.evaluation.first_output", refuse)


def test_layers(tiny: Path) -> None:
    done = command("layers", "tiny.onnx")
    assert (done.code, done.err) == (0, "")
    assert "tiny.onnx: 2,344 parameters, 2,304 MACs" in done.out
    fc0, fc1 = (line.split() for line in done.out.splitlines() if line.startswith("fc"))
    assert fc0 == ["fc0", "Gemm", "64", "32", "1", "2,080", "88.7", "2,048", "88.9"]
    assert fc1[:5] == ["fc1", "Gemm", "32", "8", "1"]


def test_layers_json(tiny: Path) -> None:
    found = json_of(command("layers", "tiny.onnx", "--json"))
    assert isinstance(found, dict)
    assert found["totals"] == {"parameters": 64 * 32 + 32 + 32 * 8 + 8, "macs": 64 * 32 + 32 * 8}
    assert [layer["name"] for layer in found["layers"]] == ["fc0", "fc1"]
    assert sum(layer["macs_share"] for layer in found["layers"]) == pytest.approx(1.0)
    assert found["skipped"] == []


def test_timing() -> None:
    """A board's loops by level, and every entry as JSON; a chip of which nothing is published is a usage error."""
    done = command("timing", "--target", "canaan-k230")
    assert (done.code, done.err) == (0, "")
    assert "silicon (loops measured on boards that set no parameter: they validate the model)" in done.out
    levels = [line.split()[1] for line in done.out.splitlines() if line.startswith("canaan-k230 ")]
    assert levels == ["compute", "L1", "L2", "DRAM"]
    found = json_of(command("timing", "--target", "canaan-k230", "--json", "-"))
    assert isinstance(found, dict)
    assert found["canaan-k230"]["default"]["silicon"]["entries"] >= 15
    refused = command("timing", "--target", "starfive-jh7110")
    assert refused.code == 2 and refused.err.count("\n") == 1 and "no published measurement" in refused.err


def test_targets_json() -> None:
    found = json_of(command("targets", "--json"))
    assert isinstance(found, list)
    assert [target["name"] for target in found] == target_names()
    one = json_of(command("targets", "spacemit-k1", "--json"))
    assert isinstance(one, dict)
    assert one["core"]["freq_hz"]["basis"] == "published"


def test_targets_tell_basis_and_source() -> None:
    done = command("targets", "spacemit-k1")
    assert (done.code, done.err) == (0, "")
    assert "derived" in done.out and "rvv-bench" in done.out
    assert "no timing model" in command("targets", "qemu-rv64gcv").out


def test_doctor_json() -> None:
    found = json_of(command("doctor", "--json"))
    assert isinstance(found, list)
    by_name = {check["name"]: check for check in found}
    assert by_name["qemu-riscv64"]["found"] and by_name["qemu-riscv64"]["version"]


@pytest.mark.usefixtures("only_on_path")
def test_doctor_names_what_is_missing() -> None:
    done = command("doctor")
    assert done.code == 2
    assert done.err.startswith("error: missing: qemu-riscv64") and done.err.count("\n") == 1
    assert "qemu-user" in done.out


def test_explore_prints_funnel_plans_and_report(finished: Path) -> None:
    out = (finished / "stdout.txt").read_text(encoding="utf-8")
    assert (finished / "stderr.txt").read_text(encoding="utf-8") == ""
    plans = open_run(finished / "run").info.plans
    lines = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert lines.count("fc0") == lines.count("fc1") == 1, "one funnel each"
    assert {plan.id for plan in plans} <= set(lines)
    assert "whole space" in out
    assert out.splitlines()[-1] == f"report: {finished / 'run' / 'report.html'}"


@pytest.mark.usefixtures("no_work")
def test_a_second_explore_measures_nothing(mine: Path) -> None:
    measured = figures(mine / "run")
    found = json_of(command(*explore_arguments(mine), "--json"))
    assert found == json.loads((mine / "run" / "summary.json").read_text(encoding="utf-8"))
    kinds = [kind for _, kind, _, _ in rows(mine / "run") if kind != "spending"]
    assert kinds[-2:] == ["run", "result"]
    assert figures(mine / "run") == measured, "nothing is measured again"


@pytest.mark.usefixtures("no_work")
def test_report_again_from_the_records_alone(mine: Path) -> None:
    run = mine / "run"
    expected = result(run)
    for path in run.iterdir():
        if path.name not in {"records.sqlite", "model.onnx", "weights", "work"}:
            path.unlink()
    shutil.rmtree(run / "work", ignore_errors=True)
    found = json_of(command("report", run, "--json"))
    assert isinstance(found, dict)
    assert {Path(file).name for file in found["files"]} >= {
        "report.html",
        "plans.csv",
        "candidates.csv",
        "summary.json",
    }
    assert all(Path(file).stat().st_size > 0 for file in found["files"])
    assert result(run) == expected
    with (run / "plans.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["id"] for row in csv.DictReader(stream)] == [plan["id"] for plan in expected["plans"]]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--max-bytes", "10KiB", "--max-bytes is 10,240 bytes, but what every program holds takes "),
        ("--max-ram", 1, "--max-ram is 1 bytes, but what every program holds, inputs and outputs of the model take "),
        ("--max-latency", "10ns", "--max-latency is 16 cycles, but the smallest program takes "),
    ],
)
def test_an_impossible_budget_is_told_before_any_layer_is_measured(
    tiny: Path, option: str, value: object, words: str
) -> None:
    done = command(*explore_arguments(tiny), option, value)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {words}") and done.err.count("\n") == 1
    measured = [value for _, kind, _, value in figures(tiny / "run") if kind == "timing"]
    assert len(measured) == 2  # the smallest program, by each kernel


def test_a_limit_that_no_plan_keeps_names_the_nearest(mine: Path) -> None:
    (mine / "run" / "report.html").unlink()
    done = command(*explore_arguments(mine), "--max-latency", 650)
    plans = open_run(mine / "run").info.plans
    cycles, fastest = min((plan.cycles or 0.0, plan.id) for plan in plans)
    assert done.code == 2
    said = f"no plan satisfies the budgets: the fastest plan takes {cycles:,.0f} cycles ({fastest}); relax them"
    assert done.err == f"error: {said}\n"
    assert (mine / "run" / "report.html").stat().st_size > 0
    assert result(mine / "run")["chosen"] is None
    for pick in ([], ["--pick", "smallest"]):
        refused = command("export", mine / "run", *pick, "-o", mine / "bundle")
        assert (refused.code, refused.err) == (2, f"error: {said}\n")
        assert not (mine / "bundle").exists()


def test_the_objective_is_what_is_chosen_and_exported(mine: Path) -> None:
    done = command(*explore_arguments(mine), "--objective", "bytes", "--json")
    info = open_run(mine / "run").info
    smallest = min(info.plans, key=lambda plan: plan.flash_bytes)
    assert done.code == 0
    assert info.chosen == open_run(mine / "run").plan().id
    assert next(plan for plan in info.plans if plan.id == info.chosen).flash_bytes == smallest.flash_bytes
    assert "--objective bytes" in info.command


def test_a_budget_that_only_some_plans_keep(mine: Path) -> None:
    plans = open_run(mine / "run").info.plans
    limits = {
        (option, name): min(getattr(plan, name) for plan in plans if not slower_than_dense(plan, plans))
        for option, name in (("--max-bytes", "flash_bytes"), ("--max-ram", "ram_bytes"))
    }
    telling = [key for key, limit in limits.items() if any(getattr(plan, key[1]) > limit for plan in plans)]
    assert telling, "one of both separates the plans"
    for option, name in telling:
        limit = limits[option, name]
        done = command(*explore_arguments(mine), option, limit)
        assert (done.code, done.err) == (0, "")
        summary = result(mine / "run")
        allowed = [plan for plan in summary["plans"] if plan[name] <= limit]
        (chosen,) = (plan for plan in allowed if plan["id"] == summary["chosen"])
        assert chosen["latency"] <= SAME_LATENCY * min(plan["latency"] for plan in allowed)


def test_few_samples_are_a_warning(mine: Path) -> None:
    tiny_data(mine, samples=40)
    done = command(*explore_arguments(mine))
    assert done.code == 0
    assert done.err.startswith("warning: ") and done.err.count("\n") == 1
    summary = result(mine / "run")
    used = summary["data"]["calibration_samples"]
    assert 0.4 * 40 <= used <= 0.5 * 40, "the part is 0.4 of them, up to whole samples of every label"
    assert f"{used} samples for calibration" in done.err and "fc0 has 64" in done.err
    assert summary["warnings"][0] in done.err


def test_without_data_plans_are_ranked_by_weight_error(mine: Path) -> None:
    arguments = ["--target", "spacemit-k1", "--top", 2, "--tune", 2, "-o", mine / "run", "--quiet"]
    done = command("explore", mine / "tiny.onnx", *arguments)
    assert done.code == 0
    before, after = done.err.splitlines()  # the second one stands under the result
    assert before == after and before.startswith("warning: NO DATA: the accuracy is UNKNOWN")
    summary = result(mine / "run")
    assert summary["loss_kind"] == "weight_error"
    assert all(plan["accuracy"] is None and plan["drop_points"] is None for plan in summary["plans"])
    assert summary["dense"]["weight_error"] == 0
    assert all((plan["weight_error"] == 0) == plan["is_dense"] for plan in summary["plans"])


def test_a_run_folder_of_another_model_is_refused(mine: Path) -> None:
    before = rows(mine / "run")
    proto = onnx.load(mine / "tiny.onnx")
    proto.graph.node[0].name = "renamed"
    onnx.save(proto, mine / "tiny.onnx")
    done = command(*explore_arguments(mine))
    assert done.code == 2 and done.err.count("\n") == 1
    assert "choose another -o" in done.err
    assert rows(mine / "run") == before


def test_an_unfinished_run_says_so(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lrf_dse.pipeline.explore.measure_layers", stop)
    arguments = [*explore_arguments(mine, run="other")]
    done = command(*arguments)
    assert done.code == 130
    assert done.err == "error: interrupted; what was measured is kept, the same command goes on\n"
    for name in ("report", "export"):
        refused = command(name, mine / "other")
        assert refused.code == 2 and refused.err.count("\n") == 1
        assert "has not finished; run `lrf-dse explore` again" in refused.err


def test_the_summary_has_what_scripts_need(finished: Path) -> None:
    summary = json.loads((finished / "run" / "summary.json").read_text(encoding="utf-8"))
    assert {"model", "target", "funnel", "dense", "plans", "chosen"} <= summary.keys()
    keys = {"id", "cycles", "latency_source", "flash_bytes", "ram_bytes", "accuracy", "drop_points"}
    assert all(keys <= plan.keys() for plan in [summary["dense"], *summary["plans"]])
    assert summary["chosen"] in {plan["id"] for plan in summary["plans"]}
    parts = ("calibration", "validation", "confirmation", "test")
    assert sum(summary["data"][f"{part}_samples"] for part in parts) == SAMPLES

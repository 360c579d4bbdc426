"""A real exploration of the tiny model, for a target with timing and one without: what the run holds, and whether."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from explored import SAMPLES, SIZES, TOP, command, copy_of, explore_arguments, figures, open_run, rows, times_written

import lrf_dse
from lrf_dse.builders.schedule import HALF_TOLERANCE, TOLERANCE
from lrf_dse.codegen.choice import has_half
from lrf_dse.cost.counts import stored_bytes
from lrf_dse.errors import LrfDseError, StoreError, UsageError
from lrf_dse.jsonform import from_json
from lrf_dse.models.data import SHARES
from lrf_dse.models.layer_fit import methods_for
from lrf_dse.pipeline.kernels import schedules_from_json
from lrf_dse.pipeline.run import Run
from lrf_dse.plan.choice import PICKS, SAME_LATENCY, latency_of
from lrf_dse.schema import Candidate, Failure, Measurement, TTShape


@pytest.fixture
def run(of_each_target: Path) -> Run:
    return open_run(of_each_target / "run")


def test_the_funnel_only_narrows_and_adds_up(run: Run) -> None:
    assert [funnel.layer for funnel in run.info.funnel] == ["fc0", "fc1"]
    for funnel in run.info.funnel:
        first, *others = funnel.steps
        assert first.removed == 0
        remaining = first.remaining
        for step in others:
            assert step.remaining == remaining - step.removed >= 0
            remaining = step.remaining
        # With data, low rank and Monarch matrices stand beside the TT shapes.
        assert remaining <= TOP + (TOP + 1) // 2 + (TOP + 2) // 3
    assert run.info.funnel[0].steps[0].remaining > 100, "the whole space, counted"


def test_every_candidate_was_verified_and_measured(run: Run) -> None:
    assert [result.failure for result in run.info.candidates if result.failure] == []
    layers = {result.candidate.layer.name for result in run.info.candidates if result.candidate.is_dense}
    assert layers == {"fc0", "fc1"}, "the dense layers are measured in the same way"
    assert any(not result.candidate.is_dense for result in run.info.candidates)
    for result in run.info.candidates:
        candidate, measured = result.candidate, result.measurement
        assert measured is not None
        in_half = candidate.storage != "fp32" and has_half(run.info.target)
        assert 0 <= measured.max_rel_error < (HALF_TOLERANCE if in_half else TOLERANCE)
        assert measured.instructions == sum(measured.counts.values()) > 0
        assert measured.counts["vector_arithmetic"] > 0
        assert measured.ram_bytes == sum(measured.ram_parts.values()) > 0
        assert measured.flash_bytes > stored_bytes(candidate), "the weights are in the program"


def test_every_storage_is_measured_dense_and_as_a_plan(run: Run) -> None:
    """A model that is only quantised is what a user would have without factorising: a rival of every plan."""
    storages = {"fp32", "int8", "int4"} | ({"fp16"} if has_half(run.info.target) else set())
    for layer in ("fc0", "fc1"):
        mine = [result.candidate for result in run.info.candidates if result.candidate.layer.name == layer]
        assert {candidate.storage for candidate in mine if candidate.tt_shape is None} == storages
    quantised = [plan for plan in run.info.plans if all(choice.tt_shape is None for choice in plan.choices)]
    in_one = {plan.choices[0].storage for plan in quantised if len({c.storage for c in plan.choices}) == 1}
    assert in_one == storages
    few = [result.candidate for result in run.info.candidates if result.candidate.storage != "fp32"]
    assert {candidate.kernel for candidate in few} == {"rvv"}
    assert any(candidate.tt_shape is not None for candidate in few), "few bits and a TT shape together"


def test_shapes_of_plans_are_measured_with_both_kernels_and_the_faster_one_stays(run: Run) -> None:
    times: dict[tuple[str, TTShape], dict[str, float]] = {}
    for result in run.info.candidates:
        candidate = result.candidate
        if candidate.tt_shape is not None and candidate.storage == "fp32" and result.measurement is not None:
            by_kernel = times.setdefault((candidate.layer.name, candidate.tt_shape), {})
            by_kernel[candidate.kernel] = result.measurement.time
    assert times
    assert all("rvv" in by_kernel for by_kernel in times.values())
    choices = [choice for plan in run.info.plans for choice in plan.choices]
    chosen = [choice for choice in choices if choice.tt_shape is not None and choice.storage == "fp32"]
    assert {key for key, by_kernel in times.items() if "iree" in by_kernel} == {
        (choice.layer.name, choice.tt_shape) for choice in chosen
    }
    assert {choice.kernel for choice in chosen} >= {"rvv"}
    for choice in chosen:
        assert choice.tt_shape is not None
        by_kernel = times[choice.layer.name, choice.tt_shape]
        assert by_kernel[choice.kernel] == min(by_kernel.values())
    for plan in run.info.plans:
        assert set(plan.schedules) == {choice.layer.name for choice in plan.choices if choice.kernel == "rvv"}
        schedules_from_json(plan.schedules)  # or ValueError


def test_estimates_are_of_our_kernels_and_bounds_of_every_program(run: Run) -> None:
    has_model = run.info.target.timing is not None
    for result in run.info.candidates:
        assert result.measurement is not None
        assert (result.estimate.cycles is not None) == (has_model and result.candidate.kernel == "rvv")
        assert (result.estimate.source == "") == (result.estimate.cycles is None)
        if has_model:
            assert result.estimate.lower_bound is not None and result.measurement.cycles is not None
            assert result.estimate.lower_bound <= result.measurement.cycles


def test_an_accuracy_does_not_depend_on_the_kernel(run: Run) -> None:
    found: dict[Candidate, set[float | None]] = {}
    for result in run.info.candidates:
        found.setdefault(result.candidate.without_generated, set()).add(result.drop_points)
    assert len(found) < len(run.info.candidates), "some are computed by both"
    assert all(len(drops) == 1 for drops in found.values())


def test_the_dense_model_is_the_reference(run: Run) -> None:
    plans = run.info.plans
    assert [plan.id for plan in plans] == ["dense", *(f"p{n}" for n in range(1, len(plans)))]
    assert len(plans) > 1
    dense = plans[0]
    assert dense.is_dense and dense.drop_points == 0 and dense.weight_error == 0
    assert all((plan.weight_error > 0) != plan.is_dense for plan in plans)
    unit = run.info.latency_unit
    assert {plan.kernels for plan in plans if plan.is_dense} == {("iree",), ("rvv",)}
    times = [latency_of(plan, unit) or 0 for plan in plans if plan.is_dense]
    assert times == sorted(times), "the fastest one is the reference"
    assert len({plan.choices for plan in plans}) == len(plans)


def test_accuracies_are_those_of_the_data(run: Run) -> None:
    info, data = run.info, run.info.data
    assert data is not None
    sizes = {
        "calibration": data.calibration_samples,
        "validation": data.validation_samples,
        "confirmation": data.confirmation_samples,
        "test": data.test_samples,
    }
    assert sum(sizes.values()) == SAMPLES
    # Every label is dealt out by itself, so that a part may be a sample off for some of them.
    assert all(abs(size - SHARES[part] * SAMPLES) <= SIZES[-1] / 2 for part, size in sizes.items())
    for plan in info.plans:
        assert plan.accuracy is not None and plan.test_accuracy is not None
        assert plan.drop_points == pytest.approx((info.dense.accuracy or 0) - plan.accuracy)
    right = (info.dense.accuracy or 0) * sizes["validation"] / 100
    right += (info.dense.test_accuracy or 0) * sizes["test"] / 100
    judged = sizes["validation"] + sizes["test"]
    assert judged - SAMPLES // 10 <= right <= judged, "the data has a wrong label in ten"


def test_every_shape_has_the_method_that_won(run: Run) -> None:
    """The winner is the one with the smallest drop among those that were judged, which the records hold."""
    judged = {
        (row["context.layer"], row["context.choice"], row["context.decomposer"])
        for _, row in run.records[run.records["kind"] == "layer_error"].iterrows()
    }
    for result in run.info.candidates:
        candidate = result.candidate
        if candidate.tt_shape is None:
            assert candidate.decomposer == "none"
            continue
        same_shape = {
            name for layer, choice, name in judged if (layer, choice) == (candidate.layer.name, candidate.label)
        }
        methods = methods_for(candidate.layer, candidate.tt_shape, with_data=True)
        # Few bits start from the method that sees most of the data.
        assert same_shape == set(methods if candidate.storage == "fp32" else methods[-1:])
        assert candidate.decomposer in same_shape
        assert result.output_error is not None and 0 < result.output_error < 1


def test_the_weights_of_every_plan_are_kept(run: Run) -> None:
    files = {path.stem for path in (run.folder / "weights").iterdir()}
    assert files == {plan.weights for plan in run.info.plans}
    for plan in run.info.plans:
        kept = run.weights(plan).replacements
        compressed = {choice.layer.name for choice in plan.choices if not choice.is_dense}
        if plan.sequential:  # dense layers behind a compressed one are corrected too
            assert compressed <= set(kept) <= {choice.layer.name for choice in plan.choices}
        else:
            assert set(kept) == compressed
        for choice in plan.choices:
            if choice.tt_shape is not None:
                cores = kept[choice.layer.name].cores
                assert cores is not None
                assert [core.shape for core in cores] == list(choice.tt_shape.core_shapes)


def test_weights_that_are_damaged_are_named_and_made_again(finished: Path, tmp_path: Path) -> None:
    mine = copy_of(finished, tmp_path)
    run = open_run(mine / "run")
    plan = next(plan for plan in run.info.plans if any(choice.tt_shape is not None for choice in plan.choices))
    path, other = (mine / "run" / "weights" / f"{p.weights}.npz" for p in (plan, run.plan("dense")))
    whole = path.read_bytes()
    for content in (b"", whole[:-40], whole.replace(b"0.core1", b"0.corf1"), other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=rf"{path.name}: the weights of plan {plan.id} .* `lrf-dse explore "):
            run.weights(plan)
    path.unlink()
    assert command("export", mine / "run", "--pick", plan.id).code == 2
    done = command(*explore_arguments(mine))
    assert (done.code, done.err) == (0, "")
    assert path.read_bytes() == whole
    assert figures(mine / "run") == figures(finished / "run"), "nothing is measured again for it"


def test_latency_says_what_it_is(run: Run) -> None:
    info = run.info
    if not info.target.has_timing:
        assert info.latency_unit == "instructions"
        assert all(plan.cycles is None and plan.latency_source == "executed instructions" for plan in info.plans)
        return
    issue = info.target.core.issue_width
    assert issue is not None
    for plan in info.plans:
        assert plan.latency_source == f"modelled cycles, {info.target.name}"
        assert plan.cycles is not None and plan.instructions is not None
        if plan.is_reference or plan.id == info.chosen:
            assert plan.cycles_span is not None
            assert plan.cycles_span[0] <= plan.cycles <= plan.cycles_span[1]
            assert plan.sweep["default"] == plan.cycles, "the model is deterministic"
        else:
            assert plan.cycles_span is None, "what is neither chosen nor compared with is not swept"
        assert plan.cycles >= plan.instructions / issue.value, "no program is faster than its instructions"


def test_the_run_knows_where_its_time_went(run: Run) -> None:
    spent = run.info.spending
    swept = {"sweep"} if run.info.target.has_timing else set()
    assert {"compile", "link", "run", "fit", "judge", "search", *swept} <= spent.cpu_s.keys()
    assert spent.programs["iree-compile"][0] > 0 < spent.programs["zig cc"][0]
    # Programs are most of it; what they took is in the purposes that waited for them.
    building = sum(spent.cpu_s[purpose] for purpose in ("compile", "link", "run", *swept))
    assert building >= 0.95 * sum(cpu_s for _, cpu_s in spent.programs.values()) > 0
    page = run.folder / "report.html"
    before = page.read_bytes()
    assert b"Where the time went" in before
    run.write_report()
    assert page.read_bytes() == before, "the report is drawn again from the records alone"


def test_records_are_one_table(run: Run) -> None:
    table = run.records
    assert set(table["kind"]) == {"timing", "plan_timing", "accuracy", "layer_error"}
    assert table["key"].is_unique
    timings = table[table["kind"] == "timing"]
    measured = [result.candidate for result in run.info.candidates]
    smallest = 2  # in a module and alone: what is around a kernel
    assert len(timings) == len({(c.layer, c.tt_shape, c.storage, c.kernel) for c in measured}) + smallest
    assert (timings["instructions"] > 0).all()


def test_nothing_was_measured_twice(run: Run) -> None:
    assert times_written(run.folder) == len(rows(run.folder))
    timed = [json.loads(value) for _, kind, _, value in figures(run.folder) if kind in {"timing", "plan_timing"}]
    assert all(isinstance(from_json(Measurement | Failure, value), Measurement) for value in timed)
    assert list((run.folder / "work").iterdir()) == [], "work folders of what succeeded are gone"


def test_the_python_api_raises_what_the_command_prints(tmp_path: Path) -> None:
    with pytest.raises(LrfDseError, match="no such file"):
        lrf_dse.explore(tmp_path / "no.onnx", target="spacemit-k1")
    with pytest.raises(UsageError, match="--top"):
        lrf_dse.explore(tmp_path / "no.onnx", target="spacemit-k1", top=0)
    with pytest.raises(LrfDseError, match="not a run folder"):
        lrf_dse.open_run(tmp_path)


def test_picks(run: Run) -> None:
    plans = run.info.plans
    assert run.plan("smallest").flash_bytes == min(plan.flash_bytes for plan in plans)
    latencies = {plan.id: latency_of(plan, run.info.latency_unit) or 0 for plan in plans}
    assert latencies[run.plan("fastest").id] <= SAME_LATENCY * min(latencies.values())
    assert run.plan("least-ram").ram_bytes == min(plan.ram_bytes for plan in plans)
    least = min(max(0.0, plan.drop_points or 0.0) for plan in plans)
    assert max(0.0, run.plan("most-accurate").drop_points or 0.0) == least
    assert run.plan("knee") in plans
    assert run.plan(plans[-1].id) == plans[-1]
    assert run.info.chosen == run.plan("knee").id
    with pytest.raises(UsageError, match=f"unknown pick 'p99'.*{', '.join(PICKS)}.*dense"):
        run.plan("p99")


def test_sizes_of_the_model(run: Run) -> None:
    facts = run.info.model
    assert (facts.macs, facts.params) == (64 * 32 + 32 * 8, 64 * 32 + 32 + 32 * 8 + 8)
    assert sum(layer.macs for layer in facts.layers) == facts.macs
    assert [tensor.shape for tensor in (*facts.inputs, *facts.outputs)] == [(1, SIZES[0]), (1, SIZES[-1])]

"""What a record depends on: a timing never on weights, an accuracy on the data, the seed and every choice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from explored import command, copy_of, explore_arguments, figures, open_run, tiny_data, tiny_model, tiny_run

from lrf_dse.builders.program import BUILDERS
from lrf_dse.models.data import Dataset, load_data, split
from lrf_dse.models.layer_fit import get_method
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.kernels import default_schedules, kernel_sources
from lrf_dse.pipeline.keys import (
    accuracy_key,
    layer_error_key,
    plan_timing_key,
    plan_weights_key,
    space_key,
    timing_key,
)
from lrf_dse.report.info import ReportInfo
from lrf_dse.runners.board import Board
from lrf_dse.runners.ssh import tool_versions as board_versions
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import Figure, Target, load_target
from lrf_dse.tt.svd import DECOMPOSERS

LAYER = FcLayer("fc0", 64, 32, 1, has_bias=True)
LOW_RANK = Candidate(LAYER, TTShape((32, 1), (1, 64), (1, 8, 1)))
TOOLS = {"iree": "3.13.0", "zig": "0.15"}
TARGET = load_target("spacemit-k1")


def of_layer(**changes: object) -> Candidate:
    return replace(LOW_RANK, layer=replace(LAYER, **changes))  # type: ignore[arg-type]


def other_machine(section: str, **changes: object) -> Target:
    part = getattr(TARGET, section).model_copy(update=changes)
    return TARGET.model_copy(update={section: part})


def figure(value: float) -> Figure:
    return Figure(value=value, basis="assumed", source="this test")


def costing(target: Target, operation: str, **changes: object) -> Target:
    """`target` with one cost changed."""
    assert target.timing is not None
    costs = target.timing.costs
    cost = {**costs.cost, operation: costs.cost[operation].model_copy(update=changes)}
    timing = target.timing.model_copy(update={"costs": costs.model_copy(update={"cost": cost})})
    return target.model_copy(update={"timing": timing})


def reworded(target: Target) -> Target:
    """`target` with other words about every cost, and about the cost table."""
    assert target.timing is not None
    costs = target.timing.costs
    sources = {name: known.model_copy(update={"source": "hearsay"}) for name, known in costs.sources.items()}
    timing = target.timing.model_copy(update={"costs": costs.model_copy(update={"title": "other", "sources": sources})})
    return target.model_copy(update={"timing": timing})


SAME_TIMING: dict[str, Callable[[], str]] = {
    "layer's name": lambda: timing_key(of_layer(name="other"), TARGET, TOOLS),
    "layer's operation": lambda: timing_key(of_layer(op="MatMul"), TARGET, TOOLS),
    "decomposer": lambda: timing_key(replace(LOW_RANK, decomposer="t3f"), TARGET, TOOLS),
    "target's name": lambda: timing_key(LOW_RANK, TARGET.model_copy(update={"name": "k1", "title": "K1"}), TOOLS),
    "number of cores": lambda: timing_key(LOW_RANK, other_machine("core", count=1), TOOLS),
    "sources of its figures": lambda: timing_key(LOW_RANK, reworded(TARGET), TOOLS),
    "figures that no runner sees": lambda: timing_key(LOW_RANK, other_machine("core", freq_hz=None), TOOLS),
    "order of the tools": lambda: timing_key(LOW_RANK, TARGET, dict(reversed(TOOLS.items()))),
}
OTHER_TIMING: dict[str, Callable[[], str]] = {
    "dense": lambda: timing_key(dense_candidate(LAYER), TARGET, TOOLS),
    "rank": lambda: timing_key(replace(LOW_RANK, tt_shape=TTShape((32, 1), (1, 64), (1, 16, 1))), TARGET, TOOLS),
    "dims": lambda: timing_key(replace(LOW_RANK, tt_shape=TTShape((8, 4), (8, 8), (1, 8, 1))), TARGET, TOOLS),
    "order": lambda: timing_key(replace(LOW_RANK, order="first_first"), TARGET, TOOLS),
    "threads": lambda: timing_key(replace(LOW_RANK, threads=2), TARGET, TOOLS),
    "batch": lambda: timing_key(of_layer(batch=2), TARGET, TOOLS),
    "bias": lambda: timing_key(of_layer(has_bias=False), TARGET, TOOLS),
    "target": lambda: timing_key(LOW_RANK, load_target("qemu-rv64gcv"), TOOLS),
    "vector length": lambda: timing_key(LOW_RANK, other_machine("isa", vlen_bits=512), TOOLS),
    "compiler's flags": lambda: timing_key(LOW_RANK, other_machine("iree", cpu_features="+m"), TOOLS),
    "simulator's flags": lambda: timing_key(LOW_RANK, other_machine("qemu", cpu="rv64"), TOOLS),
    "a cost": lambda: timing_key(LOW_RANK, costing(TARGET, "v_float_fma", busy=(9, 9, 9, 9)), TOOLS),
    "issue width": lambda: timing_key(LOW_RANK, other_machine("core", issue_width=figure(3)), TOOLS),
    "barrier": lambda: timing_key(LOW_RANK, other_machine("timing", barrier_cycles=figure(7)), TOOLS),
    "no timing model": lambda: timing_key(LOW_RANK, TARGET.model_copy(update={"timing": None}), TOOLS),
    "a tool's version": lambda: timing_key(LOW_RANK, TARGET, TOOLS | {"zig": "0.16"}),
    "another tool": lambda: timing_key(LOW_RANK, TARGET, TOOLS | {"plugin": "1"}),
}


@pytest.mark.parametrize("what", SAME_TIMING)
def test_a_timing_does_not_depend_on(what: str) -> None:
    assert SAME_TIMING[what]() == timing_key(LOW_RANK, TARGET, TOOLS)


@pytest.mark.parametrize("what", OTHER_TIMING)
def test_a_timing_depends_on(what: str) -> None:
    assert OTHER_TIMING[what]() != timing_key(LOW_RANK, TARGET, TOOLS)


def test_on_a_board_neither_model_nor_emulator_counts() -> None:
    """A calibrated target does not send everything to the board again."""
    tools = TOOLS | board_versions(Board("me@k1"))
    on_board = timing_key(LOW_RANK, TARGET, tools)
    for other in (other_machine("timing", barrier_cycles=figure(7)), other_machine("qemu", cpu="rv64")):
        assert timing_key(LOW_RANK, other, tools) == on_board
    assert timing_key(LOW_RANK, other_machine("iree", cpu_features="+m"), tools) != on_board


@pytest.mark.parametrize("threads", [2, 4])
def test_what_threads_share_counts_only_with_threads(threads: int) -> None:
    """The bandwidth of the whole chip is one core's only where all are busy."""
    assert TARGET.timing is not None
    dram = TARGET.timing.dram.model_copy(update={"chip_bytes_per_cycle": figure(6)})
    other = other_machine("timing", dram=dram)
    several = replace(LOW_RANK, threads=threads)
    assert timing_key(LOW_RANK, other, TOOLS) == timing_key(LOW_RANK, TARGET, TOOLS)
    assert timing_key(several, other, TOOLS) != timing_key(several, TARGET, TOOLS)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return read_model(tiny_model(tmp_path))


@pytest.fixture
def validation(tmp_path: Path, model: Model) -> Dataset:
    return split(load_data(tiny_data(tmp_path), model), 0)["validation"]


def test_an_accuracy_depends_on_data_part_seed_and_choices(tmp_path: Path, model: Model, validation: Dataset) -> None:
    data = load_data(validation.path, model)
    other_data = split(load_data(tiny_data(tmp_path, name="other.npz", seed=1), model), 0)["validation"]
    other_weights = read_model(tiny_model(tmp_path, name="other.onnx", seed=1))
    fitted = partial(accuracy_key, calibration=split(data, 0)["calibration"])
    keys = [
        fitted(model, validation, [LOW_RANK], seed=0),
        fitted(model, validation, [LOW_RANK], seed=1),
        fitted(model, split(data, 0)["test"], [LOW_RANK], seed=0),
        fitted(model, other_data, [LOW_RANK], seed=0),
        fitted(other_weights, validation, [LOW_RANK], seed=0),
        fitted(model, validation, [], seed=0),
        fitted(model, validation, [LOW_RANK, replace(LOW_RANK, layer=replace(LAYER, name="fc1"))], seed=0),
        fitted(model, validation, [replace(LOW_RANK, decomposer="whitened")], seed=0),
        fitted(model, validation, [replace(LOW_RANK, order="first_first")], seed=0),
        layer_error_key(model, LOW_RANK, calibration=None, seed=0),
        layer_error_key(model, LOW_RANK, calibration=data, seed=0),
        layer_error_key(other_weights, LOW_RANK, calibration=None, seed=0),
        plan_weights_key(model, [LOW_RANK], calibration=None, seed=0),
        plan_weights_key(other_weights, [LOW_RANK], calibration=None, seed=0),
        plan_timing_key(model, [LOW_RANK], TARGET, TOOLS),
        plan_timing_key(other_weights, [LOW_RANK], TARGET, TOOLS),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("method", [*DECOMPOSERS, "tt_svd_centred", "als_centred"])
def test_what_is_fitted_to_calibration_data_depends_on_it_and_nothing_else_does(
    model: Model, validation: Dataset, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = replace(LOW_RANK, decomposer=method)
    calibration = split(load_data(validation.path, model), 0)["calibration"]
    others = [None, replace(calibration, sha256="other"), split(load_data(validation.path, model), 0)["test"]]

    def keys_with(data: Dataset | None) -> tuple[str, str]:
        judged = accuracy_key(model, validation, [candidate], calibration=data, seed=0)
        return judged, plan_weights_key(model, [candidate], calibration=data, seed=0)

    first = keys_with(calibration)
    same = [keys_with(other) == first for other in others]
    assert same == [not get_method(method).needs_data] * len(others)
    monkeypatch.setattr("lrf_dse.pipeline.keys.METHODS_VERSION", 0)
    assert not set(keys_with(calibration)) & set(first)


def test_keeping_a_layer_is_not_choosing_it(model: Model, validation: Dataset) -> None:
    """No choice for a layer and the choice to keep it are one model: judged once."""
    keep = [dense_candidate(layer) for layer in model.fc_layers]
    first, second = (accuracy_key(model, validation, c, calibration=None, seed=0) for c in (keep, []))
    assert first == second


def test_a_narrowed_space_follows_what_estimates_are_made_of_but_not_its_words(tmp_path: Path) -> None:
    model = read_model(tiny_model(tmp_path))

    def key(target: Target, dense_cycles: float | None = 100.0) -> str:
        return space_key(
            model,
            LAYER,
            target,
            top=4,
            cores=(2, 3),
            seed=0,
            calibration=None,
            dense_cycles=dense_cycles,
            smallest="int4",
        )

    assert key(reworded(TARGET)) == key(TARGET) == key(TARGET.model_copy(update={"title": "other"}))
    slower = TARGET.memory[0].model_copy(update={"read_bytes_per_cycle": figure(1.0)})
    others = [
        costing(TARGET, "v_float_fma", busy=(2.0, 4.0, 8.0, 16.0)),
        other_machine("core", fma_per_cycle=figure(4.0)),
        TARGET.model_copy(update={"memory": (slower, *TARGET.memory[1:])}),
        load_target("qemu-rv64gcv"),
    ]
    assert len({key(TARGET), key(TARGET, 200.0), key(TARGET, None), *map(key, others)}) == 3 + len(others)


def shapes_of(info: ReportInfo) -> set[Candidate]:
    """The candidates without their decomposers, which their accuracy decides."""
    return {replace(result.candidate, decomposer="none") for result in info.candidates}


def test_other_weights_do_not_measure_a_layer_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Weights times two have the same spectra, so the same candidates survive: only whole models are built."""
    run = mine / "run"
    with closing(sqlite3.connect(run / "records.sqlite")) as database:
        database.execute("DELETE FROM record WHERE kind != 'timing'")
        database.commit()
    before = figures(run)
    tiny_model(mine, scale=2.0)
    built: list[str] = []
    build = BUILDERS["iree"]
    monkeypatch.setitem(BUILDERS, "iree", lambda proto, *rest: (built.append(proto.graph.name), build(proto, *rest))[1])
    done = command(*explore_arguments(mine))
    assert (done.code, done.err) == (0, "")
    assert [row for row in figures(run) if row[1] == "timing"] == before
    info = open_run(run).info
    swept = {info.dense.id, info.chosen}
    assert 0 < len(built) <= len(info.plans) + len(swept)
    assert "layer" not in built, "no single layer is built again"
    first = open_run(tiny_run(tmp_path_factory) / "run").info
    assert shapes_of(info) == shapes_of(first)


def test_another_seed_judges_again_and_times_only_what_it_finds_beside(finished: Path, tmp_path: Path) -> None:
    """Another split of the data predicts other errors, so another shape or two may survive; no timing is made twice."""
    mine = copy_of(finished, tmp_path)
    before, known = figures(mine / "run"), shapes_of(open_run(finished / "run").info)
    done = command(*explore_arguments(mine), "--seed", 1)
    assert (done.code, done.err) == (0, "")
    kinds = [kind for _, kind, _, _ in figures(mine / "run")[len(before) :]]
    assert {"accuracy"} <= set(kinds) <= {"accuracy", "fit_error", "layer_error", "space", "timing", "plan_timing"}
    found = open_run(mine / "run").info
    assert kinds.count("timing") <= len(shapes_of(found) - known)
    assert len(shapes_of(found) & known) > len(known) / 2
    assert found.seed == 1


RVV = replace(LOW_RANK, kernel="rvv")


def test_a_generated_kernel_is_known_by_its_source() -> None:
    """Another generator or schedule measures rvv again, and nothing else."""
    old, new = {"fc0": "0123"}, {"fc0": "4567"}
    keys = {timing_key(RVV, TARGET, TOOLS, source) for source in (old, new)} | {timing_key(LOW_RANK, TARGET, TOOLS)}
    assert len(keys) == 3
    assert timing_key(LOW_RANK, TARGET, TOOLS, new) == timing_key(LOW_RANK, TARGET, TOOLS)
    assert timing_key(replace(RVV, layer=replace(LAYER, name="other")), TARGET, TOOLS, {"other": "0123"}) in keys


def test_kernel_sources_follow_shape_schedule_and_target() -> None:
    schedules = default_schedules([RVV, dense_candidate(LAYER)], TARGET)
    assert list(schedules) == ["fc0"]
    (source,) = kernel_sources([RVV], schedules, TARGET).values()
    assert kernel_sources([replace(RVV, decomposer="als")], schedules, TARGET) == {"fc0": source}
    assert kernel_sources([LOW_RANK], schedules, TARGET) == {}
    *others, last = schedules["fc0"].stages
    shorter = replace(schedules["fc0"], stages=(*others, replace(last, lmul=last.lmul // 2)))
    other = load_target("starfive-jh7110")
    found = {
        source,
        kernel_sources([RVV], {"fc0": shorter}, TARGET)["fc0"],
        kernel_sources([replace(RVV, threads=2)], schedules, TARGET)["fc0"],
        kernel_sources([RVV], default_schedules([RVV], other), other)["fc0"],
    }
    assert len(found) == 4


def test_errors_and_accuracies_know_no_kernel(model: Model, validation: Dataset) -> None:
    for key in (
        lambda choice: accuracy_key(model, validation, [choice], calibration=None, seed=0),
        lambda choice: layer_error_key(model, choice, calibration=None, seed=0),
        lambda choice: plan_weights_key(model, [choice], calibration=None, seed=0),
    ):
        assert key(RVV) == key(LOW_RANK) == key(replace(RVV, threads=4))

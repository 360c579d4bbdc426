"""Accuracies of whole models: with a correction, with reordered units, from the records the second time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.finetune.reorder import reordering
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.metrics import METRICS
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.corrections import AS_FITTED, Corrections, winning
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.weights import Weights
from lrf_dse.schema import Candidate, Plan, TTShape, dense_candidate
from lrf_dse.store import Store
from lrf_dse.tt.contraction import to_matrix

TRAIN = TTShape((4, 6), (4, 4), (1, 3, 1))
WAYS = [Corrections(sequential=s, reordered=r) for s in (False, True) for r in (False, True)]
LOW_RANK = TTShape((24, 1), (1, 16), (1, 9, 1))


@pytest.fixture
def read(tmp_path: Path) -> Model:
    """x [1, 16] -> a (24) -> relu -> b (5); a is nearly a tensor train, but its units were shuffled."""
    cores = [values(*core, seed=k) for k, core in enumerate(TRAIN.core_shapes)]
    weight = to_matrix(cores) + 0.1 * values(24, 16, seed=5)
    shuffled = weight[np.random.default_rng(3).permutation(24)]
    constants = {"wa": shuffled, "ba": values(24, seed=6), "wb": values(5, 24, seed=7), "bb": values(5, seed=8)}
    nodes = [
        node("Gemm", ["x", "wa", "ba"], ["h"], "a", transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "wb", "bb"], ["y"], "b", transB=1),
    ]
    proto = model(nodes, inputs={"x": (1, 16)}, outputs={"y": (1, 5)}, constants=constants)
    return read_model(saved(proto, tmp_path))


def data(part: str, seed: int) -> Dataset:
    return Dataset(Path("d.npz"), {"x": values(150, 16, seed=seed)}, None, "", part=part, metric=METRICS["mse"])


@pytest.fixture
def judged(read: Model, tmp_path: Path) -> Iterator[Accuracies]:
    parts = {name: data(name, seed) for name, seed in (("validation", 21), ("test", 22))}
    with Store(tmp_path / "run") as store:
        weights = Weights(Compressor(read, seed=0, calibration=data("calibration", 20)), tmp_path / "run")
        yield Accuracies(Evaluation(weights, parts), store)


def test_a_model_that_gives_no_numbers_is_judged_and_is_bad(judged: Accuracies, read: Model) -> None:
    """Its figures have to be numbers: a report is strict JSON."""
    proto = to_onnx(read)
    last = proto.graph.node[-1]
    last.output[0] = "z"
    proto.graph.node.append(node("Log", ["z"], ["y"]))
    found = judged.judged(proto, "validation")
    assert np.isfinite([found.value, found.drop, found.drop_low, found.drop_high]).all()
    assert found.drop > 1000


def choices_of(read: Model, shape: TTShape) -> list[Candidate]:
    first, second = read.fc_layers
    return [Candidate(first, shape), dense_candidate(second)]


def test_each_way_wins_by_what_it_leaves_on_the_validation_part(judged: Accuracies, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    drops = {ways: judged.accuracy(choices, "validation", ways).drop for ways in WAYS}
    assert len(set(drops.values())) == 4, "four different models"
    won = judged.corrections(choices)
    assert won.sequential == (drops[Corrections(sequential=True)] < drops[AS_FITTED])
    assert won.reordered == (drops[replace(won, reordered=True)] < drops[replace(won, reordered=False)])
    assert drops[Corrections(reordered=True)] < 0.85 * drops[AS_FITTED], "the order that was lost is worth finding"
    assert drops[Corrections(sequential=True)] < 0.8 * drops[AS_FITTED], "the second layer makes up for the first"


@pytest.mark.parametrize("drops", list(itertools.permutations(range(4))))
def test_of_two_corrections_each_is_used_where_it_wins(drops: tuple[int, ...]) -> None:
    loses = dict(zip(WAYS, drops, strict=True))
    won = winning(loses.__getitem__, correctable=True, reorderable=lambda: True)
    assert won.sequential == (loses[Corrections(sequential=True)] < loses[AS_FITTED])
    assert loses[won] <= loses[replace(won, reordered=not won.reordered)]
    plain = winning(loses.__getitem__, correctable=False, reorderable=lambda: False)
    assert plain == AS_FITTED


@pytest.mark.parametrize("sequential", [False, True])
def test_weights_that_were_kept_are_those_that_were_judged(judged: Accuracies, read: Model, sequential: bool) -> None:
    choices = choices_of(read, TRAIN)
    ways = Corrections(sequential, reordered=True)
    drop = judged.accuracy(choices, "validation", ways).drop
    kept = judged.weights.replacements(choices, ways)
    part = judged.parts["validation"]
    want, got = (outputs(proto, part.x)["y"] for proto in (to_onnx(read), replaced(read, kept)))
    assert METRICS["mse"].drop_unit.startswith("%")
    assert drop == pytest.approx(100 * np.square(got - want).mean() / np.var(want), rel=0.3)


def test_what_a_choice_loses_is_in_the_best_way(judged: Accuracies, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    alone = [judged.accuracy(choices, "validation", Corrections(reordered=r)).drop for r in (False, True)]
    assert judged.drop_points(choices) == alone[0] > alone[1]
    assert judged.best(choices).drop <= min(alone)


def test_a_plan_is_judged_in_the_form_that_ships(judged: Accuracies, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    weights = judged.weights.key(choices, AS_FITTED)
    plan = Plan("p1", tuple(choices), 1.0, "modelled", 1, 1, 1, 0.1, weights=weights)
    fed = judged.accuracy(choices, "test").drop
    with mock.patch("lrf_dse.pipeline.evaluation.replaced", side_effect=replaced) as rewritten:
        assert judged.of_plan(plan, "test").drop == pytest.approx(fed, rel=1e-3)
        assert rewritten.call_count == 1


def test_orders_are_searched_for_once_a_shape(judged: Accuracies, read: Model) -> None:
    first, second = read.fc_layers
    with mock.patch("lrf_dse.pipeline.weights.reordering", side_effect=reordering) as searched:
        for method in ("tt_svd", "als"):
            judged.best([Candidate(first, TRAIN, decomposer=method), dense_candidate(second)])
        assert searched.call_count == 1


def test_low_rank_layers_are_not_reordered(judged: Accuracies, read: Model) -> None:
    assert not judged.corrections(choices_of(read, LOW_RANK)).reordered


def test_the_records_know_what_was_judged(judged: Accuracies, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    first = [judged.accuracy(choices, "test", ways) for ways in WAYS]
    forgetful = Accuracies(Evaluation(judged.weights, judged.parts), judged.store)
    with mock.patch.object(Evaluation, "scores", side_effect=AssertionError("judged twice")):
        assert [forgetful.accuracy(choices, "test", ways) for ways in WAYS] == first

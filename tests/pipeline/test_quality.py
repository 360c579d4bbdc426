"""What the judge says of whole models: with a correction, with reordered units, from the records the second time."""

from __future__ import annotations

from collections.abc import Iterator
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
from lrf_dse.pipeline.quality import Judge
from lrf_dse.schema import Candidate, Plan, TTShape, dense_candidate
from lrf_dse.store import Store
from lrf_dse.tt.contraction import to_matrix

TRAIN = TTShape((4, 6), (4, 4), (1, 3, 1))
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
def judge(read: Model, tmp_path: Path) -> Iterator[Judge]:
    parts = {name: data(name, seed) for name, seed in (("validation", 21), ("test", 22))}
    with Store(tmp_path / "run") as store:
        yield Judge(Compressor(read, seed=0, calibration=data("calibration", 20)), store, parts, tmp_path / "run")


def test_a_model_that_gives_no_numbers_is_judged_and_is_bad(judge: Judge, read: Model) -> None:
    """Its figures have to be numbers: a report is strict JSON."""
    proto = to_onnx(read)
    last = proto.graph.node[-1]
    last.output[0] = "z"
    proto.graph.node.append(node("Log", ["z"], ["y"]))
    found = judge.judged(proto, "validation")
    assert np.isfinite([found.value, found.drop, found.drop_low, found.drop_high]).all()
    assert found.drop > 1000


def choices_of(read: Model, shape: TTShape) -> list[Candidate]:
    first, second = read.fc_layers
    return [Candidate(first, shape), dense_candidate(second)]


def test_each_way_wins_by_what_it_leaves_on_the_validation_part(judge: Judge, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    drops = {
        (s, r): judge.accuracy(choices, "validation", sequential=s, reordered=r).drop
        for s in (False, True)
        for r in (False, True)
    }
    assert len(set(drops.values())) == 4, "four different models"
    assert judge.sequential_wins(choices) == (drops[True, False] < drops[False, False])
    for sequential in (False, True):
        wins = drops[sequential, True] < drops[sequential, False]
        assert judge.reordering_wins(choices, sequential=sequential) == wins
    assert drops[False, True] < 0.85 * drops[False, False], "the order that was lost is worth finding"
    assert drops[True, False] < 0.8 * drops[False, False], "the second layer makes up for the first"


@pytest.mark.parametrize("sequential", [False, True])
def test_weights_that_were_kept_are_those_that_were_judged(judge: Judge, read: Model, sequential: bool) -> None:
    choices = choices_of(read, TRAIN)
    drop = judge.accuracy(choices, "validation", sequential=sequential, reordered=True).drop
    kept = judge.replacements(choices, sequential=sequential, reordered=True)
    part = judge.parts["validation"]
    want, got = (outputs(proto, part.x)["y"] for proto in (to_onnx(read), replaced(read, kept)))
    assert METRICS["mse"].drop_unit.startswith("%")
    assert drop == pytest.approx(100 * np.square(got - want).mean() / np.var(want), rel=0.3)


def test_what_a_choice_loses_is_in_the_best_way(judge: Judge, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    alone = [judge.accuracy(choices, "validation", reordered=r).drop for r in (False, True)]
    assert judge.drop_points(choices) == alone[0] > alone[1]
    best = judge.best_drop(choices)
    assert best is not None and best <= min(alone)


def test_a_plan_is_judged_in_the_form_that_ships(judge: Judge, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    weights = judge.weights_key(choices, sequential=False, reordered=False)
    plan = Plan("p1", tuple(choices), 1.0, "modelled", 1, 1, 1, 0.1, weights=weights)
    fed = judge.accuracy(choices, "test").drop
    with mock.patch("lrf_dse.pipeline.quality.replaced", side_effect=replaced) as rewritten:
        assert judge.accuracy_of_plan(plan, "test").drop == pytest.approx(fed, rel=1e-3)
        assert rewritten.call_count == 1


def test_orders_are_searched_for_once_a_shape(judge: Judge, read: Model) -> None:
    first, second = read.fc_layers
    with mock.patch("lrf_dse.pipeline.quality.reordering", side_effect=reordering) as searched:
        for method in ("tt_svd", "als"):
            judge.best_drop([Candidate(first, TRAIN, decomposer=method), dense_candidate(second)])
        assert searched.call_count == 1


def test_low_rank_layers_are_not_reordered(judge: Judge, read: Model) -> None:
    assert not judge.reordering_wins(choices_of(read, LOW_RANK), sequential=False)


def test_the_records_know_what_was_judged(judge: Judge, read: Model) -> None:
    choices = choices_of(read, TRAIN)
    ways = [{"sequential": s, "reordered": r} for s in (False, True) for r in (False, True)]
    first = [judge.accuracy(choices, "test", **way) for way in ways]
    with mock.patch.object(Judge, "judged", side_effect=AssertionError("judged twice")):
        assert [judge.accuracy(choices, "test", **way) for way in ways] == first

"""The benchmark of fronts: both searches are judged alike, genes stand for models, and shares are of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from explored import tiny_data, tiny_model

from benchmarks.front import gap_table, share_table
from benchmarks.kit.digits import WIDTHS, write_digits
from benchmarks.kit.fronts import Genes, Network, Whole, explored, front_of
from lrf_dse.models.data import load_data
from lrf_dse.models.reader import read_model
from lrf_dse.plan.terrain import WORST


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(folder, name="model.onnx")
    tiny_data(folder, name="validation.npz")
    tiny_data(folder, name="calibration.npz", seed=1)
    return Network("tiny", folder, folder / "work", "top1")


def test_genes_are_models_and_the_same_ones_are_judged_once(network: Network) -> None:
    genes = Genes(network)
    assert genes.whole(np.zeros(len(genes.upper), np.int64)) == network.dense
    random = np.random.default_rng(0)
    for _ in range(4):
        found = genes.whole(random.integers(0, genes.upper + 1))
        assert found.cycles > 0 and found.size > 0 and found.drop >= 0
        assert len(found.choices) == len(network.layers)
    judged = len(genes.judged)
    genes.whole(genes.upper)
    genes.whole(genes.upper)
    assert len(genes.judged) == judged + 1
    one_layer = np.zeros(len(genes.upper), np.int64)
    one_layer[:3] = 1, 0, 2
    assert genes.whole(one_layer).choices == ("low rank 1, int8", "dense")


def test_an_exploration_dominates_what_its_finalists_do_and_more_judged(network: Network) -> None:
    found = explored(network, evaluations=60, top=2)
    assert len(found.judged) <= 10
    whole = network.volume(found.judged)
    assert 0 < network.volume(found.finalists) <= whole + 1e-9
    assert network.volume(front_of(found.judged)) == pytest.approx(whole)
    assert network.volume([network.dense]) == 0.0
    assert {w.choices for w in found.finalists} - {network.dense.choices} <= {w.choices for w in found.judged}


def test_fronts_hold_what_is_better_in_something_and_loses_little() -> None:
    rows = [Whole(3, 3, 0, ("a",)), Whole(2, 2, 1, ("b",)), Whole(2, 3, 1, ("c",)), Whole(1, 1, WORST + 1, ("d",))]
    assert [w.choices[0] for w in front_of([*rows, rows[0]])] == ["b", "a"]


def test_the_digits_are_learnt(tmp_path: Path) -> None:
    assert write_digits(tmp_path) > 96
    model = read_model(tmp_path / "model.onnx")
    assert [layer.in_features for layer in model.fc_layers] == list(WIDTHS[:-1])
    assert load_data(tmp_path / "validation.npz", model).samples == 599


@pytest.mark.soak
def test_the_same_digits_are_learnt_every_time(tmp_path: Path) -> None:
    for name in "ab":
        write_digits(tmp_path / name)
    one, other = (read_model(tmp_path / name / "model.onnx") for name in "ab")
    for layer in one.fc_layers:
        assert np.allclose(one.weights(layer.name)[0], other.weights(layer.name)[0], atol=1e-5)


def test_tables_say_what_is_missed() -> None:
    run = {"judged": 66, "finalists": 16, "share": 96.9, "judged_share": 98.0, "seconds": 9.0}
    row = {"network": "n", "combinations": 10, "default": run, "large": run, "nsga2": run,
           "gaps": [{"low": 10.0, "high": 14.0, "tried": 0}]}  # fmt: skip
    assert "96.9 % (MISSED)" in share_table([row])
    assert "97.0 % (met)" in share_table([row | {"default": run | {"share": 97.0}}])
    assert "| n | 10 | 14 | 1.40 | NONE |" in gap_table([row])

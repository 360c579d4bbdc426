"""Sequential correction: later layers, dense ones too, make up for what earlier ones lost; the first is untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.finetune.sequential import can_correct, corrected
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.schema import Candidate, TTShape, dense_candidate


@pytest.fixture
def chain(tmp_path: Path) -> Model:
    """x [1, 8] -> a (8) -> relu -> b (6) -> relu -> c (4); d reads x."""
    nodes = [
        node("Gemm", ["x", "wa", "ba"], ["ha"], "a", transB=1),
        node("Relu", ["ha"], ["ra"]),
        node("MatMul", ["ra", "wb"], ["mb"], "b"),
        node("Add", ["mb", "bb"], ["hb"]),
        node("Relu", ["hb"], ["rb"]),
        node("Gemm", ["rb", "wc", "bc"], ["y"], "c", transB=1),
        node("MatMul", ["x", "wd"], ["z"], "d"),
    ]
    constants = {
        "wa": values(8, 8),
        "ba": values(8, seed=1),
        "wb": values(8, 6, seed=2),
        "bb": values(6, seed=3),
        "wc": values(4, 6, seed=4),
        "bc": values(4, seed=5),
        "wd": values(8, 3, seed=6),
    }
    proto = model(nodes, inputs={"x": (1, 8)}, outputs={"y": (1, 4), "z": (1, 3)}, constants=constants)
    return read_model(saved(proto, tmp_path))


X = values(300, 8, seed=9)


def compressor_of(read: Model) -> Compressor:
    return Compressor(read, seed=0, calibration=Dataset(Path("d.npz"), {"x": X[:200]}, None, ""))


def low_rank(read: Model, name: str, rank: int, method: str = "whitened_centred") -> Candidate:
    layer = read.site(name).layer
    return Candidate(layer, TTShape((layer.out_features, 1), (1, layer.in_features), (1, rank, 1)), decomposer=method)


@pytest.mark.parametrize("method", ["tt_svd", "whitened", "whitened_centred"])
def test_the_output_is_nearer_to_the_dense_one_on_rows_not_seen(chain: Model, method: str) -> None:
    compressor = compressor_of(chain)
    layers = chain.fc_layers
    choices = [low_rank(chain, "a", 4, method), low_rank(chain, "b", 5, method), *map(dense_candidate, layers[2:])]
    dense = outputs(to_onnx(chain), {"x": X[200:]})["y"]

    def error(replacements: dict[str, Replacement]) -> float:
        return float(np.linalg.norm(outputs(replaced(chain, replacements), {"x": X[200:]})["y"] - dense))

    own, found = compressor.replacements(choices), corrected(compressor, choices)
    assert error(found) < 0.95 * error(own)
    assert list(found) == ["a", "b", "c"], "d reads what it always did"
    for mine, theirs in zip(own["a"].cores or (), found["a"].cores or (), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert found["c"].cores is None and found["c"].weight is not None
    assert [core.shape for core in found["b"].cores or ()] == [(1, 6, 1, 5), (5, 1, 8, 1)]


def test_a_layer_beside_the_compressed_ones_keeps_its_own_fit(chain: Model) -> None:
    compressor = compressor_of(chain)
    choices = [
        low_rank(chain, "a", 4),
        *map(dense_candidate, chain.fc_layers[1:3]),
        low_rank(chain, "d", 2, "whitened"),
    ]
    own, found = compressor.replacements(choices), corrected(compressor, choices)
    for mine, theirs in zip(own["d"].cores or (), found["d"].cores or (), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_can_be_corrected(chain: Model) -> None:
    dense = [dense_candidate(layer) for layer in chain.fc_layers]
    assert not can_correct(dense)
    assert not can_correct([*dense[:3], low_rank(chain, "d", 2)]), "nothing comes after"
    assert can_correct([low_rank(chain, "a", 4), *dense[1:]])
    with pytest.raises(ValueError, match="needs calibration data"):
        corrected(Compressor(chain, seed=0), dense)


def test_layers_that_read_the_same_share_what_is_known_of_it(chain: Model) -> None:
    """d reads x as a does: whatever is chosen before it, its moment is one."""
    compressor = compressor_of(chain)
    for rank in (2, 3):
        choices = [low_rank(chain, "a", rank), *map(dense_candidate, chain.fc_layers[1:3]), low_rank(chain, "d", 2)]
        corrected(compressor, choices)
    keys = list(compressor.joints._values)
    assert len(keys) == 2 * 2 + 1, "b's and c's inputs depend on the rank of a, d's do not"

"""Training through the rounding: what comes out is on the grid, byte for byte as it ships, and loses less."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from models.graphs import model as graph_of
from models.graphs import node, values

from lrf_dse.finetune.graph import TrainableGraph
from lrf_dse.finetune.grids import Grid, TrainableGrid, grids_of
from lrf_dse.finetune.recover import recover
from lrf_dse.finetune.train import Recipe, finetune
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights
from lrf_dse.models.values import constants
from lrf_dse.schema import Candidate, Storage, TTShape
from lrf_dse.tt.contraction import stage_matrix
from lrf_dse.tt.grid import nearest

SIZES = (72, 40, 6)
STORAGES: tuple[Storage, ...] = ("fp16", "int8", "int4")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two layers with a Relu between; the second one is wider than a group of int4."""
    arrays, nodes, value = {}, [], "x"
    for k, (inputs, outs) in enumerate(pairwise(SIZES)):
        arrays |= {f"w{k}": values(outs, inputs, seed=k) / np.float32(inputs**0.5), f"b{k}": values(outs, seed=9 + k)}
        nodes.append(node("Gemm", [value, f"w{k}", f"b{k}"], [f"h{k}"], f"fc{k}", transB=1))
        nodes.append(node("Relu" if k == 0 else "Identity", [f"h{k}"], [value := f"r{k}"]))
    made = graph_of(nodes, inputs={"x": (1, SIZES[0])}, outputs={value: (1, SIZES[-1])}, constants=arrays)
    path = tmp_path_factory.mktemp("grids") / "m.onnx"
    onnx.save(made, path)
    return read_model(path)


def in_storage(model: Model, storage: Storage) -> dict[str, Replacement]:
    """A TT shape of three cores and a dense layer, at the nearest codes."""
    first, second = model.fc_layers
    shape = TTShape((5, 4, 2), (2, 4, 9), (1, 6, 9, 1))
    choices = (
        Candidate(first, shape, kernel="rvv", storage=storage),
        Candidate(second, None, kernel="rvv", storage=storage),
    )
    return Compressor(model, seed=0).replacements(choices)


def lessons(model: Model, samples: int = 200, seed: int = 3) -> Dataset:
    x = {"x": values(samples, SIZES[0], seed=seed)}
    return Dataset(Path("train.npz"), x, None, "0" * 64)


def off(model: Model, proto: onnx.ModelProto) -> float:
    """The squared distance from the dense model, on other samples than those of training."""
    x = lessons(model, seed=4).x
    wanted, got = (next(iter(outputs(one, x).values())) for one in (replaced(model, {}), proto))
    return float(np.square(got - wanted).mean())


@pytest.mark.parametrize("storage", STORAGES)
def test_what_was_trained_is_what_ships(dense: Model, storage: Storage, tmp_path: Path) -> None:
    before = in_storage(dense, storage)
    proto = replaced(dense, before)
    tuned = finetune(
        proto,
        lessons(dense),
        Recipe(epochs=2, batch=8, learning_rate=4e-3),
        teacher=replaced(dense, {}),
        kind="values",
        batch=1,
        score=lambda model: off(dense, model),
        grids=grids_of(dense, before),
    )
    assert tuned.best.score < 0.8 * tuned.epochs[0].score
    found, rest = recover(dense, before, tuned.model, tuned.scales)
    save_weights(tmp_path / "w.npz", PlanWeights(found, rest), "key")
    kept = find_weights(tmp_path / "w.npz", "key")
    assert kept is not None
    moved = 0
    for layer, replacement in kept.replacements.items():
        old = before[layer].stored
        assert old is not None and replacement.stored is not None
        held = replacement.cores or [np.asarray(replacement.weight)]
        for core, stored, was in zip(held, replacement.stored, old, strict=True):
            assert (stored.codes.dtype, stored.codes.shape) == (was.codes.dtype, was.codes.shape)
            assert stored.values.tobytes() != was.values.tobytes()
            moved += int((stored.codes != was.codes).sum())
            matrix = stage_matrix(core, "last_first") if core.ndim == 4 else core
            assert matrix.tobytes() == stored.values.tobytes()
            if stored.scales is not None and was.scales is not None:
                assert (stored.scales.dtype, stored.scales.shape) == (was.scales.dtype, was.scales.shape)
                assert stored.scales.tobytes() != was.scales.tobytes()
    assert moved
    # What was judged is the model that these bytes make, and the file with codes alone computes the same.
    shipped = replaced(dense, kept.replacements, kept.values)
    assert off(dense, shipped) == tuned.best.score
    packed = in_few_bits(shipped, [one for made in kept.replacements.values() for one in made.stored or ()])
    assert sum(array.nbytes for array in constants(packed).values()) < 0.6 * sum(
        array.nbytes for array in constants(shipped).values()
    )
    x = lessons(dense, 20).x
    for mine, theirs in zip(outputs(packed, x).values(), outputs(shipped, x).values(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("storage", STORAGES)
def test_before_training_nothing_moves(dense: Model, storage: Storage) -> None:
    before = in_storage(dense, storage)
    proto = replaced(dense, before)
    weights = TrainableGraph(proto, grids_of(dense, before)).weights()
    known = constants(proto)
    for name, value in weights.values.items():
        assert value.tobytes() == known[name].tobytes()
    found, rest = recover(dense, before, proto, weights.scales)
    assert not rest
    for layer, replacement in found.items():
        for mine, theirs in zip(replacement.stored or (), before[layer].stored or (), strict=True):
            assert mine.codes.tobytes() == theirs.codes.tobytes()
            if theirs.scales is not None and mine.scales is not None:
                assert mine.scales.tobytes() == theirs.scales.tobytes()


def test_slopes_are_those_of_a_straight_line_and_of_the_learned_step() -> None:
    """Two scales, 1 and 0.5, on codes -8..7: within the range, beyond it, and a group of zeros."""
    import tensorflow as tf

    places = np.array([0, 0, 0, 1, 2], np.int32)
    grid = TrainableGrid(Grid("int4", np.array([1.0, 0.5, 0.0], np.float16), places))
    value = tf.Variable([2.25, 9.0, -20.0, 0.65, 3.0])
    with tf.GradientTape() as tape:
        rounded = grid.rounded(value)
        total = tf.reduce_sum(rounded)
    by_value, by_growth = tape.gradient(total, [value, grid.growth])
    np.testing.assert_array_equal(rounded, [2.0, 7.0, -8.0, 0.5, 0.0])
    np.testing.assert_array_equal(by_value, [1.0, 0.0, 0.0, 1.0, 0.0])
    # d(q s)/d(log s) = s (q - v / s) within the range, s times the last code beyond it.
    np.testing.assert_allclose(by_growth, [(2 - 2.25) + 7 - 8, 0.5 * (1 - 1.3), 0.0], rtol=1e-6)


def test_a_constant_that_is_not_in_few_bits_has_no_grid(dense: Model) -> None:
    first, second = dense.fc_layers
    cores = [values(1, 40, 1, 3), values(3, 1, 72, 1)]
    stored = nearest(dense.weights(second.name)[0], "int8")
    replacements = {first.name: Replacement(cores), second.name: Replacement(weight=stored.values, stored=(stored,))}
    (grid,) = grids_of(dense, replacements).values()
    assert grid.scales is not None and grid.scales.shape == (6,)
    assert not grids_of(dense, {first.name: Replacement(cores)})

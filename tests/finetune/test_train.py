"""Training helps, is never worse than not training, repeats, goes on where it stopped, and survives divergence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.errors import StoreError
from lrf_dse.finetune.checkpoint import load_checkpoint
from lrf_dse.finetune.train import Epoch, Recipe, Trained, finetune
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.values import with_values

FEATURES, HIDDEN, CLASSES = 12, 16, 3
RECIPE = Recipe(epochs=4, batch=8, learning_rate=2e-2)


def _network(seed: int, rank: int | None = None) -> onnx.ModelProto:
    """Gemm, Relu, Gemm; with `rank` the first Gemm is a product of two matrices, cut to it."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((FEATURES, HIDDEN)).astype(np.float32)
    constants = {"b1": np.zeros(HIDDEN, np.float32), "w2": rng.standard_normal((HIDDEN, CLASSES)).astype(np.float32)}
    if rank is None:
        nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["h"])]
        constants["w1"] = first
    else:
        u, s, v = np.linalg.svd(first, full_matrices=False)
        constants |= {"u": u[:, :rank] * s[:rank], "v": v[:rank]}
        nodes = [
            helper.make_node("MatMul", ["x", "u"], ["p"]),
            helper.make_node("MatMul", ["p", "v"], ["q"]),
            helper.make_node("Add", ["q", "b1"], ["h"]),
        ]
    nodes += [helper.make_node("Relu", ["h"], ["r"]), helper.make_node("MatMul", ["r", "w2"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


DENSE, CUT = _network(1), _network(1, rank=5)


def _data(samples: int = 256) -> Dataset:
    x = {"x": np.random.default_rng(3).standard_normal((samples, FEATURES)).astype(np.float32)}
    return Dataset(Path("train.npz"), x, outputs(DENSE, x)["y"].argmax(axis=1), "0" * 64)


def _wrong(model: onnx.ModelProto) -> float:
    """The share of samples on which the dense model answers otherwise."""
    x = {"x": np.random.default_rng(4).standard_normal((400, FEATURES)).astype(np.float32)}
    answers = [outputs(each, x)["y"].argmax(axis=1) for each in (model, DENSE)]
    return float(np.mean(answers[0] != answers[1]))


def _tuned(recipe: Recipe = RECIPE, **options: object) -> Trained:
    arguments: dict[str, object] = {"teacher": DENSE, "kind": "classes", "batch": 1, "score": _wrong}
    return finetune(CUT, _data(), recipe, **(arguments | options))  # type: ignore[arg-type]


def test_training_helps_and_keeps_the_graph() -> None:
    before = _wrong(CUT)
    tuned = _tuned()
    assert tuned.best.score < 0.8 * before
    assert _wrong(tuned.model) == tuned.best.score
    assert [node.op_type for node in tuned.model.graph.node] == [node.op_type for node in CUT.graph.node]
    assert tuned.epochs[0].score == before


def test_values_are_trained_by_their_squares() -> None:
    def score(model: onnx.ModelProto) -> float:
        x = _data().x
        return float(np.mean((outputs(model, x)["y"] - outputs(DENSE, x)["y"]) ** 2))

    data = Dataset(Path("train.npz"), _data().x, None, "0" * 64)
    tuned = finetune(CUT, data, RECIPE, teacher=DENSE, kind="values", batch=1, score=score)
    assert tuned.best.score < 0.8 * tuned.epochs[0].score


def test_it_is_never_worse_than_what_came_in() -> None:
    """A score that only gets worse: the model comes back as it was, and training ends early."""
    scores = iter(range(100))
    tuned = _tuned(Recipe(epochs=9, batch=8, patience=2), score=lambda _: float(next(scores)))
    assert (tuned.best.number, tuned.ended, len(tuned.epochs)) == (0, "no better score", 3)
    assert tuned.model.graph == CUT.graph


def test_the_same_seed_gives_the_same_weights() -> None:
    assert _tuned().model.graph == _tuned().model.graph
    assert _tuned().model.graph != _tuned(Recipe(epochs=4, batch=8, learning_rate=2e-2, seed=1)).model.graph


def test_divergence_keeps_the_best_checkpoint() -> None:
    tuned = _tuned(Recipe(epochs=6, batch=8, learning_rate=1e30))
    assert tuned.ended == "diverged"
    assert np.isfinite(tuned.best.score)
    assert np.isfinite(outputs(tuned.model, _data().x)["y"]).all()


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    whole = _tuned()
    file = tmp_path / "run" / "checkpoint.npz"
    seen: list[int] = []

    def stop_after_two(epoch: Epoch) -> None:
        seen.append(epoch.number)
        if epoch.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _tuned(checkpoint=file, progress=stop_after_two)
    resumed = _tuned(checkpoint=file, progress=lambda epoch: seen.append(epoch.number))
    assert seen == [0, 1, 2, 3, 3, 4]
    assert resumed.model.graph == whole.model.graph
    assert resumed.epochs[1:] == whole.epochs[1:]


def test_a_checkpoint_of_other_data_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.npz"
    _tuned(Recipe(epochs=1, batch=64), checkpoint=file)
    assert load_checkpoint(file, "another") is None
    file.write_bytes(file.read_bytes()[:200])
    assert load_checkpoint(file, "another") is None


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        _tuned(Recipe(epochs=1, batch=64), checkpoint=tmp_path / "file" / "checkpoint.npz")


def test_a_model_with_a_fixed_batch_learns_from_whole_batches() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(CUT)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    teacher = with_values(DENSE, {})
    for value in (*teacher.graph.input, *teacher.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    tuned = finetune(model, _data(255), RECIPE, teacher=teacher, kind="classes", batch=4, score=_wrong)
    assert tuned.best.score < tuned.epochs[0].score

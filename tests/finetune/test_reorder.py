"""Reordered hidden units: the model stays the same function, its compressed layers fit better, and weights go back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.finetune.reorder import as_read, can_reorder, reordering
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.schema import Candidate, TTShape, dense_candidate

SHAPE = TTShape((6, 4), (4, 3), (1, 3, 1))
READER = TTShape((2, 4), (4, 6), (1, 4, 1))


@pytest.fixture
def read(tmp_path: Path) -> Model:
    """x [1, 12] -> a (24) -> relu -> b (8) -> relu -> c (4)."""
    nodes = [
        node("Gemm", ["x", "wa", "ba"], ["ha"], "a", transB=1),
        node("Relu", ["ha"], ["ra"]),
        node("Gemm", ["ra", "wb", "bb"], ["hb"], "b", transB=1),
        node("Relu", ["hb"], ["rb"]),
        node("Gemm", ["rb", "wc", "bc"], ["y"], "c", transB=1),
    ]
    sizes = {"a": (24, 12), "b": (8, 24), "c": (4, 8)}
    constants = {f"w{n}": values(*size, seed=k) for k, (n, size) in enumerate(sizes.items())}
    constants |= {f"b{n}": values(size[0], seed=10 + k) for k, (n, size) in enumerate(sizes.items())}
    proto = model(nodes, inputs={"x": (1, 12)}, outputs={"y": (1, 4)}, constants=constants)
    return read_model(saved(proto, tmp_path))


def compressor_of(read: Model) -> Compressor:
    x = values(200, 12, seed=9) * np.linspace(0.1, 2, 12, dtype=np.float32)
    return Compressor(read, seed=0, calibration=Dataset(Path("d.npz"), {"x": x}, None, ""))


def choices_of(read: Model, *shapes: TTShape | None, method: str = "tt_svd") -> list[Candidate]:
    return [
        dense_candidate(layer) if shape is None else Candidate(layer, shape, decomposer=method)
        for layer, shape in zip(read.fc_layers, shapes, strict=True)
    ]


@pytest.mark.parametrize("shapes", [(SHAPE, None, None), (None, READER, None), (SHAPE, READER, None)])
def test_layers_fit_better_in_the_order_found(read: Model, shapes: tuple[TTShape | None, ...]) -> None:
    compressor, choices = compressor_of(read), choices_of(read, *shapes)
    assert can_reorder(read, choices)
    better = reordering(compressor, choices)
    assert better is not compressor

    def missed(made: Compressor) -> float:
        return sum(made.trial(choice).output_error.value for choice in choices if not choice.is_dense)

    assert missed(better) < 0.95 * missed(compressor)
    for layer in ("a", "b"):
        own = Compressor(better.model, seed=0, calibration=better.calibration).moments[layer]
        np.testing.assert_allclose(better.moments[layer].second, own.second, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["tt_svd", "als_centred"])
def test_weights_go_back_to_the_model_as_it_was_read(read: Model, method: str) -> None:
    compressor, choices = compressor_of(read), choices_of(read, SHAPE, None, None, method=method)
    better = reordering(compressor, choices)
    made = better.replacements(choices)
    found = as_read(read, better.model, made)
    assert found["b"].weight is not None and "c" not in found
    x = {"x": values(5, 12, seed=4)}
    want = outputs(replaced(better.model, made), x)["y"]
    np.testing.assert_allclose(outputs(replaced(read, found), x)["y"], want, rtol=1e-4, atol=1e-5)
    nothing = as_read(read, better.model, {})
    np.testing.assert_allclose(
        outputs(replaced(read, nothing), x)["y"], outputs(to_onnx(read), x)["y"], rtol=1e-4, atol=1e-5
    )


def test_where_no_layer_sees_the_order_nothing_moves(read: Model) -> None:
    low_rank = TTShape((24, 1), (1, 12), (1, 4, 1))
    for shapes in ((None, None, None), (low_rank, None, None)):
        choices = choices_of(read, *shapes)
        compressor = compressor_of(read)
        assert not can_reorder(read, choices)
        assert reordering(compressor, choices) is compressor
    last = choices_of(read, None, None, TTShape((2, 2), (8, 1), (1, 2, 1)))
    assert not can_reorder(read, last), "outputs of the model have an order"

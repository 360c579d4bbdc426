"""Evaluation: samples become inferences of the model's batch."""

from __future__ import annotations

import numpy as np
import pytest
from models.graphs import matmul_model, model, node, values
from onnx import TensorProto

from lrf_dse.errors import DataError, ModelError
from lrf_dse.models.batch import common_size
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import TensorSpec


@pytest.mark.parametrize("samples", [1, 3, 4, 8, 9])
def test_a_fixed_batch_runs_in_slices_and_the_last_is_padded_and_cut(samples: int) -> None:
    x = values(samples, 6)
    got = outputs(matmul_model(in_shape=(4, 6), out_shape=(4, 4)), {"x": x})
    assert list(got) == ["y"]
    assert got["y"].shape == (samples, 4)
    np.testing.assert_allclose(got["y"], x @ values(6, 4), rtol=1e-4, atol=1e-5)


def test_a_model_without_a_batch_dimension_runs_once_per_sample() -> None:
    x = values(5, 6)
    got = outputs(matmul_model(in_shape=(6,), out_shape=(4,)), {"x": x})
    np.testing.assert_allclose(got["y"], x @ values(6, 4), rtol=1e-4, atol=1e-5)


def test_all_outputs_of_all_inputs() -> None:
    proto = model(
        [node("Add", ["a", "b"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
        inputs={"a": (2, 6), "b": (2, 6)},
        outputs={"y": (2, 4), "s": (2, 6)},
        constants={"w": values(6, 4)},
    )
    a, b = values(3, 6), values(3, 6, seed=1)
    got = outputs(proto, {"a": a, "b": b})
    assert {name: value.shape for name, value in got.items()} == {"y": (3, 4), "s": (3, 6)}
    np.testing.assert_allclose(got["s"], a + b, rtol=1e-5)


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("t", shape, "float32")


@pytest.mark.parametrize(
    ("inputs", "outs", "batch"),
    [
        ([spec(1, 6)], [spec(1, 4)], 1),
        (
            [spec(4, 6), spec(4, 1)],
            [
                spec(
                    4,
                )
            ],
            4,
        ),
        ([spec(4, 6), spec(3, 6)], [spec(4, 4)], None),
        ([spec(28, 28)], [spec(1, 10)], None),
        ([spec(6)], [spec(6)], None),
        ([spec(2, 6)], [spec()], None),
    ],
)
def test_common_size(inputs: list[TensorSpec], outs: list[TensorSpec], batch: int | None) -> None:
    assert common_size(inputs, outs) == batch


def test_what_onnxruntime_refuses_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    proto = model([node("Foo", ["x"], ["y"])], inputs={"x": (1, 6)}, outputs={"y": (1, 6)})
    with pytest.raises(ModelError, match="onnxruntime refuses the model") as caught:
        outputs(proto, {"x": values(1, 6)})
    assert "\n" not in str(caught.value)
    gather = model(
        [node("Gather", ["table", "x"], ["y"])],
        inputs={"x": (1, 2)},
        outputs={"y": (1, 2, 6)},
        constants={"table": values(5, 6)},
        input_type=TensorProto.INT64,
    )
    with pytest.raises(DataError, match="cannot run on sample 1"):
        outputs(gather, {"x": np.array([[0, 1], [2, 99]])})
    assert capfd.readouterr().err == ""

"""FC discovery: every form of a layer gives W and b that compute what the model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.graphs import matmul_model, model, node, saved, values
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models.evaluate import outputs, run_session, session_of
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model


def assert_weights_compute_the_output(read: Model, x: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    """W rows + b equals what onnxruntime makes of `x` (given as the model wants it)."""
    import onnxruntime

    weight, bias = read.weights(read.fc_layers[0].name)
    expected = rows @ weight.T + (0 if bias is None else bias)
    session = onnxruntime.InferenceSession(to_onnx(read).SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(["y"], {"x": x})
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


@given(
    batch=st.sampled_from([1, 3]),
    trans=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    scale=st.tuples(st.sampled_from([1.0, 0.5, -2.0]), st.sampled_from([1.0, 3.0, 0.0])),
    c_shape=st.sampled_from([None, (), (1,), (4,), (1, 1), (1, 4), ("batch", 1), ("batch", 4)]),
)
def test_gemm_in_every_form(
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    trans: tuple[int, int],
    scale: tuple[float, float],
    c_shape: tuple[Any, ...] | None,
) -> None:
    constants = {"w": values(4, 6) if trans[1] else np.ascontiguousarray(values(4, 6).T)}
    if c_shape is not None:
        constants["c"] = values(*(batch if size == "batch" else size for size in c_shape), seed=1)
    flags = {"transA": trans[0], "transB": trans[1], "alpha": scale[0], "beta": scale[1]}
    gemm = node("Gemm", ["x", *constants], ["y"], "fc", **flags)
    in_shape = (6, batch) if trans[0] else (batch, 6)
    proto = model([gemm], inputs={"x": in_shape}, outputs={"y": (batch, 4)}, constants=constants)
    read = read_model(saved(proto, tmp_path_factory.mktemp("gemm")))
    (layer,) = read.fc_layers
    assert (layer.in_features, layer.out_features, layer.batch, layer.op) == (6, 4, batch, "Gemm")
    per_row = c_shape is not None and batch > 1 and "batch" in c_shape
    assert layer.has_bias == (c_shape is not None and scale[1] != 0.0 and not per_row)
    assert read.total_macs == batch * 24
    rows = values(batch, 6, seed=2)
    x = np.ascontiguousarray(rows.T) if trans[0] else rows
    if not per_row:
        assert_weights_compute_the_output(read, x, rows)
    (expected,) = run_session(session_of(proto), {"x": x})
    np.testing.assert_allclose(run_session(session_of(to_onnx(read)), {"x": x})[0], expected, rtol=1e-4, atol=1e-5)


def test_gemm_with_a_bias_computed_at_run_time(tmp_path: Path) -> None:
    gemm = node("Gemm", ["x", "w", "c"], ["y"], "fc")
    proto = model([gemm], inputs={"x": (1, 6), "c": (1, 4)}, outputs={"y": (1, 4)}, constants={"w": values(6, 4)})
    read = read_model(saved(proto, tmp_path))
    assert not read.fc_layers[0].has_bias
    assert read.weights("fc")[1] is None


@pytest.mark.parametrize(
    ("in_shape", "batch"), [((1, 6), 1), ((5, 6), 5), ((2, 3, 6), 6), ((2, 1, 3, 6), 6), ((6,), 1)]
)
@pytest.mark.parametrize("bias_shape", [None, (4,), (1, 4), (1,), ()])
def test_matmul_with_any_leading_sizes(
    tmp_path: Path, in_shape: tuple[int, ...], batch: int, bias_shape: tuple[int, ...] | None
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y" if bias_shape is None else "h"], "fc")]
    constants = {"w": values(6, 4)}
    if bias_shape is not None:
        nodes.append(node("Add", ["b", "h"], ["y"]))
        constants["b"] = values(*bias_shape, seed=1)
    widened = bias_shape is not None and len(bias_shape) > len(in_shape)  # the Add makes the output wider
    outs = {"y": (1, 4) if widened else (*in_shape[:-1], 4)}
    read = read_model(saved(model(nodes, inputs={"x": in_shape}, outputs=outs, constants=constants), tmp_path))
    (layer,) = read.fc_layers
    assert (layer.batch, layer.op, layer.has_bias) == (batch, "MatMul", bias_shape is not None and not widened)
    if not widened:
        x = values(*in_shape, seed=2)
        assert_weights_compute_the_output(read, x, x.reshape(-1, 6))


@pytest.mark.parametrize("also", ["used by another node", "an output", "followed by a wide Add"])
def test_an_add_is_the_bias_only_if_it_alone_follows(tmp_path: Path, also: str) -> None:
    constants = {"w": values(6, 4), "b": values(3, 4) if also == "followed by a wide Add" else values(4)}
    nodes = [node("MatMul", ["x", "w"], ["h"], "fc"), node("Add", ["h", "b"], ["y"])]
    outs: dict[str, tuple[int, ...]] = {"y": (3, 4)}
    if also == "used by another node":
        nodes.append(node("Relu", ["h"], ["z"]))
        outs["z"] = (3, 4)
    if also == "an output":
        outs["h"] = (3, 4)
    read = read_model(saved(model(nodes, inputs={"x": (3, 6)}, outputs=outs, constants=constants), tmp_path))
    assert not read.fc_layers[0].has_bias
    assert read.weights("fc")[1] is None


@pytest.mark.parametrize("way", ["Constant", "Identity", "Transpose", "Transpose of Identity", "default perm"])
def test_weights_behind_other_nodes(tmp_path: Path, way: str) -> None:
    weight = values(6, 4)
    stored: dict[str, NDArray[Any]] = {"s": np.ascontiguousarray(weight.T)}
    nodes = {
        "Constant": [node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight, "c"))],
        "Identity": [node("Identity", ["s"], ["w"])],
        "Transpose": [node("Transpose", ["s"], ["w"], perm=[1, 0])],
        "Transpose of Identity": [node("Identity", ["s"], ["i"]), node("Transpose", ["i"], ["w"], perm=[1, 0])],
        "default perm": [node("Transpose", ["s"], ["w"])],
    }[way]
    if way in ("Constant", "Identity"):
        stored = {"s": weight} if way == "Identity" else {}
    nodes.append(node("MatMul", ["x", "w"], ["y"], "fc"))
    read = read_model(saved(model(nodes, inputs={"x": (2, 6)}, outputs={"y": (2, 4)}, constants=stored), tmp_path))
    np.testing.assert_array_equal(read.weights("fc")[0], weight.T)
    assert (read.total_macs, read.total_params) == (48, 24)
    x = values(2, 6, seed=3)
    assert_weights_compute_the_output(read, x, x)


def test_weights_are_read_only_views(tmp_path: Path) -> None:
    read = read_model(saved(matmul_model(), tmp_path))
    with pytest.raises(ValueError, match="read-only"):
        read.weights("fc")[0][0, 0] = 1


def test_an_unknown_layer_lists_the_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no FC layer 'fc9'; the layers are fc"):
        read_model(saved(matmul_model(), tmp_path)).weights("fc9")


def beside_a_layer(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """A model whose nodes end in h [1, 4] from x [1, 6], followed by a proper FC layer named good."""
    nodes = [*nodes, node("MatMul", ["h", "good_w"], ["y"], "good")]
    return model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 2)}, constants=constants | {"good_w": values(4, 2)})


def cast(source: str, to: int, out: str) -> onnx.NodeProto:
    return node("Cast", [source], [out], to=to)


INT8 = np.ones((6, 4), np.int8)
FLOAT = values(6, 4)
SKIPPED: dict[str, tuple[list[onnx.NodeProto], dict[str, NDArray[Any]], str]] = {
    "int8 behind DequantizeLinear": (
        [node("DequantizeLinear", ["q", "scale"], ["w"]), node("MatMul", ["x", "w"], ["h"], "fc")],
        {"q": INT8, "scale": np.array(0.5, np.float32)},
        "INT8 through DequantizeLinear",
    ),
    "dequantised, then transposed": (
        [
            node("DequantizeLinear", ["q", "scale"], ["t"]),
            node("Transpose", ["t"], ["w"]),
            node("Gemm", ["x", "w"], ["h"], "fc"),
        ],
        {"q": np.ascontiguousarray(INT8.T), "scale": np.array(0.5, np.float32)},
        "INT8 through DequantizeLinear",
    ),
    "integer operator": (
        [
            cast("x", TensorProto.INT8, "a"),
            node("MatMulInteger", ["a", "w"], ["b"], "fc"),
            cast("b", TensorProto.FLOAT, "h"),
        ],
        {"w": INT8},
        "integers",
    ),
    "another matrix for each place": (
        [
            node("Unsqueeze", ["x", "axis"], ["a"]),
            node("MatMul", ["a", "w"], ["u"], "fc"),
            node("ReduceSum", ["u", "axis"], ["h"], keepdims=0),
        ],
        {"w": values(2, 6, 4), "axis": np.array([0])},
        "[2, 6, 4]",
    ),
    "3x3 convolution": (
        [
            node("Reshape", ["x", "image"], ["a"]),
            node("Conv", ["a", "w"], ["b"], "fc", pads=[1, 1, 1, 1]),
            node("Reshape", ["b", "flat"], ["c"]),
            node("Slice", ["c", "from", "to", "axis"], ["h"]),
        ],
        {
            "w": values(4, 1, 3, 3),
            "image": np.array([1, 1, 2, 3]),
            "flat": np.array([1, 24]),
            "from": np.array([0]),
            "to": np.array([4]),
            "axis": np.array([1]),
        },
        "3x3 convolution",
    ),
    "1x1 convolution that skips points and adds as many": (
        [
            node("Reshape", ["x", "image"], ["a"]),
            node("Conv", ["a", "w"], ["b"], "fc", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Reshape", ["b", "flat"], ["c"]),
            node("Slice", ["c", "from", "to", "axis"], ["h"]),
        ],
        {
            "w": values(4, 1, 1, 1),
            "image": np.array([1, 1, 2, 3]),
            "flat": np.array([1, 24]),
            "from": np.array([0]),
            "to": np.array([4]),
            "axis": np.array([1]),
        },
        "with a stride or padding",
    ),
    "kernel as large as its input, spread out": (
        [
            node("Reshape", ["x", "image"], ["a"]),
            node("Conv", ["a", "w"], ["b"], "fc", auto_pad="SAME_UPPER", strides=[2, 3], dilations=[2, 2]),
            node("Reshape", ["b", "flat"], ["h"]),
        ],
        {"w": values(4, 1, 2, 3), "image": np.array([1, 1, 2, 3]), "flat": np.array([1, 4])},
        "2x3 convolution",
    ),
    "zero": ([node("MatMul", ["x", "w"], ["h"], "fc")], {"w": np.zeros((6, 4), np.float32)}, "zero"),
    "alpha zero": ([node("Gemm", ["x", "w"], ["h"], "fc", alpha=0.0)], {"w": FLOAT}, "zero"),
    "Gemm of two computed values": (
        [
            node("Transpose", ["x"], ["t"]),
            node("Gemm", ["t", "x"], ["g"], "fc"),
            node("Slice", ["g", "from", "to"], ["h"]),
        ],
        {"from": np.array([0, 0]), "to": np.array([1, 4])},
        "not constant",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_skipped_says_why(tmp_path: Path, case: str) -> None:
    nodes, constants, words = SKIPPED[case]
    read = read_model(saved(beside_a_layer(nodes, constants), tmp_path))
    assert [layer.name for layer in read.fc_layers] == ["good"]
    (skipped,) = read.skipped
    assert skipped.name == "fc"
    assert words in skipped.reason


def test_attention_is_neither_layer_nor_skipped(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"]),
        node("MatMul", ["x", "t"], ["s"], "scores"),
        node("MatMul", ["s", "x"], ["a"], "mix"),
        node("MatMul", ["a", "w"], ["y"], "fc"),
    ]
    proto = model(nodes, inputs={"x": (3, 6)}, outputs={"y": (3, 4)}, constants={"w": FLOAT})
    read = read_model(saved(proto, tmp_path))
    assert ([layer.name for layer in read.fc_layers], read.skipped) == (["fc"], ())
    assert read.total_macs == 3 * 3 * 6 + 3 * 3 * 6 + 3 * 6 * 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["weights", "bias"])
def test_nan_and_inf_name_the_layer(tmp_path: Path, bad: float, where: str) -> None:
    arrays = {"w": values(6, 4), "b": values(4)}
    arrays["w" if where == "weights" else "b"].flat[2] = bad
    gemm = node("Gemm", ["x", "w", "b"], ["y"], "the_layer")
    path = saved(model([gemm], inputs={"x": (1, 6)}, outputs={"y": (1, 4)}, constants=arrays), tmp_path)
    with pytest.raises(ModelError, match=rf"layer the_layer: 1 of \d+ {where} are NaN or Inf") as caught:
        read_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("", "", ""), ["h0", "h1", "y"]),
        (("a", "a", "a"), ["a", "a:h1", "a:y"]),
        (("h1", "", "b"), ["h1", "h1:2", "b"]),
        (("relu", "b", "c"), ["relu:h0", "b", "c"]),
    ],
)
def test_layer_names_are_unique_and_repeatable(tmp_path: Path, names: tuple[str, ...], expected: list[str]) -> None:
    nodes = [
        node("MatMul", ["x", "w0"], ["h0"], names[0]),
        node("Relu", ["h0"], ["r"], "relu"),
        node("MatMul", ["r", "w1"], ["h1"], names[1]),
        node("MatMul", ["h1", "w2"], ["y"], names[2]),
    ]
    constants = {f"w{k}": values(5, 5, seed=k) for k in range(3)}
    path = saved(model(nodes, inputs={"x": (1, 5)}, outputs={"y": (1, 5)}, constants=constants), tmp_path)
    for _ in range(2):
        assert [layer.name for layer in read_model(path).fc_layers] == expected


def test_a_layer_in_a_branch_is_left_alone(tmp_path: Path) -> None:
    bodies = [
        helper.make_graph(
            [node("MatMul", ["x", "w"], [out], "inner")],
            out,
            [],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 4])],
        )
        for out in ("then", "else")
    ]
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        cast("s", TensorProto.BOOL, "c"),
        node("If", ["c"], ["h"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    read = read_model(saved(beside_a_layer(nodes, {"w": FLOAT}), tmp_path))
    assert [layer.name for layer in read.fc_layers] == ["good"]
    x = values(1, 6)
    np.testing.assert_allclose(outputs(to_onnx(read), {"x": x})["y"], x @ FLOAT @ values(4, 2), rtol=1e-4, atol=1e-5)

"""Rewriting: the chain computes what the cores mean (plain einsum), and the rest of the model stays as it was."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.graphs import Shape, matmul_model, model, node, saved, values
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lrf_dse.errors import UsageError
from lrf_dse.models.chain import chain
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import KEPT, Replacement, rewrite, single_layer_model
from lrf_dse.schema import FcLayer, Order, TTShape

ORDERS: tuple[Order, ...] = get_args(Order)
Array = NDArray[np.float32]


def cores_of(out_dims: Sequence[int], in_dims: Sequence[int], ranks: Sequence[int], seed: int = 0) -> list[Array]:
    shapes = TTShape(tuple(out_dims), tuple(in_dims), tuple(ranks)).core_shapes
    return [values(*shape, seed=seed + k) for k, shape in enumerate(shapes)]


def einsum_matrix(cores: Sequence[Array]) -> NDArray[np.float64]:
    """W [M, N] by one plain einsum over all cores: the independent oracle."""
    letters, operands, out, into = string.ascii_letters, [], "", ""
    for k in range(len(cores)):
        r, m, n, s = letters[3 * k : 3 * k + 4][0], letters[3 * k + 1], letters[3 * k + 2], letters[3 * k + 3]
        operands.append(r + m + n + s)
        out, into = out + m, into + n
    first, last = letters[0], letters[3 * len(cores)]
    tensor = np.einsum(",".join(operands) + "->" + first + out + into + last, *(c.astype(np.float64) for c in cores))
    return tensor.reshape(int(np.prod([c.shape[1] for c in cores])), -1)


def check(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def read(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Model:
    return read_model(saved(proto, folder, name))


dims = st.integers(1, 4)


@st.composite
def tt_cores(draw: st.DrawFn) -> list[Array]:
    d = draw(st.integers(2, 4))
    lists = [draw(st.lists(dims, min_size=d, max_size=d)) for _ in range(2)]
    return cores_of(*lists, [1, *draw(st.lists(dims, min_size=d - 1, max_size=d - 1)), 1])


@given(cores=tt_cores(), batch=st.integers(1, 3), order=st.sampled_from(ORDERS))
def test_a_single_layer_computes_what_the_cores_mean(cores: list[Array], batch: int, order: Order) -> None:
    w = einsum_matrix(cores)
    layer = FcLayer("fc", w.shape[1], w.shape[0], batch, True)
    x, bias = values(batch, w.shape[1], seed=7), values(w.shape[0], seed=8)
    proto = single_layer_model(layer, Replacement(cores, order), bias=bias)
    check(proto)
    np.testing.assert_allclose(outputs(proto, {"x": x})["y"], x @ w.T + bias, rtol=1e-3, atol=1e-3)


@given(cores=tt_cores(), batch=st.integers(1, 3), order=st.sampled_from(ORDERS))
def test_the_forms_of_the_chain(cores: list[Array], batch: int, order: Order) -> None:
    w = einsum_matrix(cores)
    steps = chain(cores, order, in_shape=(batch, w.shape[1]), out_shape=(batch, w.shape[0]))
    shape: tuple[int, ...] = (batch, w.shape[1])
    for step in steps:
        if step.op == "Reshape":
            assert step.shape != shape, "a Reshape that changes nothing"
        else:
            # Batched only where neither the slices nor the columns are one.
            if len(step.shape) == 3:
                assert step.form == "left"
                assert min(step.shape[0], step.shape[2]) > 1
            assert step.constant.dtype == np.float32
            assert step.constant.flags.c_contiguous
        shape = step.shape
    assert shape == (batch, w.shape[0])
    assert sum(step.op == "MatMul" for step in steps) == len(cores)
    assert sum(step.constant.size for step in steps if step.op == "MatMul") == sum(core.size for core in cores)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("out_dims", "in_dims", "order"), [((8, 1), (1, 12), "last_first"), ((1, 8), (12, 1), "first_first")]
)
def test_plain_low_rank_is_two_matmuls(batch: int, out_dims: Any, in_dims: Any, order: Order) -> None:
    cores = cores_of(out_dims, in_dims, (1, 3, 1))
    proto = single_layer_model(FcLayer("fc", 12, 8, batch, False), Replacement(cores, order))
    assert ops(proto) == ["MatMul", "MatMul"]


@pytest.mark.parametrize("opset", [13, 17, 26])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("d", [2, 3, 4])
def test_rewritten_model_at_every_opset(tmp_path: Path, opset: int, order: Order, batch: int, d: int) -> None:
    out_dims, in_dims = {2: ((4, 3), (2, 6)), 3: ((3, 2, 2), (2, 2, 3)), 4: ((3, 2, 2, 1), (1, 2, 2, 3))}[d]
    cores = cores_of(out_dims, in_dims, (1, *range(2, d + 1), 1))
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "fc"),
        node("Add", ["h", "b"], ["a"], "add"),
        node("Relu", ["a"], ["y"], "relu"),
    ]
    constants = {"w": values(12, 12), "b": values(12)}
    proto = model(nodes, inputs={"x": (batch, 12)}, outputs={"y": (batch, 12)}, constants=constants, opset=opset)
    rewritten = rewrite(read(proto, tmp_path), {"fc": Replacement(cores, order)})
    check(rewritten)
    assert rewritten.opset_import[0].version == opset
    assert set(ops(rewritten)) == {"Reshape", "MatMul", "Add", "Relu"}
    assert "w" not in {tensor.name for tensor in rewritten.graph.initializer}
    assert "h" in {name for n in rewritten.graph.node for name in n.output}, "the value keeps its name"
    x = values(batch, 12, seed=5)
    expected = np.maximum(x @ einsum_matrix(cores).T + values(12), 0)
    np.testing.assert_allclose(outputs(rewritten, {"x": x})["y"], expected, rtol=1e-3, atol=1e-3)


@given(
    batch=st.sampled_from([1, 3]),
    trans=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    scale=st.tuples(st.sampled_from([1.0, 0.5]), st.sampled_from([1.0, -3.0, 0.0])),
    c_from=st.sampled_from(["initializer", "Constant", "input"]),
    c_shape=st.sampled_from([None, (), (1,), (4,), (1, 4), ("batch", 1), ("batch", 4)]),
    order=st.sampled_from([*ORDERS, None]),
)
def test_gemm_in_every_form(
    *,
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    trans: tuple[int, int],
    scale: tuple[float, float],
    c_shape: tuple[Any, ...] | None,
    c_from: str,
    order: Order | None,
) -> None:
    """Cores equal to W exactly, or no cores (dense), leave the output as it was, whatever the attributes are."""
    constants = {"w": values(4, 6) if trans[1] else np.ascontiguousarray(values(4, 6).T)}
    inputs: dict[str, Shape] = {"x": (6, batch) if trans[0] else (batch, 6)}
    nodes = []
    feed = {"x": values(*inputs["x"], seed=2)}  # type: ignore[arg-type]
    if c_shape is not None:
        c = values(*(batch if size == "batch" else size for size in c_shape), seed=1)
        if c_from == "initializer":
            constants["c"] = c
        elif c_from == "Constant":
            nodes.append(node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(c)))
        else:
            inputs["c"], feed["c"] = c.shape, c
    flags = {"transA": trans[0], "transB": trans[1], "alpha": scale[0], "beta": scale[1]}
    nodes.append(node("Gemm", ["x", "w", *(["c"] if c_shape is not None else [])], ["y"], "fc", **flags))
    proto = model(nodes, inputs=inputs, outputs={"y": (batch, 4)}, constants=constants)
    original = read(proto, tmp_path_factory.mktemp("gemm"))
    w = original.weights("fc")[0]
    # W [4, 6] = U V with U the identity: an exact low-rank pair.
    cores = [np.eye(4, dtype=np.float32).reshape(1, 4, 1, 4), np.ascontiguousarray(w).reshape(4, 1, 6, 1)]
    rewritten = rewrite(original, {"fc": KEPT if order is None else Replacement(cores, order)})
    check(rewritten)
    assert "Gemm" not in ops(rewritten)
    assert ops(rewritten).count("MatMul") == (1 if order is None else 2)
    assert ("Transpose" in ops(rewritten)) == bool(trans[0] and batch > 1)
    np.testing.assert_allclose(run(rewritten, feed), run(proto, feed), rtol=1e-4, atol=1e-5)


def run(proto: onnx.ModelProto, feed: dict[str, Array]) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(["y"], feed)[0]
    return result


@pytest.mark.parametrize("in_shape", [(12,), (2, 3, 12), (1, 1, 12)])
@pytest.mark.parametrize("order", [*ORDERS, None])
def test_inputs_that_are_not_a_matrix(tmp_path: Path, in_shape: tuple[int, ...], order: Order | None) -> None:
    out_shape = (*in_shape[:-1], 8)
    original = read(matmul_model(values(12, 8), in_shape=in_shape, out_shape=out_shape), tmp_path)
    cores = cores_of((4, 2), (3, 4), (1, 5, 1))
    rewritten = rewrite(original, {"fc": KEPT if order is None else Replacement(cores, order)})
    check(rewritten)
    x = values(*in_shape, seed=3)
    got = run(rewritten, {"x": x})
    assert got.shape == out_shape
    expected = x @ (values(12, 8) if order is None else einsum_matrix(cores).T)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_the_model_that_was_read_is_not_changed(tmp_path: Path) -> None:
    original = read(matmul_model(values(12, 8), in_shape=(1, 12), out_shape=(1, 8)), tmp_path)
    before = to_onnx(original).SerializeToString(deterministic=True)
    first = rewrite(original, {"fc": Replacement(cores_of((4, 2), (3, 4), (1, 5, 1)))})
    assert to_onnx(original).SerializeToString(deterministic=True) == before
    again = rewrite(original, {"fc": Replacement(cores_of((4, 2), (3, 4), (1, 5, 1)))})
    assert first == again
    assert rewrite(original, {}) == to_onnx(original)


@pytest.mark.parametrize("behind", ["", "Transpose", "Constant"])
def test_shared_weights(tmp_path: Path, behind: str) -> None:
    """A weight with two uses is one layer, replaced in both by one set of cores."""
    weight = values(6, 6)
    nodes, constants = [], {"w": weight}
    if behind == "Transpose":
        nodes, constants = [node("Transpose", ["s"], ["w"])], {"s": np.ascontiguousarray(weight.T)}
    elif behind == "Constant":
        nodes, constants = [node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight))], {}
    nodes += [node("MatMul", ["x", "w"], ["h"], "a"), node("MatMul", ["h", "w"], ["y"], "b")]
    original = read(model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 6)}, constants=constants), tmp_path)
    assert [(layer.name, layer.uses) for layer in original.fc_layers] == [("a", 2)]
    cores = cores_of((3, 2), (2, 3), (1, 4, 1))
    tt, x = einsum_matrix(cores), values(1, 6, seed=4)
    rewritten = rewrite(original, {"a": Replacement(cores)})
    check(rewritten)
    np.testing.assert_allclose(outputs(rewritten, {"x": x})["y"], x @ tt.T @ tt.T, rtol=1e-3, atol=1e-3)
    floats = [t.name for t in rewritten.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert len(floats) == len(cores), "each core once, and the matrix is gone"


def test_names_that_are_taken_are_not_reused(tmp_path: Path) -> None:
    """Node, value and initializer names the chain would like are all in use, one in a nested graph."""
    inner = helper.make_graph(
        [node("Relu", ["h"], ["fc.matmul_2_out"], "fc.reshape")],
        "then",
        [],
        [helper.make_tensor_value_info("fc.matmul_2_out", TensorProto.FLOAT, [1, 6])],
    )
    other = helper.make_graph(
        [node("Identity", ["h"], ["fc.shape"], "fc.shape_2")],
        "else",
        [],
        [helper.make_tensor_value_info("fc.shape", TensorProto.FLOAT, [1, 6])],
    )
    nodes = [
        node("Add", ["x", "fc.weight"], ["fc.reshape_out"], "fc.matmul"),
        node("MatMul", ["fc.reshape_out", "w"], ["h"], "fc"),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        node("If", ["c"], ["y"], then_branch=inner, else_branch=other),
    ]
    constants = {"w": values(6, 6), "fc.weight": values(6)}
    original = read(model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 6)}, constants=constants), tmp_path)
    cores = cores_of((3, 2), (2, 3), (1, 4, 1))
    rewritten = rewrite(original, {"fc": Replacement(cores)})
    check(rewritten)
    names = [n.name for n in rewritten.graph.node if n.name]
    assert len(set(names)) == len(names)
    x = values(1, 6, seed=4)
    expected = np.maximum((x + values(6)) @ einsum_matrix(cores).T, 0)
    np.testing.assert_allclose(outputs(rewritten, {"x": x})["y"], expected, rtol=1e-3, atol=1e-3)


def test_a_layer_whose_value_is_used_twice_and_is_an_output(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"], "fc"), node("Relu", ["h"], ["r"]), node("Add", ["h", "r"], ["y"])]
    original = read(
        model(nodes, inputs={"x": (1, 6)}, outputs={"h": (1, 6), "y": (1, 6)}, constants={"w": values(6, 6)}), tmp_path
    )
    cores = cores_of((3, 2), (2, 3), (1, 4, 1))
    rewritten = rewrite(original, {"fc": Replacement(cores, "first_first")})
    check(rewritten)
    assert [value.name for value in rewritten.graph.output] == ["h", "y"]
    x = values(1, 6, seed=4)
    h = x @ einsum_matrix(cores).T
    got = outputs(rewritten, {"x": x})
    np.testing.assert_allclose(got["h"], h, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got["y"], h + np.maximum(h, 0), rtol=1e-3, atol=1e-3)


def test_a_rewritten_model_can_be_read_again(tmp_path: Path) -> None:
    original = read(matmul_model(values(12, 8), in_shape=(1, 12), out_shape=(1, 8)), tmp_path)
    rewritten = rewrite(original, {"fc": Replacement(cores_of((8, 1), (1, 12), (1, 3, 1)))})
    again = read(rewritten, tmp_path, "again.onnx")
    assert [(layer.in_features, layer.out_features) for layer in again.fc_layers] == [(12, 3), (3, 8)]


def test_wrong_names_and_sizes_are_refused(tmp_path: Path) -> None:
    original = read(matmul_model(), tmp_path)
    for replacement in (Replacement(cores_of((4, 1), (1, 6), (1, 2, 1))), KEPT):
        with pytest.raises(UsageError, match="no FC layer 'fc2'; the layers are fc"):
            rewrite(original, {"fc2": replacement})
    with pytest.raises(UsageError, match=r"layer fc is \[4, 6\], but the cores given for it multiply to \[6, 4\]"):
        rewrite(original, {"fc": Replacement(cores_of((6, 1), (1, 4), (1, 2, 1)))})


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_bias_is_shifted_and_a_shared_one_stays_for_the_others(tmp_path: Path, beta: float) -> None:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"], "gemm", transB=1, beta=beta),
        node("MatMul", ["x", "v"], ["m"], "matmul"),
        node("Add", ["b", "m"], ["a"]),
        node("Add", ["g", "b"], ["h"]),
        node("Add", ["a", "h"], ["y"]),
    ]
    constants = {"w": values(4, 6), "v": values(6, 4, seed=1), "b": values(4, seed=2)}
    original = read(model(nodes, inputs={"x": (2, 6)}, outputs={"y": (2, 4)}, constants=constants), tmp_path)
    x, shift = values(2, 6, seed=3), values(4, seed=4)
    before = outputs(to_onnx(original), {"x": x})["y"]
    dense = Replacement(weight=2 * values(4, 6), bias_shift=shift)
    rewritten = rewrite(original, {"gemm": dense, "matmul": Replacement(bias_shift=shift)})
    check(rewritten)
    expected = before + x @ values(4, 6).T + 2 * shift
    np.testing.assert_allclose(outputs(rewritten, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)
    assert rewrite(original, {}) == to_onnx(original)


def test_a_bias_that_is_not_there_cannot_be_shifted(tmp_path: Path) -> None:
    original = read(matmul_model(), tmp_path)
    with pytest.raises(UsageError, match="layer fc has no constant bias to shift"):
        rewrite(original, {"fc": Replacement(bias_shift=values(4))})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias_rows", [None, 1, 3])
def test_a_dense_single_layer(batch: int, bias_rows: int | None) -> None:
    if bias_rows == 3 and batch == 1:
        bias_rows = 1
    weight, x = values(4, 6), values(batch, 6, seed=1)
    bias = None if bias_rows is None else (values(4) if bias_rows == 1 else values(bias_rows, 4))
    proto = single_layer_model(FcLayer("fc", 6, 4, batch, bias is not None), Replacement(weight=weight), bias=bias)
    check(proto)
    expected = x @ weight.T + (0 if bias is None else bias)
    np.testing.assert_allclose(outputs(proto, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)
    assert ops(proto) == (["MatMul"] if bias is None else ["MatMul", "Add"])

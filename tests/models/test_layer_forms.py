"""FC layers in every form that model files have them: found, read right, and replaced right in every form of plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lrf_dse.errors import ModelError
from lrf_dse.models.calibrate import layer_moments
from lrf_dse.models.evaluate import outputs, run_session, session_of
from lrf_dse.models.fed import FedModel
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement, rewrite
from lrf_dse.schema import TTShape
from lrf_dse.tt.svd import get_decomposer

Constants = dict[str, NDArray[Any]]
Form = tuple[list[onnx.NodeProto], tuple[int, ...], tuple[int, ...], Constants, tuple[int, int, int]]

W = values(8, 12)
"""[out, in]"""

FORMS: dict[str, Form] = {
    "Gemm": (
        [node("Gemm", ["x", "w", "b"], ["y"], "fc", transB=1)],
        (2, 12),
        (2, 8),
        {"w": W, "b": values(8)},
        (8, 12, 2),
    ),
    "constant A of Gemm": (
        [node("Gemm", ["w", "x", "c"], ["y"], "fc", alpha=0.5)],
        (12, 3),
        (8, 3),
        {"w": W, "c": values(8, 1)},
        (8, 12, 3),
    ),
    "constant A of Gemm, B transposed": (
        [node("Gemm", ["w", "x"], ["y"], "fc", transB=1)],
        (3, 12),
        (8, 3),
        {"w": W},
        (8, 12, 3),
    ),
    "2-D": ([node("MatMul", ["x", "w"], ["y"], "fc")], (3, 12), (3, 8), {"w": W.T.copy()}, (8, 12, 3)),
    "3-D, bias before": (
        [node("MatMul", ["x", "w"], ["h"], "fc"), node("Add", ["b", "h"], ["y"])],
        (2, 3, 12),
        (2, 3, 8),
        {"w": W.T.copy(), "b": values(8)},
        (8, 12, 6),
    ),
    "4-D": ([node("MatMul", ["x", "w"], ["y"], "fc")], (2, 1, 3, 12), (2, 1, 3, 8), {"w": W.T.copy()}, (8, 12, 6)),
    "[1, K, N] constant": (
        [node("MatMul", ["x", "w"], ["y"], "fc")],
        (3, 12),
        (1, 3, 8),
        {"w": W.T[None].copy()},
        (8, 12, 3),
    ),
    "left constant": (
        [node("MatMul", ["w", "x"], ["h"], "fc"), node("Add", ["h", "b"], ["y"])],
        (12, 5),
        (8, 5),
        {"w": W, "b": values(8, 1)},
        (8, 12, 5),
    ),
    "left constant, 3-D": (
        [node("MatMul", ["w", "x"], ["y"], "fc")],
        (2, 12, 5),
        (2, 8, 5),
        {"w": W[None].copy()},
        (8, 12, 10),
    ),
    "left constant, a column": ([node("MatMul", ["w", "x"], ["y"], "fc")], (12, 1), (8, 1), {"w": W}, (8, 12, 1)),
    "Einsum bi,oi->bo": (
        [node("Einsum", ["x", "w"], ["y"], "fc", equation="bi,oi->bo")],
        (3, 12),
        (3, 8),
        {"w": W},
        (8, 12, 3),
    ),
    "Einsum into heads": (
        [node("Einsum", ["x", "w"], ["y"], "fc", equation="bti,hdi->bhtd")],
        (2, 3, 12),
        (2, 2, 3, 4),
        {"w": W.reshape(2, 4, 12)},
        (8, 12, 6),
    ),
    "Einsum out of heads": (
        [node("Einsum", ["w", "x"], ["y"], "fc", equation="hdo,bthd->bto")],
        (2, 3, 3, 4),
        (2, 3, 8),
        {"w": W.T.reshape(3, 4, 8).copy()},
        (8, 12, 6),
    ),
    "Einsum with dots": (
        [node("Einsum", ["x", "w"], ["y"], "fc", equation="...i,io->...o")],
        (2, 3, 12),
        (2, 3, 8),
        {"w": W.T.copy()},
        (8, 12, 6),
    ),
    "1x1 convolution": (
        [node("Conv", ["x", "w", "b"], ["y"], "fc")],
        (1, 12, 3, 5),
        (1, 8, 3, 5),
        {"w": W.reshape(8, 12, 1, 1), "b": values(8)},
        (8, 12, 15),
    ),
    "1x1 convolution of a batch": (
        [node("Conv", ["x", "w", "b"], ["h"], "fc"), node("Relu", ["h"], ["y"])],
        (2, 12, 3, 2),
        (2, 8, 3, 2),
        {"w": W.reshape(8, 12, 1, 1), "b": values(8)},
        (8, 12, 12),
    ),
    "convolution of a sequence": (
        [node("Conv", ["x", "w"], ["y"], "fc")],
        (1, 12, 7),
        (1, 8, 7),
        {"w": W.reshape(8, 12, 1)},
        (8, 12, 7),
    ),
    "convolution that covers its input": (
        [node("Conv", ["x", "w", "b"], ["y"], "fc")],
        (2, 3, 2, 2),
        (2, 8, 1, 1),
        {"w": W.reshape(8, 3, 2, 2), "b": values(8)},
        (8, 12, 2),
    ),
    "behind Split": (
        [node("Split", ["s", "cut"], ["w", "rest"], axis=1), node("MatMul", ["x", "w"], ["y"], "fc")],
        (3, 12),
        (3, 8),
        {"s": values(12, 20), "cut": np.array([8, 12])},
        (8, 12, 3),
    ),
    "behind Concat, Mul and Reshape": (
        [
            node("Concat", ["s", "t"], ["c"], axis=0),
            node("Mul", ["c", "scale"], ["d"]),
            node("Reshape", ["d", "shape"], ["w"]),
            node("Gemm", ["x", "w"], ["y"], "fc"),
        ],
        (3, 12),
        (3, 8),
        {"s": values(50), "t": values(46), "scale": np.array([2.0], np.float32), "shape": np.array([12, 8])},
        (8, 12, 3),
    ),
    "behind Cast of float64": (
        [node("Cast", ["s"], ["w"], to=TensorProto.FLOAT), node("MatMul", ["x", "w"], ["y"], "fc")],
        (3, 12),
        (3, 8),
        {"s": W.T.astype(np.float64)},
        (8, 12, 3),
    ),
}


def read_form(name: str, folder: Path) -> tuple[Model, onnx.ModelProto, NDArray[np.float32]]:
    nodes, in_shape, out_shape, constants, _ = FORMS[name]
    proto = model(nodes, inputs={"x": in_shape}, outputs={"y": out_shape}, constants=constants)
    return read_model(saved(proto, folder)), proto, values(*in_shape, seed=7)


def result(proto: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(run_session(session_of(proto), {"x": x})[0])


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_found_and_computes_what_the_file_computes(name: str, tmp_path: Path) -> None:
    read, proto, x = read_form(name, tmp_path)
    (layer,) = read.fc_layers
    assert (layer.name, layer.out_features, layer.in_features, layer.batch) == ("fc", *FORMS[name][4])
    assert read.total_params >= layer.out_features * layer.in_features
    assert read.total_macs == layer.batch * layer.out_features * layer.in_features
    np.testing.assert_allclose(result(to_onnx(read), x), result(proto, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "bias", "beta", "fits"),
    [
        (1, (8, 1), 1.0, False),
        (1, (8, 1), 0.5, False),
        (2, (3, 8), 1.0, False),
        (1, (2, 8), 1.0, False),
        (2, (5,), 1.0, False),
        (2, (1, 1, 8), 1.0, False),
        (1, (8, 1), 0.0, False),
        (2, (2, 8), 0.0, True),
        (2, (2, 1), 1.0, True),
        (2, (2, 8), 1.0, True),
        (2, (1, 8), 0.5, True),
        (2, (1,), 1.0, True),
        (2, (), 1.0, True),
    ],
)
def test_a_bias_that_only_an_add_would_take_is_refused(
    rows: int, bias: tuple[int, ...], beta: float, fits: bool, tmp_path: Path
) -> None:
    """Gemm repeats C until it fits. An Add repeats the product too: another model, which onnxruntime would run."""
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], "fc", transB=1, beta=beta)]
    constants = {"w": W, "b": np.asarray(values(*bias) if bias else 0.5, np.float32)}
    proto = model(nodes, inputs={"x": (rows, 12)}, outputs={"y": (rows, 8)}, constants=constants)
    path = saved(proto, tmp_path)
    if not fits:
        with pytest.raises(ModelError, match=r"fc: its bias \[.*\] does not fit its result \[\d, 8\]"):
            read_model(path)
        return
    x = values(rows, 12, seed=4)
    np.testing.assert_allclose(result(to_onnx(read_model(path)), x), result(proto, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [None, KernelChoice()], ids=["chain", "kernel"])
@pytest.mark.parametrize("order", ["last_first", "first_first"])
@pytest.mark.parametrize("name", FORMS)
def test_full_rank_cores_in_its_place_compute_the_same(name: str, order: Any, kernel: Any, tmp_path: Path) -> None:
    read, proto, x = read_form(name, tmp_path)
    shape = TTShape((4, 2), (3, 4), (1, 8, 1))
    cores = get_decomposer("tt_svd", seed=0).decompose(read.weights("fc")[0], shape, None)
    rewritten = rewrite(read, {"fc": Replacement(cores, order, kernel=kernel)})
    onnx.checker.check_model(rewritten, full_check=True)
    np.testing.assert_allclose(result(rewritten, x), result(proto, x), rtol=1e-3, atol=1e-3)
    elements = np.sort(read.weights("fc")[0], axis=None)
    left = [onnx.numpy_helper.to_array(tensor) for tensor in rewritten.graph.initializer]
    assert not any(np.array_equal(np.sort(array, axis=None), elements) for array in left), "the matrix is gone"


@pytest.mark.parametrize("name", FORMS)
def test_another_matrix_and_a_shifted_bias(name: str, tmp_path: Path) -> None:
    read, proto, x = read_form(name, tmp_path)
    weight, bias = read.weights("fc")
    shift = None if bias is None else values(8, seed=5)
    doubled = rewrite(read, {"fc": Replacement(weight=2 * weight, bias_shift=shift)})
    again = rewrite(read, {"fc": Replacement(weight=weight)})
    np.testing.assert_allclose(result(again, x), result(proto, x), rtol=1e-4, atol=1e-4)
    by_kernel = rewrite(read, {"fc": Replacement(weight=2 * weight, bias_shift=shift, kernel=KernelChoice())})
    np.testing.assert_allclose(result(by_kernel, x), result(doubled, x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FORMS)
def test_fed_weights_compute_what_a_rewritten_graph_does(name: str, tmp_path: Path) -> None:
    read, _, _ = read_form(name, tmp_path)
    shape = read.inputs[0].shape
    x = {"x": values(5, *shape, seed=3) if read.batch is None else values(5 * shape[0], *shape[1:], seed=3)}
    weight, bias = read.weights("fc")
    cores = get_decomposer("tt_svd", seed=0).decompose(weight, TTShape((4, 2), (3, 4), (1, 3, 1)), None)
    shift = None if bias is None else values(8, seed=5)
    fed = FedModel(read, x)
    for made in (Replacement(), Replacement(weight=2 * weight, bias_shift=shift), Replacement(cores, bias_shift=shift)):
        want = next(iter(outputs(rewrite(read, {"fc": made}), x).values()))
        np.testing.assert_allclose(fed.first_output({"fc": made}, x), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FORMS)
def test_the_moment_is_of_the_rows_that_the_matrix_meets(name: str, tmp_path: Path) -> None:
    """The mean of x through W and b is the mean of the layer's outputs."""
    read, proto, _ = read_form(name, tmp_path)
    if any(each.op_type == "Relu" for each in proto.graph.node):
        proto.graph.node[-1].op_type = "Identity"  # a mean does not pass a ReLU
    shape = read.inputs[0].shape
    x = (
        np.broadcast_to(values(*shape, seed=3), (100, *shape))
        if read.batch is None
        else np.tile(values(*shape, seed=3), (100, *(1 for _ in shape[1:])))
    )
    moment = layer_moments(read, {"x": np.asarray(x)}, seed=0)["fc"]
    weight, bias = read.weights("fc")
    mean = weight @ moment.mean + (0 if bias is None else bias)
    out = result(proto, values(*shape, seed=3))
    features = [axis for axis, size in enumerate(out.shape) if size == 8]
    if features:
        others = tuple(axis for axis in range(out.ndim) if axis != features[0])
        np.testing.assert_allclose(mean, out.mean(axis=others), rtol=1e-3, atol=1e-3)


def test_uses_of_one_matrix_are_one_layer_however_it_is_stored(tmp_path: Path) -> None:
    weight = values(6, 6)
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "a", transB=1),
        node("Relu", ["h"], ["r"]),
        node("Transpose", ["w"], ["t"]),
        node("MatMul", ["r", "t"], ["g"], "again"),
        node("Add", ["g", "c"], ["i"]),
        node("Gemm", ["i", "w2", "b"], ["y"], "last", transB=1),
    ]
    constants = {"w": weight, "w2": weight.copy(), "b": values(6, seed=1), "c": values(6, seed=2)}
    proto = model(nodes, inputs={"x": (2, 6)}, outputs={"y": (2, 6)}, constants=constants)
    read = read_model(saved(proto, tmp_path))
    (layer,) = read.fc_layers
    assert (layer.name, layer.uses, layer.batch) == ("a", 3, 2)
    assert (read.total_params, read.total_macs) == (36 + 12, 3 * 72)
    x = values(2, 6, seed=4)
    np.testing.assert_allclose(result(to_onnx(read), x), result(proto, x), rtol=1e-4, atol=1e-4)
    cores = get_decomposer("tt_svd", seed=0).decompose(read.weights("a")[0], TTShape((3, 2), (2, 3), (1, 6, 1)), None)
    for kernel in (None, KernelChoice()):
        rewritten = rewrite(read, {"a": Replacement(cores, kernel=kernel)})
        np.testing.assert_allclose(result(rewritten, x), result(proto, x), rtol=1e-3, atol=1e-3)
        matrices = [t for t in rewritten.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
        assert len(matrices) == len(cores), "each core once, whatever uses it"


def test_what_is_no_layer_is_listed_with_its_weights(tmp_path: Path) -> None:
    """Everything adds up: embedding, recurrent gates, a wide kernel, a branch, a constant nobody uses, a dead layer."""
    then, other = (
        helper.make_graph(
            [
                node("Constant", [], [f"{k}w"], value=onnx.numpy_helper.from_array(values(8, 4))),
                node("MatMul", ["h", f"{k}w"], [k]),
            ],
            k,
            [],
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, [3, 4])],
        )
        for k in ("then", "else")
    )
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "embedding"),
        node("Unsqueeze", ["e", "zero"], ["batched"]),
        node("LSTM", ["batched", "wx", "wh"], ["steps", "last_h", "last_c"], "cell", hidden_size=8),
        node("Reshape", ["steps", "three"], ["cut"]),
        node("MatMul", ["cut", "w"], ["h"], "fc"),
        node("MatMul", ["cut", "dead_w"], ["nothing"], "dead"),
        node("ReduceSum", ["h"], ["s"], keepdims=0),
        node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        node("If", ["c"], ["y"], "choice", then_branch=then, else_branch=other),
    ]
    constants = {
        "table": values(20, 5),
        "zero": np.array([1]),
        "wx": values(1, 32, 5),
        "wh": values(1, 32, 8),
        "three": np.array([3, 8]),
        "w": values(8, 8),
        "dead_w": values(8, 2),
        "unused": values(7, 3),
    }
    proto = model(nodes, inputs={"ids": (3,)}, outputs={"y": (3, 4)}, constants=constants, input_type=TensorProto.INT64)
    read = read_model(saved(proto, tmp_path))
    assert [layer.name for layer in read.fc_layers] == ["fc"]
    found = {item.name: (item.reason, item.params, item.macs) for item in read.skipped}
    assert found["embedding"][:2] == ("an embedding: rows are looked up, nothing is multiplied", 100)
    assert found["cell"] == ("gates of an LSTM", 32 * 13, 3 * 32 * 13)
    assert found["choice"][0].startswith("in the branches of an If")
    assert found["choice"][1:] == (64, 96)
    assert found["dead"][:2] == ("its output is not used", 16)
    assert found["unused"] == ("no operation uses this constant", 21, 0)
    assert read.total_params == 100 + 32 * 13 + 64 + 16 + 21 + 64
    assert read.total_macs == 3 * 64 + 3 * 32 * 13 + 96


@pytest.mark.parametrize("form", ["Gemm", "Transpose", "MatMul"])
def test_a_head_that_shares_its_matrix_with_an_embedding_is_skipped_and_counted_once(form: str, tmp_path: Path) -> None:
    heads = {
        "Gemm": [node("Gemm", ["h", "table"], ["y"], "head", transB=1)],
        "Transpose": [node("Transpose", ["table"], ["t"], perm=[1, 0]), node("MatMul", ["h", "t"], ["y"], "head")],
        "MatMul": [node("MatMul", ["h", "table"], ["y"], "head")],
    }
    width = 6 if form == "MatMul" else 20
    nodes = [
        node("Gather", ["table", "x"], ["e"], "lookup"),
        node("MatMul", ["e", "w"], ["h"], "fc"),
        *heads[form],
    ]
    constants = {"table": values(20, 6), "w": values(6, 20 if form == "MatMul" else 6)}
    proto = model(
        nodes,
        inputs={"x": (3,)},
        outputs={"y": (3, width)},
        constants=constants,
        input_type=onnx.TensorProto.INT64,
    )
    read = read_model(saved(proto, tmp_path))
    assert list(read.sites) == ["fc"]
    skipped = {item.name: item for item in read.skipped}
    assert skipped["head"].reason.startswith("its matrix is an embedding too")
    assert skipped["head"].macs == 3 * 20 * 6 and skipped["head"].params == 0
    assert skipped["lookup"].params == 20 * 6
    assert read.total_params == sum(array.size for array in constants.values())

"""A layer as a call of a function: onnxruntime computes what the chain computes, and what is joined to it is gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.graphs import matmul_model, model, node, saved, values
from models.test_rewrite import ORDERS, check, cores_of, einsum_matrix, ops, run, tt_cores

from lrf_dse.codegen import Activation, KernelSchedule, KernelSpec, default_schedule
from lrf_dse.jsonform import from_json
from lrf_dse.models.kernel_call import DOMAIN, SCHEDULE, SPEC, KernelChoice
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement, rewrite, single_layer_model
from lrf_dse.schema import FcLayer, Order, TTShape
from lrf_dse.target import load_target

CORES = cores_of((4, 2), (3, 4), (1, 5, 1))
W = einsum_matrix(CORES)


def call_of(proto: onnx.ModelProto) -> onnx.NodeProto:
    (call,) = [n for n in proto.graph.node if n.domain == DOMAIN]
    return call


def attribute(call: onnx.NodeProto, name: str) -> str | None:
    texts = {a.name: a.s.decode() for a in call.attribute}
    return texts.get(name)


def spec_of(proto: onnx.ModelProto) -> KernelSpec:
    spec: KernelSpec = from_json(KernelSpec, json.loads(attribute(call_of(proto), SPEC) or ""))
    return spec


@given(cores=tt_cores(), batch=st.integers(1, 3), order=st.sampled_from(ORDERS))
def test_the_function_computes_what_the_chain_computes(cores: list[np.ndarray], batch: int, order: Order) -> None:
    w = einsum_matrix(cores)
    layer = FcLayer("fc", w.shape[1], w.shape[0], batch, True)
    x, bias = values(batch, w.shape[1], seed=7), values(w.shape[0], seed=8)
    proto = single_layer_model(layer, Replacement(cores, order, kernel=KernelChoice(threads=3)), bias=bias)
    check(proto)
    assert [(n.domain, n.op_type) for n in proto.graph.node] == [(DOMAIN, "TTDense_1")]
    spec = spec_of(proto)
    assert (spec.batch, spec.has_bias, spec.threads, spec.activation) == (batch, True, 3, None)
    assert spec.shape is not None
    assert spec.shape.core_shapes == tuple(core.shape for core in cores)
    chained = run(single_layer_model(layer, Replacement(cores, order), bias=bias), {"x": x})
    np.testing.assert_allclose(run(proto, {"x": x}), chained, rtol=1e-5, atol=1e-5)


@given(sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), batch=st.integers(1, 3))
def test_a_dense_layer_is_a_call_too(sizes: tuple[int, int], batch: int) -> None:
    outs, ins = sizes
    w, x, bias = values(outs, ins), values(batch, ins, seed=7), values(outs, seed=8)
    layer = FcLayer("fc", ins, outs, batch, True)
    proto = single_layer_model(layer, Replacement(weight=w, kernel=KernelChoice()), bias=bias)
    check(proto)
    assert [(n.domain, n.op_type) for n in proto.graph.node] == [(DOMAIN, "Dense_1")]
    spec = spec_of(proto)
    assert (spec.shape, spec.out_features, spec.in_features, spec.batch, spec.has_bias) == (None, *sizes, batch, True)
    np.testing.assert_allclose(run(proto, {"x": x}), x @ w.T + bias, rtol=1e-5, atol=1e-5)


def test_values_reach_a_bias_that_a_kernel_takes_in(tmp_path: Path) -> None:
    """Training changes biases too; a kernel that has one joined must compute with the trained one."""
    constants = {"w": values(8, 12), "b": values(8)}
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], "fc", transB=1)]
    proto = model(nodes, inputs={"x": (1, 12)}, outputs={"y": (1, 8)}, constants=constants)
    read = read_model(saved(proto, tmp_path))
    x, bias = values(1, 12, seed=7), values(8, seed=9)
    for replacement in (Replacement(), Replacement(kernel=KernelChoice())):
        found = run(rewrite(read, {"fc": replacement}, {"b": bias}), {"x": x})
        np.testing.assert_allclose(found, x @ constants["w"].T + bias, rtol=1e-5, atol=1e-5)


ACTIVATIONS = (
    (["Relu"], {}, Activation(0.0, None)),
    (["Clip", "zero", "six"], {}, Activation(0.0, 6.0)),
    (["Clip", "", "six"], {}, Activation(None, 6.0)),
    (["Clip", "six"], {}, Activation(6.0, None)),
    (["Clip", "six", "zero"], {}, None),
    (["Tanh"], {}, None),
)


@pytest.mark.parametrize(("op", "attributes", "expected"), ACTIVATIONS, ids=str)
@pytest.mark.parametrize("form", ["Gemm", "MatMul"])
def test_bias_and_activation_are_joined(
    tmp_path: Path, op: list[str], attributes: dict[str, object], expected: Activation | None, form: str
) -> None:
    constants = {"w": values(12, 8), "b": values(8), "zero": np.float32(0), "six": np.float32(6)}
    if form == "Gemm":
        nodes = [node("Gemm", ["x", "w", "b"], ["a"], "fc", beta=-2.0)]
        bias = -2 * values(8)
    else:
        nodes = [node("MatMul", ["x", "w"], ["h"], "fc"), node("Add", ["b", "h"], ["a"])]
        bias = values(8)
    nodes.append(node(op[0], ["a", *op[1:]], ["y"], **attributes))
    original = read_model(
        saved(model(nodes, inputs={"x": (3, 12)}, outputs={"y": (3, 8)}, constants=constants), tmp_path)
    )
    joined = rewrite(original, {"fc": Replacement(CORES, kernel=KernelChoice())})
    check(joined)
    assert spec_of(joined) == KernelSpec(TTShape((4, 2), (3, 4), (1, 5, 1)), 8, 12, 3, True, expected)
    assert len(joined.graph.node) == (2 if expected is None else 1)
    assert call_of(joined).output == (["a"] if expected is None else ["y"])
    x = 3 * values(3, 12, seed=9)
    plain = rewrite(original, {"fc": Replacement(CORES)})
    np.testing.assert_allclose(run(joined, {"x": x}), run(plain, {"x": x}), rtol=1e-5, atol=1e-5)
    left = x @ W.T + bias
    assert run(joined, {"x": x}).shape == left.shape


def test_what_others_use_too_is_not_joined(tmp_path: Path) -> None:
    """The value is an output of the model, the bias is one for every row, the activation has bounds from outside."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "fc"),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v", "rows"], ["g"], "gemm"),
        node("Relu", ["g"], ["s"]),
        node("MatMul", ["s", "u"], ["t"], "last"),
        node("Clip", ["t", "low"], ["y"]),
    ]
    constants = {"w": values(12, 8), "v": values(8, 8), "u": values(8, 8, seed=1), "rows": values(3, 8)}
    proto = model(nodes, inputs={"x": (3, 12), "low": ()}, outputs={"h": (3, 8), "y": (3, 8)}, constants=constants)
    original = read_model(saved(proto, tmp_path))
    square = cores_of((4, 2), (2, 4), (1, 5, 1))
    chosen = {"fc": CORES, "gemm": square, "last": square}
    joined = rewrite(
        original, {name: Replacement(cores, "first_first", kernel=KernelChoice()) for name, cores in chosen.items()}
    )
    check(joined)
    assert ops(joined) == ["TTDense_1", "Relu", "TTDense_2", "Add", "Relu", "TTDense_3", "Clip"]
    assert [f.name for f in joined.functions] == ["TTDense_1", "TTDense_2", "TTDense_3"]
    x = values(3, 12, seed=9)
    plain = rewrite(original, {name: Replacement(cores, "first_first") for name, cores in chosen.items()})
    feed = {"x": x, "low": np.array(-1, np.float32)}
    np.testing.assert_allclose(run(joined, feed), run(plain, feed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_shape", [(12,), (2, 3, 12), (1, 1, 12)])
def test_a_batch_is_the_product_of_the_leading_dims(tmp_path: Path, in_shape: Sequence[int]) -> None:
    original = read_model(
        saved(matmul_model(values(12, 8), in_shape=in_shape, out_shape=(*in_shape[:-1], 8)), tmp_path)
    )
    joined = rewrite(original, {"fc": Replacement(CORES, kernel=KernelChoice())})
    check(joined)
    assert spec_of(joined).batch == int(np.prod(in_shape[:-1]))
    x = values(*in_shape, seed=3)
    np.testing.assert_allclose(run(joined, {"x": x}), x @ W.T, rtol=1e-3, atol=1e-3)


def test_a_schedule_travels_with_the_call() -> None:
    layer = FcLayer("fc", 12, 8, 1, False)
    target = load_target("spacemit-k1")
    schedule = default_schedule(KernelSpec(TTShape((4, 2), (3, 4), (1, 5, 1)), 8, 12), target)
    with_one = single_layer_model(layer, Replacement(CORES, kernel=KernelChoice(schedule=schedule)))
    text = attribute(call_of(with_one), SCHEDULE)
    assert text is not None
    assert from_json(KernelSchedule, json.loads(text)) == schedule
    assert attribute(call_of(single_layer_model(layer, Replacement(CORES, kernel=KernelChoice()))), SCHEDULE) is None

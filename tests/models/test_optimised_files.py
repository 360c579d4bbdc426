"""Files that onnxruntime's optimiser or quantiser wrote: read in standard operations, with layers and results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.evaluate import run_session, session_of
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model

MICROSOFT = onnx.helper.make_opsetid("com.microsoft", 1)


def contrib(kind: str, inputs: list[str], outs: list[str], **attributes: object) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, outs, kind, domain="com.microsoft", **attributes)


def result(proto: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(run_session(session_of(proto), {"x": x})[0])


H = 8
VECTORS = {
    "g": values(H, seed=1),
    "b": values(H, seed=2),
    "s": values(1, 3, H, seed=3),
    "w": values(H, H),
    "v": values(H),
}
CONTRIB: dict[str, list[onnx.NodeProto]] = {
    "Gelu": [contrib("Gelu", ["x"], ["h"])],
    "FastGelu": [contrib("FastGelu", ["x", "v"], ["h"])],
    "QuickGelu": [contrib("QuickGelu", ["x"], ["h"], alpha=1.702)],
    "BiasGelu": [contrib("BiasGelu", ["x", "v"], ["h"])],
    "SkipLayerNormalization": [contrib("SkipLayerNormalization", ["x", "s", "g", "b", "v"], ["h"], epsilon=1e-5)],
    "SkipSimplifiedLayerNormalization": [
        contrib("SkipSimplifiedLayerNormalization", ["x", "s", "g"], ["h"], epsilon=1e-5)
    ],
    "FusedMatMul": [contrib("FusedMatMul", ["x", "w"], ["h"], transB=1, alpha=0.5)],
    "Attention": [contrib("Attention", ["x", "qkv", "qkv_b"], ["h"], num_heads=2)],
    "MultiHeadAttention": [contrib("MultiHeadAttention", ["x", "x", "x"], ["h"], num_heads=2)],
}


@pytest.mark.parametrize("name", CONTRIB)
def test_an_operation_of_the_optimiser_is_written_out(name: str, tmp_path: Path) -> None:
    constants = VECTORS | {"head": values(H, 5), "qkv": values(H, 3 * H) / 3, "qkv_b": values(3 * H)}
    used = {i for n in CONTRIB[name] for i in n.input} | {"head"}
    proto = model(
        [*CONTRIB[name], node("MatMul", ["h", "head"], ["y"], "head")],
        inputs={"x": (1, 3, H)},
        outputs={"y": (1, 3, 5)},
        constants={key: array for key, array in constants.items() if key in used},
    )
    proto.opset_import.append(MICROSOFT)
    read = read_model(saved(proto, tmp_path))
    assert "head" in read.sites
    assert all(each.domain == "" for each in to_onnx(read).graph.node)
    assert (name in read.sites) == (name in ("FusedMatMul", "Attention")), "what holds a matrix is a layer"
    x = values(1, 3, H, seed=9)
    np.testing.assert_allclose(result(to_onnx(read), x), result(proto, x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "LeakyRelu"])
def test_fused_gemm_and_conv_have_their_activation(activation: str, tmp_path: Path) -> None:
    nodes = [
        contrib("FusedConv", ["x", "k", "kb"], ["c"], activation=activation, activation_params=[0.1]),
        node("Flatten", ["c"], ["f"]),
        contrib("FusedGemm", ["f", "w", "b"], ["y"], activation=activation, activation_alpha=0.1, transB=1),
    ]
    constants = {"k": values(4, 3, 1, 1), "kb": values(4), "w": values(5, 16), "b": values(5)}
    if activation != "LeakyRelu":
        del nodes[0].attribute[-1]
    proto = model(nodes, inputs={"x": (1, 3, 2, 2)}, outputs={"y": (1, 5)}, constants=constants)
    proto.opset_import.append(MICROSOFT)
    read = read_model(saved(proto, tmp_path))
    assert list(read.sites) == ["FusedConv", "FusedGemm"]
    x = values(1, 3, 2, 2, seed=9)
    np.testing.assert_allclose(result(to_onnx(read), x), result(proto, x), rtol=1e-4, atol=1e-5)


def network() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "k", "kb"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("Flatten", ["r"], ["f"], "flatten"),
        node("MatMul", ["f", "w"], ["m"], "hidden"),
        node("Add", ["m", "b"], ["a"], "hidden_bias"),
        node("Relu", ["a"], ["s"], "relu2"),
        node("Gemm", ["s", "v", "c2"], ["y"], "last", transB=1),
    ]
    constants = {
        "k": values(6, 3, 1, 1) / 2,
        "kb": values(6),
        "w": values(24, 16) / 4,
        "b": values(16),
        "v": values(5, 16) / 4,
        "c2": values(5),
    }
    return model(nodes, inputs={"x": (1, 3, 2, 2)}, outputs={"y": (1, 5)}, constants=constants)


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
def test_a_file_that_onnxruntime_optimised(level: str, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(network().SerializeToString(), options, providers=["CPUExecutionProvider"])
    read = read_model(tmp_path / "optimised.onnx")
    assert [(layer.in_features, layer.out_features) for layer in read.fc_layers] == [(3, 6), (24, 16), (16, 5)]
    x = values(1, 3, 2, 2, seed=9)
    np.testing.assert_allclose(result(to_onnx(read), x), result(network(), x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["dynamic", "QDQ", "QOperator"])
def test_a_quantised_file_is_listed_or_computed_in_float32(way: str, tmp_path: Path) -> None:
    """As onnxruntime's own quantiser writes them."""
    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": values(1, 3, 2, 2, seed=k)} for k in range(20)]

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return self.left.pop() if self.left else None

    source, out = saved(network(), tmp_path), tmp_path / "quantised.onnx"
    if way == "dynamic":
        quantization.quantize_dynamic(source, out, weight_type=quantization.QuantType.QInt8)
    else:
        form = getattr(quantization.QuantFormat, way)
        quantization.quantize_static(
            source, out, Samples(), quant_format=form, weight_type=quantization.QuantType.QInt8
        )
    with pytest.raises(ModelError, match="no FC layer to work on; passed over .*--dequantize computes it in float32"):
        read_model(out)
    read = read_model(out, dequantize=True)
    assert [(layer.in_features, layer.out_features) for layer in read.fc_layers] == [(3, 6), (24, 16), (16, 5)]
    operations = {each.op_type for each in to_onnx(read).graph.node}
    assert not operations & {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"}
    x = values(1, 3, 2, 2, seed=9)
    expected = result(network(), x)
    assert np.abs(result(to_onnx(read), x) - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_of_four_bits_in_blocks(tmp_path: Path) -> None:
    rng, n, k, block = np.random.default_rng(0), 6, 64, 32
    packed = rng.integers(0, 256, (n, k // block, block // 2), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.1, n * k // block).astype(np.float32)
    fc = contrib("MatMulNBits", ["x", "q", "s"], ["y"], K=k, N=n, bits=4, block_size=block)
    proto = model([fc], inputs={"x": (2, k)}, outputs={"y": (2, n)}, constants={"q": packed, "s": scales})
    proto.opset_import.append(MICROSOFT)
    path = saved(proto, tmp_path)
    with pytest.raises(ModelError, match="MatMulNBits computes in integers; --dequantize"):
        read_model(path)
    read = read_model(path, dequantize=True)
    x = values(2, k)
    np.testing.assert_allclose(result(to_onnx(read), x), result(proto, x), rtol=1e-3, atol=1e-3)

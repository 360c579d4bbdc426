"""Inputs that are always the same, sizes that are proposed, and quantised forms: what real files need to be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values
from onnx import TensorProto, helper

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models.canonical.options import parse_inputs
from lrf_dse.models.evaluate import run_session, session_of
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model

X = values(1, 8, seed=9)


def with_rate() -> onnx.ModelProto:
    """Another layer for each sampling rate, as voice detectors are exported; the last layer always runs."""

    def branch(name: str, seed: int) -> onnx.GraphProto:
        constant = onnx.numpy_helper.from_array(values(8, 6, seed=seed), f"w_{name}")
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph(
            [node("MatMul", ["x", f"w_{name}"], [f"{name}_out"], name)], name, [], [output], [constant]
        )

    nodes = [
        node("Equal", ["sr", "rate"], ["is_fast"]),
        node("If", ["is_fast"], ["h"], "choice", then_branch=branch("fast", 1), else_branch=branch("slow", 2)),
        node("MatMul", ["h", "w"], ["y"], "last"),
    ]
    constants = {"rate": np.asarray(16000), "w": values(6, 4)}
    proto = model(nodes, inputs={"x": (1, 8)}, outputs={"y": (1, 4)}, constants=constants)
    proto.graph.input.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    return proto


@pytest.mark.parametrize(("rate", "name"), [(16000, "fast"), (8000, "slow")])
def test_a_fixed_input_leaves_one_branch(rate: int, name: str, tmp_path: Path) -> None:
    proto = with_rate()
    path = saved(proto, tmp_path)
    read = read_model(path, inputs={"sr": (float(rate),)})
    assert list(read.sites) == [name, "last"]
    assert [spec.name for spec in read.inputs] == ["x"]
    assert f"input 'sr' is fixed at {rate}" in read.notes
    expected = run_session(session_of(proto), {"x": X, "sr": np.asarray(rate)})[0]
    np.testing.assert_allclose(run_session(session_of(to_onnx(read)), {"x": X})[0], expected, rtol=1e-4, atol=1e-5)
    assert read.key != read_model(path, inputs={"sr": (1.0,)}).key


def test_the_input_that_chooses_is_named_with_the_value_that_the_model_knows(tmp_path: Path) -> None:
    read = read_model(saved(with_rate(), tmp_path))
    [reason] = [item.reason for item in read.skipped]
    assert reason.endswith("input 'sr' chooses one, for instance --input sr=16000")


def test_an_output_whose_shape_the_branch_decides_names_the_option(tmp_path: Path) -> None:
    proto = with_rate()
    slow = proto.graph.node[1].attribute[0].g.node[0]
    slow.op_type, slow.input[1] = "Concat", "x"
    slow.attribute.append(helper.make_attribute("axis", 0))
    proto.graph.node[2].op_type = "Softmax"
    del proto.graph.node[2].input[1]
    del proto.graph.initializer[1]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"]))
    with pytest.raises(ModelError, match="input 'sr' chooses what is computed; .* for instance --input sr=16000"):
        read_model(saved(proto, tmp_path))
    assert list(read_model(saved(proto, tmp_path), inputs={"sr": (16000.0,)}).sites) == ["fast"]


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [
        ("rate", (1.0,), "--input rate: it has no such input; its inputs are x, sr"),
        ("sr", (1.0, 2.0), r"--input sr=1,2: the input has the shape \[\]; give one number"),
        ("sr", (0.5,), "--input sr=0.5: the input is int64, which does not hold this"),
        ("x", (1.0, 2.0), r"--input x=1,2: the input has the shape \[1, 8\]; give one number, or 8 of them"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    name: str, numbers: tuple[float, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        read_model(saved(with_rate(), tmp_path), inputs={name: numbers})


def test_one_input_is_left_to_compute_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every input has a fixed value"):
        read_model(saved(with_rate(), tmp_path), inputs={"x": (1.0,), "sr": (8000.0,)})


@pytest.mark.parametrize("text", ["sr", "=1", "sr=", "sr=fast", "sr=1,,2", "sr=nan", "sr=1e300"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--input takes NAME=VALUE with numbers, such as --input sr=16000"):
        parse_inputs([text])


def test_sizes_that_are_proposed_are_sizes_that_fit(tmp_path: Path) -> None:
    """A network that reads lines of text 48 pixels high, whose file leaves the height open."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], "conv", strides=[48, 1]),
        node("Concat", ["c", "one"], ["d"], axis=3),
        node("MatMul", ["d", "w"], ["y"], "fc"),
    ]
    constants = {"k": values(4, 3, 48, 1), "one": values(1, 4, 1, 4), "w": values(324, 5)}
    proto = model(nodes, inputs={"x": ("n", 3, "h", "w0")}, outputs={"y": ("n", 4, "a", 5)}, constants=constants)
    with pytest.raises(ModelError, match="for instance --batch 1 --dim h=48 --dim w0=320$"):
        read_model(saved(proto, tmp_path))
    assert "fc" in read_model(saved(proto, tmp_path), batch=1, dims={"h": 48, "w0": 320}).sites
    with pytest.raises(ModelError, match="does not fit these sizes of its axes"):
        read_model(saved(proto, tmp_path), batch=1, dims={"h": 48, "w0": 64})


def test_a_spectrogram_has_one_side(tmp_path: Path) -> None:
    """STFT without `onesided` gives one side; what a filter bank makes of it is a layer."""
    nodes = [
        node("STFT", ["x", "hop", "window"], ["s"]),
        node("ReduceSumSquare", ["s"], ["power"], axes=[3], keepdims=0),
        node("MatMul", ["power", "filters"], ["y"], "filters"),
    ]
    constants = {"hop": np.asarray(16), "window": values(32), "filters": values(17, 6)}
    proto = model(nodes, inputs={"x": (1, 128)}, outputs={"y": (1, "frames", 6)}, constants=constants)
    assert list(read_model(saved(proto, tmp_path)).sites) == ["filters"]


def integer_products(*, static: bool) -> onnx.ModelProto:
    """A layer in integers with a bias in int32, with the scale of x known or not, as quantisers wrote them."""
    rng = np.random.default_rng(0)
    x_scale = ["x_scale", "x_zero"] if static else []
    first = (
        [node("QuantizeLinear", ["x", *x_scale], ["q"])]
        if static
        else [node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"])]
    )
    nodes = [
        *first,
        node("MatMulInteger", ["q", "w", "x_zero"], ["product"], "fc"),
        node("Mul", ["x_scale", "w_scale"], ["scale"]),
        node("Div", ["bias", "scale"], ["b_whole"]),
        node("Floor", ["b_whole"], ["b_floor"]),
        node("Cast", ["b_floor"], ["b_int"], to=TensorProto.INT32),
        node("Reshape", ["b_int", "b_shape"], ["b_row"]),
        node("Add", ["product", "b_row"], ["sum"]),
        node("Cast", ["sum"], ["sum_float"], to=TensorProto.FLOAT),
        node("Mul", ["sum_float", "scale"], ["y"]),
    ]
    constants = {
        "w": rng.integers(-127, 128, (8, 6)).astype(np.int8),
        "w_scale": np.float32(0.01),
        "bias": values(6),
        "b_shape": np.asarray([1, 6]),
    }
    if static:
        constants |= {"x_scale": np.float32(0.03), "x_zero": np.asarray(120, np.uint8)}
    return model(nodes, inputs={"x": (1, 8)}, outputs={"y": (1, 6)}, constants=constants)


@pytest.mark.parametrize("static", [False, True])
def test_a_bias_in_integers_is_added_as_the_float_it_was(static: bool, tmp_path: Path) -> None:
    proto = integer_products(static=static)
    read = read_model(saved(proto, tmp_path), dequantize=True)
    assert list(read.sites) == ["fc"]
    expected = run_session(session_of(proto), {"x": X})[0]
    mine = run_session(session_of(to_onnx(read)), {"x": X})[0]
    assert np.abs(mine - expected).max() < 0.03 * np.abs(expected).max()


def test_a_quantised_recurrent_cell_is_computed_in_float32(tmp_path: Path) -> None:
    from onnxruntime import quantization

    nodes = [
        node("LSTM", ["x", "w", "r", "b"], ["h"], "cell", hidden_size=4),
        node("Reshape", ["h", "shape"], ["flat"]),
        node("MatMul", ["flat", "head"], ["y"], "head"),
    ]
    constants = {
        "w": values(1, 16, 8, seed=1),
        "r": values(1, 16, 4, seed=2),
        "b": values(1, 32, seed=3),
        "shape": np.asarray([3, 4]),
        "head": values(4, 5),
    }
    proto = model(nodes, inputs={"x": (3, 1, 8)}, outputs={"y": (3, 5)}, constants=constants)
    out = tmp_path / "quantised.onnx"
    quantization.quantize_dynamic(saved(proto, tmp_path), out, weight_type=quantization.QuantType.QInt8)
    assert "DynamicQuantizeLSTM" in {each.op_type for each in onnx.load(out).graph.node}
    read = read_model(out, dequantize=True)
    assert [item.reason for item in read.skipped] == ["gates of an LSTM"]
    x = values(3, 1, 8)
    expected = run_session(session_of(proto), {"x": x})[0]
    assert np.abs(run_session(session_of(to_onnx(read)), {"x": x})[0] - expected).max() < 0.05 * np.abs(expected).max()

"""Reading ONNX files: what is accepted, and one clear line for everything that is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from models.graphs import matmul_model, model, node, saved, values
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.errors import LrfDseError, ModelError, UsageError
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.readers.onnx_file import read_onnx


def refusal(path: Path, *, batch: int | None = None, kind: type[LrfDseError] = ModelError) -> str:
    """The message of the error that reading `path` gives: one line that names the file."""
    with pytest.raises(kind) as caught:
        read_model(path, batch=batch)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_reads_layers_specs_totals_and_hash(tmp_path: Path) -> None:
    path = saved(matmul_model(), tmp_path)
    read = read_model(path)
    (layer,) = read.fc_layers
    assert (layer.name, layer.in_features, layer.out_features, layer.batch) == ("fc", 6, 4, 1)
    assert [(s.name, s.shape, s.dtype) for s in (*read.inputs, *read.outputs)] == [
        ("x", (1, 6), "float32"),
        ("y", (1, 4), "float32"),
    ]
    assert (read.batch, read.total_macs, read.total_params) == (1, 24, 24)
    assert read.sha256 == read_model(path).sha256
    other = saved(matmul_model(values(6, 4, seed=1)), tmp_path, "other.onnx")
    assert read_model(other).sha256 != read.sha256


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an ONNX model"),
        (b"hello world, this is no model", "not an ONNX file"),
        (b"PK\x03\x04" + bytes(200), "not an ONNX"),
        (matmul_model().SerializeToString()[:-30], "truncated"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "not an ONNX model"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert words in refusal(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = matmul_model().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(data) - 1, 3):
        path.write_bytes(data[:length])
        refusal(path)


def test_damaged_bytes_never_leak_another_exception(tmp_path: Path) -> None:
    data = matmul_model().SerializeToString()
    rng = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    for _ in range(300):
        damaged = bytearray(data)
        for where in rng.integers(0, len(data), size=2):
            damaged[where] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(LrfDseError):
            read_model(path)


def test_paths_that_are_no_model_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.onnx")
    (tmp_path / "folder.onnx").mkdir()
    assert "not a regular file" in refusal(tmp_path / "folder.onnx")
    unknown = tmp_path / "model.xyz"
    unknown.write_bytes(b"x")
    message = refusal(unknown)
    assert "'.xyz'" in message
    assert ".onnx" in message


def test_a_file_over_2_gb_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31 + 1)  # sparse: takes no disk
    assert "over 2 GB" in refusal(path)


def test_a_file_that_fails_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = saved(matmul_model(), tmp_path)
    monkeypatch.setattr(Path, "read_bytes", broken)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(("opset", "words"), [(4, "opset 4"), (99, "opset 99")])
def test_unsupported_opset(tmp_path: Path, opset: int, words: str) -> None:
    message = refusal(saved(matmul_model(opset=opset), tmp_path))
    assert words in message
    assert "opset 5 to" in message


@pytest.mark.parametrize("opset", [*range(7, 13), *range(13, onnx.defs.onnx_opset_version() + 1)])
def test_every_opset_is_read_and_computes_the_same(tmp_path: Path, opset: int) -> None:
    axes = {"axes": [1]} if opset < 13 else {}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "fc", transB=1),
        node("Unsqueeze", ["h", *([] if axes else ["one"])], ["u"], "wide", **axes),
        node("Squeeze", ["u", *([] if axes else ["one"])], ["s"], "flat", **axes),
        node("MatMul", ["s", "v"], ["y"], "head"),
    ]
    constants = {"w": values(4, 6), "b": values(4), "v": values(4, 2)} | ({} if axes else {"one": np.array([1])})
    proto = model(nodes, inputs={"x": (3, 6)}, outputs={"y": (3, 2)}, constants=constants, opset=opset)
    read = read_model(saved(proto, tmp_path))
    assert [layer.name for layer in read.fc_layers] == ["fc", "head"]
    assert any(f"opset {opset} to" in note for note in read.notes) == (not 13 <= opset <= 26)
    x = values(3, 6)
    expected = (x @ values(4, 6).T + values(4)) @ values(4, 2)
    np.testing.assert_allclose(outputs(to_onnx(read), {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_no_opset_at_all(tmp_path: Path) -> None:
    proto = matmul_model()
    del proto.opset_import[:]
    assert "no ONNX opset" in refusal(saved(proto, tmp_path))


@pytest.mark.parametrize("ir_version", [3, 14])
def test_ir_versions_that_onnxruntime_would_refuse_are_read_and_run(tmp_path: Path, ir_version: int) -> None:
    proto = matmul_model()
    proto.ir_version = ir_version
    x = values(1, 6)
    read = read_model(saved(proto, tmp_path))
    np.testing.assert_allclose(outputs(to_onnx(read), {"x": x})["y"], x @ values(6, 4), rtol=1e-5)


def relu(*, inputs: dict[str, list[int]], outs: dict[str, list[int]], source: str = "x") -> onnx.ModelProto:
    return model([node("Relu", [source], ["y"])], inputs=inputs, outputs=outs)


def raw_weight(rows: int, columns: int, size: int, *, data_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    proto = matmul_model(in_shape=(1, abs(rows)), out_shape=(1, columns))
    weight = TensorProto(name="w", data_type=data_type, dims=[rows, columns], raw_data=bytes(size))
    proto.graph.initializer[0].CopyFrom(weight)
    return proto


def duplicate_initializer() -> onnx.ModelProto:
    proto = matmul_model()
    proto.graph.initializer.append(numpy_helper.from_array(values(6, 4, seed=1), "w"))
    return proto


BAD_GRAPHS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "undefined value": (lambda: relu(inputs={"x": [1]}, outs={"y": [1]}, source="q"), "'q'"),
    "unknown operator": (lambda: model([node("Foo", ["x"], ["y"])], inputs={"x": [1]}, outputs={"y": [1]}), "Foo"),
    "no output of that name": (lambda: relu(inputs={"x": [1]}, outs={"z": [1]}), "'z'"),
    "shapes that do not fit": (lambda: matmul_model(in_shape=(1, 7)), "Incompatible dimensions"),
    "wrong output shape": (lambda: matmul_model(out_shape=(1, 5)), "differ"),
    "no nodes": (lambda: model([], inputs={"x": [1]}, outputs={"x": [1]}), "no nodes"),
    "no inputs": (lambda: relu(inputs={}, outs={"y": [1]}), "no input"),
    "no outputs": (lambda: relu(inputs={"x": [1]}, outs={}), "no output"),
    "duplicate initializer": (duplicate_initializer, "'w'"),
    "too few bytes": (lambda: raw_weight(6, 4, 24 * 4 - 1), "'w'"),
    "too many bytes": (lambda: raw_weight(6, 4, 24 * 4 + 4), "'w'"),
    "too few bytes, large": (lambda: raw_weight(600, 400, 600 * 4), "'w'"),
    "too many bytes, large": (lambda: raw_weight(600, 400, 960_004), "'w'"),
    "negative size": (lambda: raw_weight(-6, 4, 96), "'w'"),
    "unknown type": (lambda: raw_weight(6, 4, 96, data_type=77), "'w'"),
    "empty input": (lambda: matmul_model(in_shape=(0, 6), out_shape=(0, 4)), "empty"),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_bad_graphs(tmp_path: Path, case: str) -> None:
    make, words = BAD_GRAPHS[case]
    assert words in refusal(saved(make(), tmp_path))


def test_no_fc_layer_says_what_was_passed_over(tmp_path: Path) -> None:
    assert "no FC layer" in refusal(saved(relu(inputs={"x": [1, 3]}, outs={"y": [1, 3]}), tmp_path))
    image = {"x": [1, 1, 8, 8]}
    constants = {"w": values(4, 1, 3, 3), "e": values(20, 3)}
    nodes = [node("Conv", ["x", "w"], ["y"], "stem")]
    message = refusal(saved(model(nodes, inputs=image, outputs={"y": [1, 4, 6, 6]}, constants=constants), tmp_path))
    assert "passed over e (62.5 % of the parameters): no operation uses this constant; stem (37.5 %" in message
    assert "a 3x3 convolution" in message


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_weights_of_other_widths_are_computed_in_float32(tmp_path: Path, kind: int) -> None:
    proto = matmul_model(in_shape=(2, 6), out_shape=(2, 4), input_type=kind, output_type=kind)
    stored = onnx.helper.make_tensor("w", kind, (6, 4), values(6, 4).ravel().tolist())
    proto.graph.initializer[0].CopyFrom(stored)
    read = read_model(saved(proto, tmp_path))
    assert [spec.dtype for spec in (*read.inputs, *read.outputs)] == ["float32", "float32"]
    assert "computed in float32" in read.notes[0]
    np.testing.assert_allclose(read.weights("fc")[0], values(6, 4).T, rtol=1e-2)


# The batch dimension


def test_a_dynamic_batch_must_be_given_and_is_then_fixed(tmp_path: Path) -> None:
    path = saved(matmul_model(in_shape=("N", 6), out_shape=("N", 4)), tmp_path)
    message = refusal(path)
    assert "'N'" in message
    assert "--batch" in message
    read = read_model(path, batch=3)
    assert (read.batch, read.fc_layers[0].batch) == (3, 3)
    assert (read.inputs[0].shape, read.outputs[0].shape) == ((3, 6), (3, 4))
    onnx.checker.check_model(to_onnx(read), full_check=True)
    x = values(3, 6)
    np.testing.assert_allclose(outputs(to_onnx(read), {"x": x})["y"], x @ values(6, 4), rtol=1e-5, atol=1e-6)


def test_the_batch_reaches_a_reshape_computed_from_the_input_shape(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Concat", ["s", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["flat"]),
        node("MatMul", ["flat", "w"], ["y"], "fc"),
    ]
    constants = {"w": values(6, 4), "rest": np.array([6], np.int64)}
    proto = model(nodes, inputs={"x": ("batch", 2, 3)}, outputs={"y": ("batch", 4)}, constants=constants)
    read = read_model(saved(proto, tmp_path), batch=2)
    assert read.fc_layers[0].batch == 2
    assert read.outputs[0].shape == (2, 4)


def test_other_dynamic_dimensions_are_errors_that_name_them(tmp_path: Path) -> None:
    path = saved(matmul_model(in_shape=("N", "tokens", 6), out_shape=("N", "tokens", 4)), tmp_path)
    message = refusal(path, batch=1)
    assert "'tokens'" in message
    assert "axis 1" in message


def test_inputs_with_different_dynamic_dimensions(tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["z"], ["b"])],
        inputs={"x": ("N", 6), "z": ("K", 6)},
        outputs={"a": ("N", 4), "b": ("K", 6)},
        constants={"w": values(6, 4)},
    )
    path = saved(proto, tmp_path)
    assert "--dim K=" in refusal(path, batch=1), "N is the batch by its name"
    read = read_model(path, batch=2, dims={"K": 3})
    assert [spec.shape for spec in read.inputs] == [(2, 6), (3, 6)]


def test_an_output_whose_shape_depends_on_the_data_is_refused(tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["h"]), node("NonZero", ["h"], ["y"])],
        inputs={"x": (1, 6)},
        outputs={"y": (2, "found")},
        constants={"w": values(6, 4)},
        output_type=TensorProto.INT64,
    )
    assert "'y'" in refusal(saved(proto, tmp_path))


def test_batch_arguments_that_contradict(tmp_path: Path) -> None:
    path = saved(matmul_model(in_shape=(2, 6), out_shape=(2, 4)), tmp_path)
    assert "fixed at 2" in refusal(path, batch=3, kind=UsageError)
    assert read_model(path, batch=2).batch == 2
    with pytest.raises(UsageError, match="at least 1, got 0"):
        read_model(path, batch=0)


def test_constants_listed_as_inputs_are_constants(tmp_path: Path) -> None:
    proto = matmul_model()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4]))
    read = read_model(saved(proto, tmp_path))
    assert [spec.name for spec in read.inputs] == ["x"]
    assert len(read.fc_layers) == 1


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    dense = helper.make_function("local", "Dense", ["a", "b"], ["c"], [node("MatMul", ["a", "b"], ["c"])], opsets[:1])
    proto = matmul_model()
    proto.graph.node[0].CopyFrom(helper.make_node("Dense", ["x", "w"], ["y"], domain="local"))
    proto = helper.make_model(proto.graph, functions=[dense], opset_imports=opsets, ir_version=8)
    assert [layer.out_features for layer in read_model(saved(proto, tmp_path)).fc_layers] == [4]


# External data


def external_model(folder: Path, location: str, *, offset: str | None = None, length: str | None = None) -> Path:
    """A model in `folder` whose weight is at `location`; the data file itself is not written."""
    proto = matmul_model()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    proto.graph.initializer[0].CopyFrom(tensor)
    return saved(proto, folder)


def test_external_data_is_read_and_hashed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "w.bin"
    file.write_bytes(bytes(8) + values(6, 4).tobytes())
    path = external_model(tmp_path, "data/w.bin", offset="8", length="96")
    read = read_model(path)
    np.testing.assert_array_equal(read.weights("fc")[0], values(6, 4).T)
    assert to_onnx(read).graph.initializer[0].data_location == TensorProto.DEFAULT
    file.write_bytes(bytes(8) + values(6, 4, seed=1).tobytes())
    assert read_model(path).sha256 != read.sha256
    np.testing.assert_array_equal(read.weights("fc")[0], values(6, 4).T)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(values(6, 4).tobytes())
    for location in ("../secret.bin", str(secret), "sub/../../secret.bin"):
        assert "outside the model's folder" in refusal(external_model(inner, location))
    (inner / "link.bin").symlink_to(secret)
    assert "outside the model's folder" in refusal(external_model(inner, "link.bin"))
    (inner / "up").symlink_to(tmp_path, target_is_directory=True)
    assert "outside the model's folder" in refusal(external_model(inner, "up/secret.bin"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"location": "missing.bin"}, "'missing.bin' is missing"),
        ({"location": ""}, "names no file"),
        ({"location": "a\0b"}, "names no file"),
        ({"location": "."}, "is missing"),
        ({"location": "w.bin", "offset": "-4"}, "offset '-4'"),
        ({"location": "w.bin", "offset": "x"}, "offset 'x'"),
        ({"location": "w.bin", "length": "1e3"}, "length '1e3'"),
        ({"location": "w.bin", "offset": "8", "length": "96"}, "wants bytes 8 to 104"),
        ({"location": "w.bin", "offset": "200"}, "starts at byte 200"),
        ({"location": "w.bin", "length": "92"}, "'w'"),
        ({"location": "w" * 5000}, "cannot be read"),
    ],
)
def test_external_data_that_is_not_there(tmp_path: Path, options: dict[str, str], words: str) -> None:
    (tmp_path / "w.bin").write_bytes(values(6, 4).tobytes())
    assert words in refusal(external_model(tmp_path, **options))


def test_external_data_over_2_gb_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(2**31)
    assert "over 2 GB" in refusal(external_model(tmp_path, "w.bin", length="96"))


def test_tensors_naming_the_same_bytes_count_each_time(tmp_path: Path) -> None:
    proto = matmul_model()
    for k in range(50):
        tensor = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=[25], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="w.bin")
        proto.graph.initializer.append(tensor)
    (tmp_path / "w.bin").write_bytes(bytes(100))
    path = saved(proto, tmp_path)
    assert read_model(path).fc_layers
    with pytest.raises(ModelError, match="over 2 GB"):
        read_onnx(path, max_bytes=path.stat().st_size + 1000)

"""Every kind of bad input through the real command: one line that says what, where and what to do, exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from explored import SIZES, Done, command, tiny_data, tiny_model, tiny_proto
from models.graphs import matmul_model, model, node, saved, values
from onnx import TensorProto

from lrf_dse.resources import data_dir
from lrf_dse.target import target_names


def assert_one_line(done: Done, *words: str) -> None:
    """`done` failed as it should, naming `words`."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
    for word in words:
        assert word in done.err, done.err


def missing(folder: Path) -> None:
    (folder / "tiny.onnx").unlink()


def is_a_folder(folder: Path) -> None:
    (folder / "tiny.onnx").unlink()
    (folder / "tiny.onnx").mkdir()


def not_onnx(folder: Path) -> None:
    (folder / "tiny.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))


def empty(folder: Path) -> None:
    (folder / "tiny.onnx").write_bytes(b"")


def truncated(folder: Path) -> None:
    data = (folder / "tiny.onnx").read_bytes()
    (folder / "tiny.onnx").write_bytes(data[: len(data) // 2])


def no_fc_layer(folder: Path) -> None:
    saved(model([node("Relu", ["x"], ["y"])], inputs={"x": (1, 4)}, outputs={"y": (1, 4)}), folder, "tiny.onnx")


def one_weight(value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weight = values(6, 4)
        weight[2, 3] = value
        saved(matmul_model(weight), folder, "tiny.onnx")

    return change


def all_zero(folder: Path) -> None:
    saved(matmul_model(np.zeros((6, 4), np.float32)), folder, "tiny.onnx")


def only_int8(folder: Path) -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"]), node("MatMul", ["x", "w"], ["y"], "fc")]
    constants = {"q": np.ones((6, 4), np.int8), "s": np.array(0.5, np.float32)}
    saved(model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 4)}, constants=constants), folder, "tiny.onnx")


def dynamic_batch(folder: Path) -> None:
    tiny_model(folder, batch="N")


def duplicate_names(folder: Path) -> None:
    proto = tiny_proto()
    proto.graph.initializer.append(proto.graph.initializer[0])
    saved(proto, folder, "tiny.onnx")


def old_opset(folder: Path) -> None:
    tiny_and_opset(folder, 4)


def unborn_opset(folder: Path) -> None:
    tiny_and_opset(folder, 99)


def tiny_and_opset(folder: Path, opset: int) -> None:
    proto = tiny_proto()
    proto.opset_import[0].version = opset
    saved(proto, folder, "tiny.onnx")


def over_2_gb(folder: Path) -> None:
    with (folder / "tiny.onnx").open("r+b") as stream:
        stream.truncate(2**31)  # a hole: no such space is used


def external_outside(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(values(6, 4).tobytes())
    inside = folder / "model"
    inside.mkdir()
    proto = matmul_model()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../secret.bin"))
    saved(proto, inside, "tiny.onnx")
    (folder / "tiny.onnx").unlink()
    (folder / "tiny.onnx").symlink_to(inside / "tiny.onnx")


MODELS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "missing file": (missing, ("no such file", "check the path")),
    "a folder": (is_a_folder, ("not a regular file",)),
    "not an ONNX file": (not_onnx, ("not an ONNX", "export")),
    "empty file": (empty, ("not an ONNX", "export")),
    "truncated protobuf": (truncated, ("truncated", "copy it again")),
    "no FC layer": (no_fc_layer, ("no FC layer",)),
    "NaN weight": (one_weight(np.nan), ("fc", "NaN")),
    "Inf weight": (one_weight(-np.inf), ("fc", "Inf")),
    "all-zero weights": (all_zero, ("fc", "zero")),
    "int8 weights only": (only_int8, ("fc", "INT8", "--dequantize")),
    "dynamic batch": (dynamic_batch, ("'x'", "'N'", "--batch 1")),
    "duplicate names": (duplicate_names, ("'w0'",)),
    "opset too old": (old_opset, ("opset 4", "opset 5 to")),
    "opset too new": (unborn_opset, ("opset 99", "opset 5 to")),
    "over 2 GB": (over_2_gb, ("2.1 GB", "not supported")),
    "external data outside the folder": (external_outside, ("../secret.bin", "outside", "refused")),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("name", ["layers", "explore"])
def test_bad_model(tiny: Path, case: str, name: str) -> None:
    change, words = MODELS[case]
    change(tiny)
    options = ["--target", "spacemit-k1", "-o", "run"] if name == "explore" else []
    assert_one_line(command(name, "tiny.onnx", *options), "tiny.onnx", *words)
    assert not (tiny / "run").exists(), "nothing was begun"


class Code:
    """Not plain data: numpy can only store it as a pickle."""


X = values(SIZES[0] * 2, SIZES[0], seed=3)
Y = np.arange(len(X)) % SIZES[-1]
DATA: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "x of another width": ({"x": X[:, 1:]}, ("x", "[128, 63]", "[n, 64]", "another model")),
    "one sample only, as a vector": ({"x": X[0]}, ("x", "[64]", "[n, 64]", "array[numpy.newaxis]")),
    "pixels as bytes": ({"x": np.ones((128, 64), np.uint8)}, ("x", "uint8", "float32")),
    "NaN in x": ({"x": np.where(np.arange(64) == 3, np.nan, X).astype(np.float32)}, ("x", "NaN", "sample 0")),
    "fewer labels": ({"y": Y[1:]}, ("y", "127", "128")),
    "one-hot labels": ({"y": np.eye(SIZES[-1])[Y]}, ("y", "argmax")),
    "labels out of range": ({"y": Y + 1}, ("label 8", "sample 7", "0 to 7")),
    "negative labels": ({"y": Y - 1}, ("label -1", "0 to 7")),
    "fractions as labels": ({"y": Y + 0.5}, ("y", "whole numbers")),
    "one class": ({"y": np.full(len(X), 5)}, ("all labels are 5",)),
    "no samples": ({"x": X[:0], "y": Y[:0]}, ("no samples",)),
    "one sample": ({"x": X[:1], "y": Y[:1]}, ("all labels are 0",)),
    "another key": ({"images": X}, ("images", "wanted are x")),
    "pickled objects": ({"y": np.array([Code() for _ in Y], dtype=object)}, ("pickled", "refused")),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data(tiny: Path, case: str) -> None:
    arrays, words = DATA[case]
    tiny_data(tiny, **({"x": X, "y": Y} | arrays))
    done = command("explore", "tiny.onnx", "--target", "spacemit-k1", "--data", "tiny.npz", "-o", "run")
    assert_one_line(done, "tiny.npz", *words)
    assert not (tiny / "run").exists(), "nothing was begun"


def test_wrong_keys_only(tiny: Path) -> None:
    np.savez(tiny / "keras.npz", x_train=X, y_train=Y)
    done = command("explore", "tiny.onnx", "--target", "spacemit-k1", "--data", "keras.npz")
    assert_one_line(done, "keras.npz", "x_train, y_train", "wanted are x")


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04 torn"], ids=["empty", "text", "torn"])
def test_data_that_is_no_npz(tiny: Path, content: bytes) -> None:
    (tiny / "tiny.npz").write_bytes(content)
    done = command("explore", "tiny.onnx", "--target", "spacemit-k1", "--data", "tiny.npz")
    assert_one_line(done, "tiny.npz", "numpy.savez")


USAGE: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no such data": (["--data", "no.npz"], ("no.npz", "no such file")),
    "data is a folder": (["--data", "."], ("no .npy files",)),
    "max-drop without data": (["--max-drop", "1"], ("--max-drop", "--data")),
    "a metric of labels without labels": (["--metric", "top5", "--data", "unlabelled.npz"], ("unlabelled.npz", "top5")),
    "unknown metric": (["--metric", "f1", "--data", "tiny.npz"], ("'f1'", "top1, top5", "module:function")),
    "a metric that is nowhere": (["--metric", "no_such:f", "--data", "tiny.npz"], ("no_such:f", "cannot be loaded")),
    "data from nowhere": (["--data", "no_such:f"], ("no_such:f", "cannot be loaded")),
    "calibration without data": (["--calibration", "tiny.npz"], ("--calibration", "--data")),
    "mse of labels": (["--metric", "mse", "--data", "tiny.npz"], ("tiny.npz", "mse", "[8]")),
    "max-drop below zero": (["--max-drop", "-1", "--data", "tiny.npz"], ("--max-drop", "-1")),
    "max-drop NaN": (["--max-drop", "nan", "--data", "tiny.npz"], ("--max-drop", "nan")),
    "max-drop infinite": (["--max-drop", "inf", "--data", "tiny.npz"], ("--max-drop", "inf")),
    "max-bytes below zero": (["--max-bytes", "-5"], ("--max-bytes", "-5")),
    "max-ram below zero": (["--max-ram", "-5"], ("--max-ram", "-5")),
    "top 0": (["--top", "0"], ("--top",)),
    "jobs 0": (["--jobs", "0"], ("--jobs",)),
    "seed below zero": (["--seed", "-1"], ("--seed", "-1")),
    "top is no number": (["--top", "many"], ("--top", "lrf-dse explore --help")),
    "unknown option": (["--fast"], ("--fast", "lrf-dse explore --help")),
    "batch of a fixed model": (["--batch", "4"], ("--batch 4", "fixed at 1")),
    "batch 0": (["--batch", "0"], ("batch", "0")),
    "unknown target": (["--target", "spacemit-k9"], ("'spacemit-k9'", ", ".join(target_names()))),
    "target file": (["--target", "mine.toml"], ("mine.toml", "core.cuont")),
    "target file that is no TOML": (["--target", "tiny.toml"], ("tiny.toml", "TOML")),
    "run folder is a file": (["-o", "tiny.npz"], ("tiny.npz", "choose another")),
    "run folder below a file": (["-o", "tiny.npz/run"], ("tiny.npz/run", "choose another")),
    # /proc lets nobody create a folder, not even root.
    "run folder where nobody may write": (["-o", "/proc/lrf-dse"], ("/proc/lrf-dse", "choose another")),
}


@pytest.mark.parametrize("case", USAGE)
def test_bad_arguments(tiny: Path, case: str) -> None:
    arguments, words = USAGE[case]
    np.savez(tiny / "unlabelled.npz", x=X)
    known = (data_dir("targets") / "qemu-rv64gcv.toml").read_text(encoding="utf-8")
    (tiny / "mine.toml").write_text(known.replace("count = 1", "count = 1\ncuont = 2"), encoding="utf-8")
    (tiny / "tiny.toml").write_bytes((tiny / "tiny.onnx").read_bytes())
    before = sorted(tiny.iterdir())
    assert_one_line(command("explore", "tiny.onnx", "--target", "spacemit-k1", *arguments), *words)
    assert sorted(tiny.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explore"], ("model", "lrf-dse explore --help")),
        (["explore", "tiny.onnx"], ("--target", "lrf-dse explore --help")),
        (["explode"], ("'explode'", "lrf-dse --help")),
        (["targets", "k9"], ("'k9'", "spacemit-k1")),
        (["report", "nowhere"], ("nowhere", "not a run folder")),
        (["report", "tiny.onnx"], ("tiny.onnx", "not a run folder")),
        (["export", "nowhere"], ("nowhere", "not a run folder")),
        (["layers", "tiny.npz"], ("tiny.npz", "'.npz'", ".onnx")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_command(tiny: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    assert (tiny / "tiny.onnx").exists()
    assert_one_line(command(*arguments), *words)


@pytest.mark.parametrize("out", [".", "mine"])
def test_a_folder_of_the_user_is_not_made_a_run(tiny: Path, out: str) -> None:
    """`-o` where a project's model.onnx lies, or any other file: nothing is written into it."""
    (tiny / "mine").mkdir()
    (tiny / "mine" / "model.onnx").write_bytes(b"trained for a week")
    before = {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    done = command("explore", "tiny.onnx", "--target", "spacemit-k1", "-o", out)
    assert_one_line(done, f"{out}: holds ", "no run folder")
    assert {path: path.read_bytes() for path in tiny.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("only_on_path")
def test_missing_qemu(tiny: Path) -> None:
    done = command("explore", "tiny.onnx", "--target", "spacemit-k1", "-o", "run")
    assert_one_line(done, "qemu-riscv64 not found", "qemu-user")
    assert not (tiny / "run").exists()


def test_what_is_no_layer_is_named_with_its_reason_and_share(tiny: Path) -> None:
    constants = {"v": values(6, 4), "q": np.ones((4, 4), np.int8), "s": np.array(0.5, np.float32)}
    nodes = [
        node("MatMul", ["x", "v"], ["a"], "single"),
        node("DequantizeLinear", ["q", "s"], ["w"]),
        node("MatMul", ["a", "w"], ["y"], "eighth"),
    ]
    saved(model(nodes, inputs={"x": (1, 6)}, outputs={"y": (1, 4)}, constants=constants), tiny, "mixed.onnx")
    done = command("layers", "mixed.onnx")
    assert (done.code, done.err) == (0, "")
    (line,) = (line for line in done.out.splitlines() if line.startswith("eighth"))
    assert "INT8" in line and "--dequantize" in line and line.endswith("17        41.5    16        40.0")
    assert any(line.startswith("single") for line in done.out.splitlines())
    assert "FC layers are 58.5 % of the parameters and 60.0 % of the multiply-adds" in done.out
    dequantised = command("layers", "mixed.onnx", "--dequantize")
    assert "Not explored" not in dequantised.out

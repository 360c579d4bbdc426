"""Files that other frameworks wrote, in these tests: what is read computes what the framework computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from explored import command
from models.graphs import values

from lrf_dse.errors import ModelError
from lrf_dse.models.evaluate import run_session, session_of
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.readers.archive import check_archive, check_hdf5

EXPORTS = """
import json, sys
import numpy as np
folder, x = sys.argv[1], np.load(sys.argv[2])
answers = {}
if sys.argv[3] == "tensorflow":
    import keras, tensorflow as tf
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((8,)), layers.Dense(16, activation="relu"), layers.Reshape((4, 4)),
        layers.Dense(6), layers.Flatten(), layers.Dense(3, activation="softmax"),
    ])
    answers["keras"] = model(x).numpy().tolist()
    model.save(folder + "/net.keras")
    model.save(folder + "/net.h5")
    model.export(folder + "/saved", verbose=False)
    convert = tf.lite.TFLiteConverter.from_saved_model(folder + "/saved")
    open(folder + "/net.tflite", "wb").write(convert.convert())
    class Streaming(tf.Module):
        def __init__(self):
            super().__init__()
            self.state = tf.Variable(tf.zeros((1, 8)))
        @tf.function(input_signature=[tf.TensorSpec((1, 8), tf.float32)])
        def __call__(self, x):
            return self.state.assign_add(x) @ tf.ones((8, 3))
    streaming = Streaming()
    convert = tf.lite.TFLiteConverter.from_concrete_functions([streaming.__call__.get_concrete_function()], streaming)
    convert.experimental_enable_resource_variables = True
    convert.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    open(folder + "/streaming.tflite", "wb").write(convert.convert())
    unsafe = keras.Sequential([layers.Input((8,)), layers.Lambda(lambda v: v * 2), layers.Dense(2)])
    unsafe.save(folder + "/unsafe.keras")
else:
    import skops.io, torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPRegressor
    torch.manual_seed(0)
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3)
            self.conv = torch.nn.Conv2d(4, 5, 1)
        def forward(self, x):
            h = self.norm(torch.nn.functional.gelu(self.a(x)))
            c = self.conv(h.reshape(-1, 4, 2, 2)).mean(dim=(1, 2, 3))
            return self.b(h) + c[:, None]
    net = Net().eval()
    answers["torch"] = net(torch.from_numpy(x)).tolist()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(net, (torch.from_numpy(x),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder + "/net.pt2")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 8)).astype(np.float32)
    network = MLPRegressor(hidden_layer_sizes=(12,), max_iter=60).fit(rows, rows @ rng.standard_normal((8, 2)))
    chooser = LogisticRegression(max_iter=60).fit(rows, (rows @ rng.standard_normal((8, 3))).argmax(1))
    skops.io.dump(network, folder + "/network.skops")
    skops.io.dump(chooser, folder + "/chooser.skops")
    answers |= {"network": network.predict(x).tolist(), "chooser": chooser.predict_proba(x).tolist()}
json.dump(answers, open(folder + "/" + sys.argv[3] + ".json", "w"))
"""

X = values(2, 8, seed=5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a file of each framework, written by the framework, and its own answers for X."""
    folder = tmp_path_factory.mktemp("exported")
    np.save(folder / "x.npy", X)
    for framework in ("tensorflow", "others"):
        subprocess.run(
            [sys.executable, "-c", EXPORTS, str(folder), str(folder / "x.npy"), framework],
            check=True,
            capture_output=True,
            timeout=300,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
    return folder


def answer(read: Model) -> np.ndarray:
    return np.asarray(run_session(session_of(to_onnx(read)), {read.inputs[0].name: X})[0])


@pytest.mark.parametrize(
    ("file", "key", "layers"),
    [
        ("net.keras", "keras", [(8, 16), (4, 6), (24, 3)]),
        ("net.h5", "keras", [(8, 16), (4, 6), (24, 3)]),
        ("saved", "keras", [(8, 16), (4, 6), (24, 3)]),
        ("net.tflite", "keras", [(8, 16), (4, 6), (24, 3)]),
        ("net.pt2", "torch", [(8, 16), (4, 5), (16, 3)]),
        ("network.skops", "network", [(8, 12), (12, 2)]),
        ("chooser.skops", "chooser", [(8, 3)]),
    ],
)
def test_a_file_computes_what_its_framework_computes(
    exported: Path, file: str, key: str, layers: list[tuple[int, int]]
) -> None:
    read = read_model(exported / file, batch=2)
    assert sorted((layer.in_features, layer.out_features) for layer in read.fc_layers) == sorted(layers)
    assert any(note.startswith("converted from") for note in read.notes)
    answers = json.loads(next(path for path in exported.glob("*.json") if key in path.read_text()).read_text())
    np.testing.assert_allclose(answer(read).reshape(np.shape(answers[key])), answers[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("file", ["net.keras", "net.pt2"])
def test_a_file_of_a_framework_becomes_a_verified_bundle(exported: Path, tmp_path: Path, file: str) -> None:
    tiny = ("--target", "spacemit-k1", "--top", 1, "--evaluations", 1, "--tune", 1, "--bits", "fp32")
    done = command("explore", exported / file, "--batch", 2, *tiny, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    done = command("export", tmp_path / "run", "--pick", "smallest", "-o", tmp_path / "bundle")
    assert done.code == 0, done.err
    assert "verified under QEMU against onnxruntime" in done.out


def test_code_in_a_file_is_not_run(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read as a Keras model") as caught:
        read_model(exported / "unsafe.keras", batch=2)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_state_of_its_own_says_so(exported: Path) -> None:
    with pytest.raises(ModelError, match="keeps a state from one inference to the next; export the model without"):
        read_model(exported / "streaming.tflite")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".gguf", ".pkl", ".joblib", ".pb", ".ort"])
def test_what_is_not_read_says_how_to_export_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"\x80\x04whatever")
    with pytest.raises(ModelError, match=rf"net{suffix}: {suffix} is not read: .*: "):
        read_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt2", ".skops"])
def test_a_damaged_file_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"not what its name says")
    with pytest.raises(ModelError, match="is not a valid") as caught:
        read_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_archives_have_limits_and_name_nothing_outside(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside", b"x")
    with pytest.raises(ModelError, match="outside the archive"):
        check_archive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(100 << 20))
    with pytest.raises(ModelError, match="unpacks to 100 MB"):
        check_archive(path)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(ModelError, match="lies in another file"):
        check_hdf5(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    with pytest.raises(ModelError, match="takes its data from another file"):
        check_hdf5(path)


def test_a_saved_model_with_a_link_out_of_it_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").symlink_to(exported / "saved" / "saved_model.pb")
    with pytest.raises(ModelError, match="link out of the folder"):
        read_model(folder)

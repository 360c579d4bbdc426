"""Small networks as each framework itself writes them, with its own answers. Run by benchmarks/frameworks.py.

    python benchmarks/kit/exports.py tensorflow|torch|scikit-learn|onnxruntime FOLDER

Each framework runs in a process of its own. FOLDER then holds the files, `<framework>.json` (a list of exports) and
NAME.npz with samples x and the framework's answers y for each network.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 80


class Exports:
    """Collects what one framework wrote into `folder`."""

    def __init__(self, framework: str, folder: Path) -> None:
        self.framework, self.folder = framework, folder
        self.rows: list[dict[str, Any]] = []

    def samples(self, *shape: int) -> Any:
        """Normal random numbers, the same in every process."""
        return np.random.default_rng(5).standard_normal((SAMPLES, *shape)).astype(np.float32)

    def answers(self, network: str, x: Any, y: Any) -> None:
        """Keep what the framework itself computes for `x`."""
        np.savez(self.folder / f"{self.framework}-{network}.npz", x=x, y=np.asarray(y, np.float32))

    def add(self, network: str, file: str, how: str, kind: str, *, there: int, opset: object = "", **more: Any) -> None:
        """One export: `there` FC layers are in `network`, whatever the file calls them."""
        row = {"framework": self.framework, "network": network, "file": file, "how": how, "format": kind}
        self.rows.append(row | {"opset": str(opset), "there": there, **more})

    def write(self) -> None:
        """The list, at the end."""
        (self.folder / f"{self.framework}.json").write_text(json.dumps(self.rows, indent=1))


def tensorflow(exports: Exports) -> None:
    """A dense network with one layer along the last axis, and a small mobile network, by Keras."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    layers, folder = keras.layers, exports.folder
    dense = keras.Sequential(
        [
            layers.Input((64,)),
            layers.Dense(96, activation="relu"),
            layers.Reshape((8, 12)),
            layers.Dense(16, activation="tanh"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    mobile = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(24, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    for name, model, shape, there in (("dense", dense, (64,), 3), ("mobile", mobile, (8, 8, 3), 2)):
        x = exports.samples(*shape)
        exports.answers(name, x, model(x))
        model.save(folder / f"{name}.keras")
        exports.add(name, f"{name}.keras", "Keras 3", ".keras", there=there)
        model.save(folder / f"{name}.h5")
        exports.add(name, f"{name}.h5", "Keras 3", ".h5", there=there)
        model.export(folder / f"{name}-saved", verbose=False)
        exports.add(name, f"{name}-saved", "Keras 3", "SavedModel", there=there)
        for suffix, optimise in (("", []), ("-int8", [tf.lite.Optimize.DEFAULT])):
            converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / f"{name}-saved"))
            converter.optimizations = optimise
            (folder / f"{name}{suffix}.tflite").write_bytes(converter.convert())
            kind = ".tflite, int8 weights" if suffix else ".tflite"
            exports.add(name, f"{name}{suffix}.tflite", "TFLiteConverter", kind, there=there, dequantize=bool(suffix))
    for opset in (13, 18):
        dense.export(folder / f"tf{opset}.onnx", format="onnx", verbose=False, opset_version=opset)
        exports.add("dense", f"tf{opset}.onnx", "tf2onnx", ".onnx", there=3, opset=opset)


def torch(exports: Exports) -> None:
    """A perceptron with a 1x1 convolution, and a transformer's encoder layer, by each of torch's exporters."""
    import torch

    class Perceptron(torch.nn.Module):  # type: ignore[misc] # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = torch.nn.Linear(64, 96), torch.nn.LayerNorm(96)
            self.conv, self.last = torch.nn.Conv2d(6, 12, 1), torch.nn.Linear(192, 10)

        def forward(self, x: Any) -> Any:
            h = self.norm(torch.nn.functional.gelu(self.first(x)))
            return self.last(torch.relu(self.conv(h.reshape(-1, 6, 4, 4))).flatten(1))

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
            self.head = torch.nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x).mean(1))

    torch.manual_seed(0)
    for name, model, shape, there in (("dense", Perceptron(), (64,), 3), ("encoder", Encoder(), (6, 32), 5)):
        model.eval()
        x = exports.samples(*shape)
        with torch.no_grad():
            exports.answers(name, x, model(torch.from_numpy(x)))
        example, folder = (torch.from_numpy(x[:1]),), exports.folder
        torch.export.save(torch.export.export(model, example), folder / f"{name}.pt2")
        exports.add(name, f"{name}.pt2", "torch.export", ".pt2", there=there)
        for opset in (11 if name == "dense" else 14, 17):  # the oldest that each can be written in
            path = folder / f"{name}-script{opset}.onnx"
            torch.onnx.export(model, example, str(path), dynamo=False, opset_version=opset)
            exports.add(name, path.name, "torch.onnx, TorchScript", ".onnx", there=there, opset=opset)
        for opset in (18, 22):
            path = folder / f"{name}-dynamo{opset}.onnx"
            torch.onnx.export(model, example, str(path), dynamo=True, opset_version=opset, verbose=False)
            exports.add(name, path.name, "torch.onnx, dynamo", ".onnx with data", there=there, opset=opset)


def scikit_learn(exports: Exports) -> None:
    """Networks and a linear model, alone and behind a scaler, by skops and skl2onnx."""
    import skops.io
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng, x, folder = np.random.default_rng(0), exports.samples(64), exports.folder
    target = x @ rng.standard_normal((64, 4))
    settings = {"hidden_layer_sizes": (48,), "max_iter": 30, "random_state": 0}
    # Of several targets skl2onnx makes one column, which is no sample each.
    regressor = MLPRegressor(**settings).fit(x, target[:, 0])
    classifier = make_pipeline(StandardScaler(), MLPClassifier(**settings)).fit(x, target.argmax(1))
    linear = LogisticRegression(max_iter=30).fit(x, target.argmax(1))
    for name, model, there in (("regressor", regressor, 2), ("classifier", classifier, 2), ("linear", linear, 1)):
        is_regressor = name == "regressor"
        exports.answers(name, x, model.predict(x) if is_regressor else model.predict_proba(x))
        skops.io.dump(model, folder / f"{name}.skops")
        exports.add(name, f"{name}.skops", "skops", ".skops", there=there)
        for opset in (12, 21):
            proto = to_onnx(model, x[:1], target_opset={"": opset, "ai.onnx.ml": 3})
            (folder / f"{name}-{opset}.onnx").write_bytes(proto.SerializeToString())
            how = "skl2onnx" if is_regressor else "skl2onnx, ZipMap"
            exports.add(name, f"{name}-{opset}.onnx", how, ".onnx", there=there, opset=opset)


def onnxruntime(exports: Exports) -> None:
    """What onnxruntime's optimiser and its quantisers make of torch's files, which are in the folder already."""
    import onnxruntime
    from onnxruntime import quantization

    folder = exports.folder
    for network, there in (("dense", 3), ("encoder", 5)):
        source = folder / f"{network}-script17.onnx"
        data = np.load(folder / f"torch-{network}.npz")
        exports.answers(network, data["x"], data["y"])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(folder / f"{network}-optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        exports.add(network, f"{network}-optimised.onnx", "optimiser, extended", ".onnx", there=there, opset=17)
        int8 = quantization.QuantType.QInt8
        out = folder / f"{network}-dynamic.onnx"
        quantization.quantize_dynamic(source, out, weight_type=int8)
        exports.add(network, out.name, "quantize_dynamic", ".onnx, int8", there=there, opset=17, dequantize=True)
        for form in ("QDQ", "QOperator"):
            out = folder / f"{network}-{form}.onnx"
            reader = _Reader(data["x"], onnxruntime.InferenceSession(str(source)).get_inputs()[0].name)
            kind = getattr(quantization.QuantFormat, form)
            quantization.quantize_static(source, out, reader, quant_format=kind, weight_type=int8)
            how = f"quantize_static, {form}"
            exports.add(network, out.name, how, ".onnx, int8", there=there, opset=17, dequantize=True)


class _Reader:
    """Samples for onnxruntime's static quantiser."""

    def __init__(self, x: Any, name: str) -> None:
        self.left = [{name: row[None]} for row in x]

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop() if self.left else None


FRAMEWORKS: dict[str, Callable[[Exports], None]] = {
    "tensorflow": tensorflow,
    "torch": torch,
    "scikit-learn": scikit_learn,
    "onnxruntime": onnxruntime,
}

if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    made = Exports(sys.argv[1], Path(sys.argv[2]))
    FRAMEWORKS[sys.argv[1]](made)
    made.write()

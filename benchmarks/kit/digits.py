"""A small network on scikit-learn's digits (1,797 images of 8 x 8): trained here in seconds, with a fixed seed.

64 -> 256 -> 128 -> 10 with rectifiers. Every third digit is kept from training, to judge with; fits see a part of the
others.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SEED, WIDTHS, EPOCHS, CALIBRATION, OPSET = 0, (64, 256, 128, 10), 60, 600, 17


def write_digits(folder: Path) -> float:
    """Write model.onnx, calibration.npz and validation.npz into `folder`; the accuracy on what judges, in percent."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), labels.astype(np.int64)
    judging = np.arange(len(x)) % 3 == 0
    network = MLPClassifier(WIDTHS[1:-1], max_iter=EPOCHS, random_state=SEED, tol=0.0, n_iter_no_change=EPOCHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so many epochs and no more are meant
        network.fit(x[~judging], y[~judging])
    onnx.save_model(_to_onnx(network.coefs_, network.intercepts_), folder / "model.onnx")
    np.savez_compressed(folder / "calibration.npz", x=x[~judging][:CALIBRATION], y=y[~judging][:CALIBRATION])
    np.savez_compressed(folder / "validation.npz", x=x[judging], y=y[judging])
    return float(100 * network.score(x[judging], y[judging]))


def _to_onnx(weights: list[NDArray[np.float32]], biases: list[NDArray[np.float32]]) -> onnx.ModelProto:
    nodes, constants, value = [], [], "pixels"
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        names = [f"fc{k}.weight", f"fc{k}.bias"]
        constants += [
            numpy_helper.from_array(a.astype(np.float32), n) for a, n in zip((weight, bias), names, strict=True)
        ]
        last = k == len(weights)
        nodes.append(helper.make_node("Gemm", [value, *names], ["logits" if last else f"fc{k}.out"], f"fc{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"fc{k}.out"], [f"relu{k}.out"], f"relu{k}"))
        value = f"relu{k}.out"
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, WIDTHS[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, WIDTHS[-1]])],
        constants,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))
    onnx.checker.check_model(model, full_check=True)
    return model

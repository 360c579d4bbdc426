"""The token and regression examples are what their READMEs say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = EXAMPLES / "lenet300" / "mnist10k.npz"


def _validation(name: str) -> tuple[onnx.ModelProto, NDArray[np.float32], NDArray[np.generic]]:
    model = read_model(EXAMPLES / name / "model.onnx")
    with np.load(EXAMPLES / name / "validation.npz") as data:
        return to_onnx(model), data["x"], data["y"]


def _said(name: str, pattern: str) -> float:
    found = re.search(pattern, (EXAMPLES / name / "README.md").read_text())
    assert found is not None
    return float(found.group(1))


def test_token_layers() -> None:
    model = read_model(EXAMPLES / "patches" / "model.onnx")
    assert len(model.fc_layers) == 14
    assert {layer.batch for layer in model.fc_layers[:-1]} == {16}
    sizes = {layer.name: (layer.in_features, layer.out_features) for layer in model.fc_layers}
    assert (sizes["b0.up"], sizes["b1.down"]) == ((96, 384), (384, 96))
    assert model.total_params == 231_179


def test_patches_accuracy_is_what_the_readme_says() -> None:
    model, x, y = _validation("patches")
    logits = outputs(model, {"tokens": x})["logits"]
    accuracy = 100 * np.mean(logits.argmax(axis=1) == y)
    assert abs(accuracy - _said("patches", r"Accuracy: ([0-9.]+) %")) < 0.06


def test_patches_are_the_held_out_digits() -> None:
    _, x, y = _validation("patches")
    with np.load(DIGITS) as digits:
        image = digits["images"][8000].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(y, digits["labels"][8000:])
    np.testing.assert_array_equal(x[0, 5], image[7:14, 7:14].ravel())


def test_inpaint_error_is_what_the_readme_says() -> None:
    model, x, y = _validation("inpaint")
    restored = outputs(model, {"damaged": x})["restored"]
    error = float(np.mean((restored - y) ** 2))
    assert abs(error - _said("inpaint", r"error ([0-9.]+) on the")) < 6e-5
    assert error < 0.5 * float(np.mean((x - y) ** 2))


def test_inpaint_shows_whole_digits_damaged() -> None:
    _, x, y = _validation("inpaint")
    with np.load(DIGITS) as digits:
        whole = digits["images"][8000:].reshape(2000, 784).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(y, whole)
    lost = (x != y).reshape(-1, 28, 28)
    assert lost.any(axis=1).sum(axis=1).max() <= 10
    assert lost.any(axis=2).sum(axis=1).max() <= 10
    assert lost.any(axis=(1, 2)).mean() > 0.99

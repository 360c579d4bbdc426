"""The bundled example is what its README says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lrf_dse.models.data import few_rows, load_data
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.model import Model, to_onnx
from lrf_dse.models.reader import read_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "lenet300"


@pytest.fixture(scope="module")
def lenet() -> Model:
    return read_model(EXAMPLE / "model.onnx")


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lenet300_train", EXAMPLE / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layers(lenet: Model) -> None:
    sizes = [(layer.name, layer.in_features, layer.out_features, layer.batch) for layer in lenet.fc_layers]
    assert sizes == [("fc1", 784, 300, 1), ("fc2", 300, 100, 1), ("fc3", 100, 10, 1)]
    assert (lenet.total_macs, lenet.total_params) == (266_200, 266_610)


def test_accuracy_is_what_the_readme_says(lenet: Model) -> None:
    data = load_data(EXAMPLE / "validation.npz", lenet)
    output = first_output(to_onnx(lenet), data)
    accuracy = data.metric.shares(output, data.y, output).value
    said = re.search(r"Accuracy: ([0-9.]+) %", (EXAMPLE / "README.md").read_text())
    assert said is not None
    assert (data.samples, data.metric.name) == (2000, "top1")
    assert accuracy >= 97.0
    assert abs(accuracy - float(said.group(1))) < 0.06


def test_data_is_held_out(lenet: Model, train: ModuleType) -> None:
    """Validation digits are the last 2,000; calibration digits are among the first 8,000."""
    images, labels = train.load_digits(EXAMPLE / "mnist10k.npz")
    flat = images.reshape(len(images), -1)
    validation = load_data(EXAMPLE / "validation.npz", lenet)
    np.testing.assert_array_equal(validation.x["pixels"], flat[8000:])
    np.testing.assert_array_equal(validation.y, labels[8000:])
    calibration = load_data(EXAMPLE / "calibration.npz", lenet)
    assert (calibration.samples, few_rows(calibration, lenet)) == (2000, ())
    known = {image.tobytes() for image in flat[:8000]}
    assert all(image.tobytes() in known for image in calibration.x["pixels"])


def test_shifting_moves_digits_without_changing_them(train: ModuleType) -> None:
    images = np.zeros((50, 28, 28), np.float32)
    images[:, 10:15, 12:16] = np.arange(1, 21, dtype=np.float32).reshape(5, 4)
    moved = train.shifted(images, np.random.default_rng(0))
    assert moved.shape == images.shape
    corners = {tuple(np.argwhere(image == 1)[0]) for image in moved}
    assert all(8 <= row <= 12 and 10 <= column <= 14 for row, column in corners)
    assert len(corners) > 10
    np.testing.assert_array_equal(moved.sum(axis=(1, 2)), images.sum(axis=(1, 2)))

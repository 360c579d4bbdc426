"""The models that explorations are timed on are what their page says, and the page shows what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.exploration_time import HEAD_INPUTS, HEAD_SAMPLES, convolution, head, page
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model


def test_the_head_has_the_layers_and_samples_of_the_goal(tmp_path: Path) -> None:
    path, _, data, *_ = head(tmp_path)
    model = read_model(Path(path))
    assert [(layer.in_features, layer.out_features) for layer in model.fc_layers] == [(HEAD_INPUTS, 128), (128, 10)]
    with np.load(data) as arrays:
        x = arrays["x"]
    assert x.shape == (HEAD_SAMPLES, HEAD_INPUTS)
    answers = outputs(to_onnx(model), {"x": x})["y"].argmax(axis=1)
    assert len(np.unique(answers)) > 3, "samples differ in their answers"


def test_the_convolution_is_most_of_the_work_and_little_of_the_weights(tmp_path: Path) -> None:
    path, *_ = convolution(tmp_path)
    model = read_model(Path(path))
    macs = sum(layer.in_features * layer.out_features for layer in model.fc_layers)
    assert 2.5e6 < Path(path).stat().st_size < 3.5e6
    assert model.total_macs > 3e8 > 100 * macs


def test_the_page_has_a_column_for_each_time(tmp_path: Path) -> None:
    figures = {"cpu_s": 100.4, "wall_s": 60.0, "stages": {"fit": 60.0, "rest": 40.4}, "cycles": 5000.0, "drop": 0.5}
    text = page({"demo": {"before": {**figures, "cpu_s": 400.0, "stages": {}}, "after": figures}})
    assert "| demo | 150 | 400 | 100 |" in text
    assert "| fit | - | 60.0 |" in text
    assert "compile" not in text, "a stage that took nothing is left out"

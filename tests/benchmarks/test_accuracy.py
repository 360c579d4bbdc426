"""What is compared fits its layers and its bytes, and the page shows every figure."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.kit.accuracy import FAMILIES, best_within, layer_options, shapes_of
from benchmarks.kit.accuracy_page import page, plot
from lrf_dse.cost.counts import parameters
from lrf_dse.plan.options import LayerOption
from lrf_dse.schema import FcLayer, dense_candidate

LAYER = dense_candidate(FcLayer("fc", 8, 8, 1, True))
OPTIONS = st.lists(
    st.builds(LayerOption, st.just(LAYER), st.just(0.0), st.integers(1, 60), st.just(0), st.floats(0, 1, width=16)),
    min_size=1,
    max_size=5,
)


@given(st.lists(OPTIONS, min_size=1, max_size=3), st.integers(1, 150))
def test_the_best_within_the_bytes_is_the_best_there_is(layers: list[list[LayerOption]], budget: int) -> None:
    chosen = best_within(layers, budget)
    fitting = [c for c in product(*layers) if sum(o.flash_bytes for o in c) <= budget]
    assert (chosen is None) == (not fitting)
    if chosen is not None:
        assert chosen.flash_bytes <= budget
        assert chosen.loss == pytest.approx(min(sum(o.loss for o in c) for c in fitting))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_shapes_multiply_to_the_layer_and_are_smaller(depth: int) -> None:
    shapes = shapes_of(FcLayer("fc1", 784, 300, 1, True), depth)  # type: ignore[arg-type]
    assert len(shapes) >= 5
    assert len(set(shapes)) == len(shapes)
    for shape in shapes:
        assert (shape.in_features, shape.out_features) == (784, 300)
        assert parameters(shape) < 784 * 300
        assert shape.is_low_rank == (depth == 1)


def test_the_page_shows_every_figure(tmp_path: Path) -> None:
    row = {
        "example": "lenet300", "family": "SVD", "asked": 8, "ratio": 8.2, "sequential": False, "predicted": 0.8,
        "validation": 1.1, "test": 1.25, "test_low": 0.5, "test_high": 2.0, "choices": ["low rank 16"],
    }  # fmt: skip
    tuned = {"before": 1.25, "test": -0.125, "test_low": -0.5, "test_high": 0.25, "best_epoch": 3}
    figures = {
        "dense": [{"example": "lenet300", "value": 97.5, "samples": 1000}],
        "rows": [row], "selected": [row | {"ratio": 16.3}], "alone": [row],
        "finetuned": [row | tuned], "control": [{"example": "lenet300"} | tuned],
    }  # fmt: skip
    fits = [
        {"layer": "8x8", "shape": "low rank 2", "method": "t3f", "failed": "more than 5 s"},
        {
            "layer": "8x8", "shape": "low rank 2", "method": "als", "seconds": 1.5, "bytes": 3 << 20,
            "weight_error": 0.25, "output_error": 0.125,
        },
    ]  # fmt: skip
    text = page(figures, fits)
    for words in (
        "Drop in points of top-1 on the test part, 1,000 samples, where the dense network has 97.50 %.",
        "| SVD | 1.25 [0.50, 2.00] |",
        "| **selected** | **1.25 [0.50, 2.00]** (x16) |",  # more than the x8 that was asked for
        "| SVD | low rank 16 | 1.25 [0.50, 2.00] |",
        "| lenet300 | x8.2 | SVD | 1.25 | -0.12 [-0.50, 0.25] | 3 |",
        "| lenet300 | up to 1 | 1 | 0.80 | 1.10 | 1.25 |",
        "| 8x8 | low rank 2 | t3f TT-SVD | more than 5 s | - | - | - |",
        "| 8x8 | low rank 2 | TT-ALS | 1.5 s | 3 MB | 0.2500 | 0.1250 |",
    ):
        assert words in text
    plot(figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_regression_is_told_in_percent_of_its_dense_error() -> None:
    row = {"example": "inpaint", "family": "SVD", "asked": 8, "ratio": 8.2, "sequential": False, "choices": ["dense"]}
    rows = [
        row | {"predicted": p, "validation": p / 2, "test": p / 4, "test_low": 0.0, "test_high": p} for p in (60, 900)
    ]
    dense = {"example": "inpaint", "value": 0.016, "samples": 1000, "untouched": 0.0351}
    text = page({"dense": [dense], "rows": rows, "selected": rows[:1], "alone": [], "finetuned": [], "control": []}, [])
    for words in (
        "has 0.0160\n(pixels in 0..1), a drop of 25 is an error of 0.0200 and a drop of 100 one of 0.0320.",
        "0.0351 off, a drop of 119:",
        "| **selected** | **15.0 [0.0, 60.0]** |",
        "| inpaint | up to 100 | 1 | 60.00 | 30.00 | 15.00 |",
        "| inpaint | above 500 | 1 | 900.00 | 450.00 | 225.00 |",
    ):
        assert words in text


def test_options_of_a_layer() -> None:
    layer = FcLayer("fc", 24, 16, 1, has_bias=False)
    centred = next(family for family in FAMILIES if family.method == "whitened_centred")
    dense, *others = layer_options(layer, centred, lambda candidate: 0.5)
    assert dense.candidate.is_dense and dense.loss == 0.0 and others
    assert {option.candidate.decomposer for option in others} == {"whitened"}, "nothing to centre without a bias"
    assert {option.loss for option in others} == {0.25}

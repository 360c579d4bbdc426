"""Metrics against plain loops, the drop from the dense model, and the interval of a paired bootstrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.graphs import values
from numpy.typing import NDArray

from lrf_dse.errors import DataError, UsageError
from lrf_dse.models.metrics import (
    METRICS,
    Scores,
    class_axis,
    custom_metric,
    default_metric,
    dense_scale,
    drop_between,
    get_metric,
    why_unfit,
)
from lrf_dse.models.targets import load_metric

OUTPUT = values(40, 7)
LABELS = np.arange(40) % 7


def value(name: str, output: NDArray[Any], y: NDArray[Any] | None, dense: NDArray[Any] | None = None) -> float:
    return METRICS[name].shares(output, y, output if dense is None else dense).value


def test_top_k_is_that_of_a_sort() -> None:
    ranks = [
        int(np.flatnonzero(np.argsort(-row, kind="stable") == y)[0]) for row, y in zip(OUTPUT, LABELS, strict=True)
    ]
    assert value("top1", OUTPUT, LABELS) == pytest.approx(100 * np.mean([rank < 1 for rank in ranks]))
    assert value("top5", OUTPUT, LABELS) == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))
    assert value("top1", np.zeros((40, 7)), LABELS) == pytest.approx(100 * np.mean(LABELS == 0)), "as argmax has it"


def test_scores_with_axes_of_one() -> None:
    assert value("top1", OUTPUT[:, :, None, None], LABELS) == value("top1", OUTPUT, LABELS)


def test_balanced_counts_every_class_alike() -> None:
    labels = np.array([0] * 30 + [1] * 8 + [2] * 2)
    right = OUTPUT.argmax(axis=1) == labels
    expected = 100 * np.mean([right[labels == k].mean() for k in range(3)])
    assert value("balanced", OUTPUT, labels) == pytest.approx(expected)


def test_tokens_and_padding() -> None:
    output, labels = values(6, 5, 4), np.arange(30).reshape(6, 5) % 4
    labels[2, 3:] = labels[5] = -1
    counted = labels >= 0
    expected = 100 * np.mean((output.argmax(axis=2) == labels)[counted])
    assert value("top1", output, labels) == pytest.approx(expected)
    assert value("top1", np.moveaxis(output, 2, 1), labels) == pytest.approx(expected), "classes on another axis"
    dense = values(6, 5, 4, seed=1)
    same = output.argmax(axis=2) == dense.argmax(axis=2)
    assert value("agreement", output, None, dense) == pytest.approx(100 * same.mean())


@pytest.mark.parametrize(
    ("output", "labels", "axis"),
    [
        ((9, 4), (9,), 1),
        ((9, 4, 1, 1), (9,), 1),
        ((9, 5, 4), (9, 5), 2),
        ((9, 4, 5), (9, 5), 1),
        ((9, 4, 4), (9, 4), 2),
        ((9, 5, 4), (9,), None),
        ((9, 5, 4), None, 2),
        ((9, 4, 1), None, 1),
        ((9, 1), None, None),
    ],
)
def test_class_axis(output: tuple[int, ...], labels: tuple[int, ...] | None, axis: int | None) -> None:
    assert class_axis(output, labels) == axis


def test_mse_and_cosine() -> None:
    wanted = values(40, 7, seed=2)
    assert value("mse", OUTPUT, wanted) == pytest.approx(float(np.mean((OUTPUT - wanted) ** 2)))
    assert value("mse", OUTPUT, None) == 0
    cosines = [row @ y / np.linalg.norm(row) / np.linalg.norm(y) for row, y in zip(OUTPUT, wanted, strict=True)]
    assert value("cosine", OUTPUT, wanted) == pytest.approx(100 * float(np.mean(cosines)), rel=1e-4)
    assert value("cosine", 3 * OUTPUT, None, OUTPUT) == pytest.approx(100)


def test_drops_are_points_or_relative() -> None:
    def drop(name: str, output: NDArray[Any], y: NDArray[Any] | None) -> float:
        metric = METRICS[name]
        dense, other = (metric.shares(o, y, OUTPUT) for o in (OUTPUT, output))
        return drop_between(dense, other, metric, seed=0, scale=dense_scale(metric, y, OUTPUT)).value

    y, noisy = OUTPUT + np.float32(0.1), OUTPUT + np.float32(0.2)
    assert drop("top1", np.roll(OUTPUT, 1, axis=1), OUTPUT.argmax(axis=1)) == pytest.approx(100)
    assert drop("mse", OUTPUT - np.float32(0.1), y) == pytest.approx(300, rel=1e-4), "four times the error"
    assert drop("mse", noisy, None) == pytest.approx(100 * 0.04 / float(OUTPUT.var()), rel=1e-3)
    assert drop("cosine", -OUTPUT, None) == pytest.approx(200)


def test_an_interval_of_the_same_model_is_empty_and_one_of_noise_covers() -> None:
    random = np.random.default_rng(0)
    possible = np.ones(400)
    dense = Scores(100.0 * (random.random(400) < 0.9), possible)
    same = drop_between(dense, dense, METRICS["top1"], seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    covered = 0
    for trial in range(60):
        truth = np.random.default_rng(trial).random(400)
        other = Scores(100.0 * (truth < 0.85), possible)
        found = drop_between(Scores(100.0 * (truth < 0.9), possible), other, METRICS["top1"], seed=trial)
        assert found.low <= found.value <= found.high
        covered += found.low <= 5.0 <= found.high
    assert covered >= 52, "95% intervals of 60 draws"


def test_the_interval_is_paired_seeded_and_the_same_for_many_samples() -> None:
    truth = np.random.default_rng(1).random(20_000)
    dense, other = (Scores(100.0 * (truth < share), np.ones(20_000)) for share in (0.9, 0.89))
    found = drop_between(dense, other, METRICS["top1"], seed=0)
    assert found == drop_between(dense, other, METRICS["top1"], seed=0)
    expected = 196 * np.sqrt(0.01 * 0.99 / 20_000)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.15), "only the pairs that differ count"


def test_what_a_metric_needs() -> None:
    with pytest.raises(DataError, match="there are no labels y"):
        value("top1", OUTPUT, None)
    with pytest.raises(DataError, match=r"\[2, 7\] per sample"):
        value("top1", values(40, 2, 7), LABELS)
    with pytest.raises(DataError, match="number by number"):
        value("mse", OUTPUT, values(40, 6))
    with pytest.raises(UsageError, match="unknown metric 'f1': use one of top1, top5, .* module:function"):
        get_metric("f1")


def test_a_metric_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def mine(output, y):\n    return output[:, 0] * {}\ndef bad(output, y):\n    return 1\n"
    (tmp_path / "metric_of_mine.py").write_text(source.format(1), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    metric = load_metric("metric_of_mine:mine")
    shares = metric.shares(OUTPUT, None, OUTPUT)
    assert shares.value == pytest.approx(float(OUTPUT[:, 0].mean()), rel=1e-4)
    assert drop_between(shares, Scores(shares.gained - 2, shares.possible), metric, seed=0).value == pytest.approx(2)
    assert metric.version != custom_metric(metric.name, lambda output, _: output[:, 0], source="other").version
    with pytest.raises(DataError, match="wanted is one number a sample"):
        load_metric("metric_of_mine:bad").shares(OUTPUT, None, OUTPUT)
    with pytest.raises(DataError, match="cannot be loaded"):
        load_metric("metric_of_mine:none")
    with pytest.raises(UsageError, match="unknown metric"):
        load_metric("f1")


def test_agreement_of_integers_and_truth_values_is_equality() -> None:
    dense = np.arange(12).reshape(4, 3)
    other = dense.copy()
    other[0, 0] += 1
    assert value("agreement", other, None, dense) == pytest.approx(100 * 11 / 12)
    assert value("agreement", other > 5, None, dense > 5) == 100.0
    assert default_metric(None, (3,), kind="i") == default_metric(LABELS, (1,), kind="b") == "agreement"
    assert "no number" in (why_unfit(METRICS["mse"], (3,), kind="O") or "")
    assert "no scores of classes" in (why_unfit(METRICS["top1"], (3,), kind="i") or "")


def test_a_metric_of_one_s_own_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_metric.py").write_text("def mine(output, y):\n    return output[y]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="failing_metric:mine: raised IndexError: "):
        load_metric("failing_metric:mine").shares(OUTPUT, np.array([99]), OUTPUT)

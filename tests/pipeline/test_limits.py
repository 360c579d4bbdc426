"""Limits and objectives as a user gives them: from text to what plans are held to, and what is refused at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lrf_dse
from lrf_dse.errors import UsageError
from lrf_dse.pipeline.limits import with_latency_limit
from lrf_dse.pipeline.settings import ExploreSettings, settings_from
from lrf_dse.plan.budgets import Budgets
from lrf_dse.runners.board import Board
from lrf_dse.target import load_target
from lrf_dse.units import Latency

K1 = load_target("spacemit-k1")
NO_CLOCK = K1.model_copy(update={"core": K1.core.model_copy(update={"freq_hz": None})})
COUNTED = load_target("qemu-rv64gcv")


def settings(**arguments: Any) -> ExploreSettings:
    return settings_from(model="model.onnx", target="spacemit-k1", out=None, **arguments)


def test_arguments_become_settings() -> None:
    found = settings(
        data="data.npz", calibration=None, max_drop=1.0, max_flash_bytes="200KiB", max_ram_bytes=65536,
        max_latency="5ms", objective="bytes", top=None, tune=3,
    )  # fmt: skip
    assert found.budgets == Budgets(1.0, 204_800, 65_536)
    assert (found.max_latency, found.objective, found.pick) == (Latency(0.005, "s"), "bytes", "smallest")
    assert (found.data, found.calibration, found.tune) == (Path("data.npz"), None, 3)
    assert found.top == ExploreSettings.top and found.out == Path("reports/model-spacemit-k1")


@pytest.mark.parametrize(
    ("arguments", "picked", "small"),
    [
        ({}, "knee", False),
        ({"max_latency": 100}, "fastest", False),
        ({"max_ram_bytes": 100_000}, "fastest", True),
        ({"objective": "ram"}, "least-ram", True),
        ({"objective": "latency"}, "fastest", False),
    ],
)
def test_what_is_picked_and_whether_slow_shapes_may_be_of_use(
    arguments: dict[str, Any], picked: str, small: bool
) -> None:
    found = with_latency_limit(settings(**arguments), K1)
    assert (found.pick, found.wants_small) == (picked, small)


@pytest.mark.parametrize(
    ("latency", "board", "expected"),
    [
        (Latency(0.005, "s"), None, {"max_cycles": 8e6}),
        (Latency(3e6), None, {"max_cycles": 3e6}),
        (Latency(0.005, "s"), Board("me@k1"), {"max_seconds": 0.005}),
        (Latency(1.6e6), Board("me@k1"), {"max_seconds": 0.001}),
    ],
)
def test_a_latency_is_held_in_what_the_runner_tells(
    latency: Latency, board: Board | None, expected: dict[str, float]
) -> None:
    found = with_latency_limit(replace(settings(), max_latency=latency, board=board), K1)
    budgets = found.budgets
    assert {"max_cycles": budgets.max_cycles, "max_seconds": budgets.max_seconds} == {
        "max_cycles": None, "max_seconds": None, **{name: pytest.approx(value) for name, value in expected.items()},
    }  # fmt: skip


def test_a_latency_that_nobody_can_tell_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-latency: qemu-rv64gcv has no timing model"):
        with_latency_limit(settings(max_latency=100), COUNTED)
    with pytest.raises(UsageError, match="the clock of spacemit-k1 is not known; give a number of cycles"):
        with_latency_limit(settings(max_latency="5ms"), NO_CLOCK)
    assert with_latency_limit(settings(max_latency=7), NO_CLOCK).budgets.max_cycles == 7
    on_board = replace(settings(max_latency=7), board=Board("me@k1"))
    with pytest.raises(UsageError, match="give a time such as 5ms"):
        with_latency_limit(on_board, NO_CLOCK)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_flash_bytes": "200K"}, "--max-bytes must be bytes"),
        ({"max_ram_bytes": -1}, "--max-ram must be a finite number from 0 on"),
        ({"max_latency": "soon"}, "--max-latency must be a time"),
        ({"objective": "speed"}, "--objective must be one of latency, bytes, ram, accuracy, got speed"),
        ({"objective": "accuracy"}, "--objective accuracy needs --data"),
        ({"max_drop": 1.0}, "--max-drop needs --data"),
        ({"max_drop": float("nan"), "data": "data.npz"}, "--max-drop must be a number from 0 on"),
    ],
)
def test_the_api_refuses_what_the_command_does(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        lrf_dse.explore("model.onnx", target="spacemit-k1", out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()

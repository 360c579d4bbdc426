"""The one list of options: what a command line is made of comes back as the settings that it was made from."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import lrf_dse
from lrf_dse.cli import app
from lrf_dse.errors import UsageError
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.selection import LayerChoice
from lrf_dse.options import options_of
from lrf_dse.pipeline.settings import ExploreSettings, command_of, settings_from
from lrf_dse.plan.budgets import Budgets
from lrf_dse.runners.board import board_for
from lrf_dse.target import load_target
from lrf_dse.units import Latency

EVERY: dict[str, Any] = {
    "data": Path("my data/v.npz"), "calibration": Path("c.npz"), "metric": "top5",
    "reading": ReadOptions(4, {"T": 16}, {"sr": (16000.0,)}, ("y",), dequantize=True),
    "layers": LayerChoice(("fc*", "head"), ("fc 9",), 100),
    "budgets": Budgets(1.5, 204_800, 65_536), "max_latency": Latency(0.005, "s"), "objective": "bytes",
    "top": 3, "cores": (2, 5), "evaluations": 50, "finetune": 2,
    "train": Path("t.npz"), "seed": 7, "jobs": 1, "threads": (1, 2),
    "kernels": ("rvv",), "bits": ("fp32", "int8"), "widen": True, "tune": 1, "timeout_s": 9.5,
    "scheduler": "tcp://head:8786",
    "board": board_for("me@k1", load_target("spacemit-k1"), port=2222, config=Path("ssh.conf"), options=("A=b",)),
}  # fmt: skip
"""Every field with another value than its default."""


def as_read(words: list[str], monkeypatch: pytest.MonkeyPatch) -> ExploreSettings:
    """What the command makes of a command line, without exploring."""
    found: list[ExploreSettings] = []

    def stop(model: Path, *, target: str, out: Path, progress: object, **options: Any) -> None:
        found.append(settings_from(model=model, target=target, out=out, **options))
        raise typer.Exit

    monkeypatch.setattr(lrf_dse, "explore", stop)
    done = CliRunner().invoke(app, words)
    assert found, done.output
    return found[0]


def test_no_option_is_left_out() -> None:
    plain = ExploreSettings(Path("m"), "spacemit-k1", Path("o"))
    assert EVERY.keys() | {"model", "target", "out"} == vars(plain).keys()
    assert all(getattr(plain, name) != value for name, value in EVERY.items())


@pytest.mark.parametrize("name", [*EVERY, "all"])
def test_the_reprinted_command_gives_the_same_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"data"} if name in ("calibration", "finetune", "budgets") else {"data", "finetune"}
    given = EVERY if name == "all" else {key: EVERY[key] for key in (name, *(needed if name != "data" else ()))}
    settings = ExploreSettings(Path("a model.onnx"), "spacemit-k1", Path("reports/my run"), **given)
    words = shlex.split(command_of(settings))
    assert words[:2] == ["lrf-dse", "explore"]
    assert as_read(words[1:], monkeypatch) == settings


def test_defaults_are_not_reprinted_and_a_dash_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExploreSettings(Path("-m.onnx"), "spacemit-k1", Path("out"))
    assert command_of(settings) == "lrf-dse explore ./-m.onnx --target spacemit-k1 -o out"
    found = as_read(shlex.split(command_of(settings))[1:], monkeypatch)
    assert replace(found, model=settings.model) == settings


def test_help_names_every_option() -> None:
    text = CliRunner().invoke(app, ["explore", "--help"], env={"COLUMNS": "200"}).output
    assert [one.flag for one in options_of(ExploreSettings) if one.typed is not None and one.flag not in text] == []


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown option 'max_bytes': use one of data, .*max_flash_bytes"):
        lrf_dse.explore("model.onnx", target="spacemit-k1", max_bytes=1)


@pytest.mark.parametrize("cores", [(), (1,), (2, 7)])
def test_numbers_of_cores_outside_the_space_are_refused(cores: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--cores must be numbers from 2 to 6"):
        ExploreSettings(Path("m"), "spacemit-k1", Path("o"), cores=cores)

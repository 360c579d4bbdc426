"""`lrf-dse space`: what it prints, saves and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from explored import command, tiny_model

from lrf_dse.cost.funnel import STEPS
from lrf_dse.pipeline.spaces import explore_time, layer_spaces
from lrf_dse.schema import FcLayer
from lrf_dse.target import load_target
from lrf_dse.tt.counting import monarch_size, space_size


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("space"))


def test_the_funnel_of_every_layer_is_printed_and_saved(model: Path, tmp_path: Path) -> None:
    done = command("space", model, "-o", tmp_path / "tiny.funnels", "--top", 2, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("whole space") == 2
    lines = done.out.splitlines()
    assert sum(line.startswith(("fc0: ", "fc1: ")) for line in lines) == 2
    assert "explore would build about" in lines[-1]
    saved = json.loads((tmp_path / "tiny.funnels.json").read_text(encoding="utf-8"))
    assert [space["layers"] for space in saved["spaces"]] == [["fc0"], ["fc1"]]
    for space in saved["spaces"]:
        funnel, layer = space["found"]["funnel"], space["layer"]
        assert [step["name"] for step in funnel] == list(STEPS)
        sizes = layer["out_features"], layer["in_features"]
        assert funnel[0]["remaining"] == (space_size(*sizes) + monarch_size(*sizes)).tuples
        assert not space["any_weights"]
    assert (tmp_path / "tiny.funnels.png").read_bytes().startswith(b"\x89PNG")


def test_one_layer_and_steps_left_out(model: Path) -> None:
    done = command("space", model, "--layer", "fc1", "--without", "whole vectors, faster", "--json", "--quiet")
    assert done.code == 0
    (space,) = json.loads(done.out)["spaces"]
    assert space["layers"] == ["fc1"]
    removed = {step["name"]: step["removed"] for step in space["found"]["funnel"]}
    assert removed["whole vectors"] == removed["faster"] == 0 < removed["near the front"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--without", "front"), "no step 'front' can be left out; these can: sample"),
        (("--layer", "nothing*"), "nothing"),
        (("--top", 0), "--top must be at least 1, got 0"),
        (("--target", "z80"), "z80"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(model: Path, options: tuple[object, ...], message: str) -> None:
    done = command("space", model, "--quiet", *options)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_layers_that_are_alike_are_one_where_no_weights_are_known() -> None:
    layers = [FcLayer(f"block{k}", 48, 36, 1, True) for k in range(5)] + [FcLayer("head", 36, 10, 1, True)]
    first, head = layer_spaces(layers, None, load_target("spacemit-k1"), top=2)
    assert first.layers == tuple(f"block{k}" for k in range(5))
    assert head.layers == ("head",)
    assert first.any_weights and head.any_weights
    alone = layer_spaces(layers[:1], None, load_target("spacemit-k1"), top=2)
    assert alone[0].found == first.found
    assert explore_time([first]).programs == pytest.approx(5 * explore_time(alone).programs, abs=4)

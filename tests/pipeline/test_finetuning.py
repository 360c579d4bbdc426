"""Plans trained further: what is kept is never worse, is found again, and is what an export would ship."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from explored import command, explore_arguments, open_run, result

from lrf_dse.errors import UsageError
from lrf_dse.models.compress import replaced
from lrf_dse.models.data import load_data, split
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline import finetuning
from lrf_dse.schema import Plan


def tuned(folder: Path, *options: object) -> tuple[Plan, ...]:
    done = command(*explore_arguments(folder), "--finetune", 2, *options)
    assert done.code == 0, done.err
    return open_run(folder / "run").info.plans


def model_of(folder: Path, plan: Plan) -> onnx.ModelProto:
    weights = open_run(folder / "run").weights(plan)
    return replaced(read_model(folder / "run" / "model.onnx"), weights.replacements, weights.values)


def assert_on_grids(folder: Path, plan: Plan) -> None:
    """The layers of `plan` in few bits hold exactly what their codes and scales stand for."""
    replacements = open_run(folder / "run").weights(plan).replacements
    for choice in plan.choices:
        if choice.storage != "fp32":
            made = replacements[choice.layer.name]
            held = [np.asarray(made.weight)] if made.cores is None else made.cores
            for core, stored in zip(held, made.stored or (), strict=True):
                assert stored.storage == choice.storage
                assert core.reshape(stored.codes.shape).tobytes() == stored.values.tobytes()


def test_plans_are_trained_and_kept(mine: Path) -> None:
    before = {plan.choices: plan.drop_points for plan in open_run(mine / "run").info.plans}
    plans = tuned(mine)
    info = open_run(mine / "run").info
    assert info.finetuning is not None and info.finetuning.control.how == "end to end"
    data = load_data(mine / "tiny.npz", read_model(mine / "run" / "model.onnx"))
    validation = split(data, 0)["validation"]
    assert {choice.storage == "fp32" for plan in plans for choice in plan.choices} == {False, True}
    for plan in plans:
        if plan.is_dense:
            assert plan.finetuning is None
            continue
        history = plan.finetuning
        assert history is not None and len(history.drops) == len(history.losses) + 1 <= 3
        assert plan.drop_points == min(history.drops)
        assert history.drops[0] == before.get(plan.choices, history.drops[0])  # more plans are worth training
        scores = first_output(model_of(mine, plan), validation)
        assert validation.y is not None
        right = 100 * float((scores.argmax(axis=-1).reshape(-1) == validation.y).mean())
        assert right == pytest.approx(plan.accuracy)
        assert_on_grids(mine, plan)
    assert any(not plan.is_dense and plan.choices in before for plan in plans)
    assert info.tunings[0][0] == "dense control"
    assert result(mine / "run")["finetuning"]["epochs"] == 2
    assert "Fine-tuning" in (mine / "run" / "report.html").read_text(encoding="utf-8")

    with mock.patch.object(finetuning, "finetune", side_effect=AssertionError("trained again")):
        assert tuned(mine) == plans
    assert not list((mine / "run" / "weights").glob("*.checkpoint"))


def test_a_model_that_cannot_be_trained_through_is_fitted_layer_by_layer(mine: Path) -> None:
    with mock.patch.object(finetuning, "require_known", side_effect=UsageError("node n: cannot train through Foo")):
        plans = tuned(mine)
    info = open_run(mine / "run").info
    assert (
        "node n: cannot train through Foo; plans are fitted to the training data layer by layer instead"
        in info.warnings
    )
    assert any(not plan.is_dense for plan in plans)
    for plan in plans:
        assert (plan.finetuning is None) == plan.is_dense
        assert plan.finetuning is None or plan.finetuning.how == "layer by layer"


def test_training_data_of_another_shape_is_refused(mine: Path) -> None:
    (mine / "no.npz").write_bytes(b"not a zip")
    done = command(*explore_arguments(mine), "--finetune", 2, "--train", mine / "no.npz")
    assert done.code == 2 and "no.npz" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--finetune", -1), "epochs from 0 on"), (("--train", "x.npz"), "--train needs --finetune EPOCHS")],
)
def test_options_that_make_no_sense(mine: Path, options: tuple[object, ...], words: str) -> None:
    done = command(*explore_arguments(mine), *options)
    assert done.code == 2 and words in done.err

"""A graph in parts gives what the whole gives, and runs no part again whose beginning is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values
from onnx import helper

from lrf_dse.models import segments as module
from lrf_dse.models.evaluate import outputs, session_of
from lrf_dse.models.fed import WIDTH, FedModel
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.segments import KnownStates, Segments, segments_of

SAMPLES = 2 * WIDTH + 3


def residual(nodes: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """x [1, 6] -> three layers, the first one's output added to the last one's."""
    whole = [
        node("MatMul", ["x", "w1"], ["a"], "fc1"),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "w2"], ["c"], "fc2"),
        node("Relu", ["c"], ["d"]),
        node("MatMul", ["d", "w3"], ["e"], "fc3"),
        *nodes,
        node("Add", ["e", "a"], ["y"]),
    ]
    weights = {"w1": values(6, 5), "w2": values(5, 7, seed=1), "w3": values(7, 5, seed=2)}
    return model(whole, inputs={"x": (1, 6)}, outputs={"y": (1, 5)}, constants=weights)


@pytest.fixture
def fed(tmp_path: Path) -> FedModel:
    return FedModel(read_model(saved(residual(), tmp_path)), {"x": values(SAMPLES, 6, seed=3)})


def calls_of(fed: FedModel, changed: Sequence[str]) -> tuple[int, np.ndarray]:
    """How many parts are run to score the model with these layers changed, and its output."""
    weights = {name: Replacement(weight=fed.model.weights(name)[0] * np.float32(0.5)) for name in changed}
    with mock.patch.object(module, "run_slice", side_effect=module.run_slice) as runs:
        got = fed.first_output(weights, fed.inputs)
    return runs.call_count, got


def test_parts_end_where_layers_read() -> None:
    found = segments_of(residual(), ["b", "d"], session_of)
    assert found is not None
    assert [part.gives for part in found.parts] == [("a", "b"), ("d",), ("y",)]
    assert [part.live for part in found.parts] == [{"a", "b"}, {"a", "d"}, {"y"}]
    assert [part.bytes for part in found.parts] == [40, 48, 20]
    assert found.ends == {"b": 1, "d": 2}


def test_a_cut_that_is_known_already_makes_no_part() -> None:
    found = segments_of(residual(), ["d", "b"], session_of)
    assert found is not None
    assert len(found.parts) == 2
    assert found.ends == {"d": 1, "b": 1}


def test_bodies_that_read_values_by_name_are_not_cut() -> None:
    body = helper.make_graph(
        [node("Identity", ["c"], ["out"])], "body", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["yes"], ["unused"], then_branch=body, else_branch=body)
    assert segments_of(residual([yes, choice]), ["b", "d"], session_of) is None


def test_choices_share_the_parts_of_the_layers_that_stay(fed: FedModel) -> None:
    runs, whole = -(-SAMPLES // WIDTH), outputs(residual(), fed.inputs)["y"]
    _ = fed._ready
    assert calls_of(fed, [])[0] == 3 * runs
    again, got = calls_of(fed, [])
    assert again == 0
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-6)
    assert calls_of(fed, ["fc3"])[0] == runs
    assert calls_of(fed, ["fc2", "fc3"])[0] == 2 * runs
    assert calls_of(fed, ["fc1"])[0] == 3 * runs
    _, changed = calls_of(fed, ["fc2"])
    assert not np.allclose(changed, whole)
    fresh = FedModel(fed.model, fed.inputs)
    np.testing.assert_array_equal(changed, calls_of(fresh, ["fc2"])[1])


def test_a_correction_runs_no_part_twice(fed: FedModel) -> None:
    weights = {name: Replacement(weight=fed.model.weights(name)[0] * np.float32(0.5)) for name in ("fc1", "fc2")}
    _ = fed._ready
    with mock.patch.object(module, "run_slice", side_effect=module.run_slice) as runs:
        list(fed.layer_inputs({"fc1": weights["fc1"]}, fed.inputs, ["b"]))
        (_, last), *_ = list(fed.layer_inputs(weights, fed.inputs, ["d"]))[-1:]
    assert runs.call_count == 2 * -(-SAMPLES // WIDTH)
    b = np.maximum(fed.inputs["x"] @ (fed.model.weights("fc1")[0].T / 2), 0)
    want = np.maximum(b @ (fed.model.weights("fc2")[0].T / 2), 0)
    np.testing.assert_allclose(last["d"], want[-len(last["d"]) :], rtol=1e-5, atol=1e-6)


def test_other_samples_are_other_runs(fed: FedModel) -> None:
    other = {"x": values(SAMPLES, 6, seed=4)}
    fed.first_output({}, fed.inputs)
    np.testing.assert_allclose(fed.first_output({}, other), outputs(residual(), other)["y"], rtol=1e-5, atol=1e-6)


def test_states_take_the_memory_that_they_may(fed: FedModel) -> None:
    segments = fed._ready.segments
    assert isinstance(segments, Segments)
    marks, inputs = dict.fromkeys(["any"], b""), (fed.inputs["x"],)
    small = KnownStates(2 * segments.state_bytes)
    assert small.of(segments, marks, inputs, runs=3, in_turn=True) is None
    scores = small.of(segments, marks, inputs, runs=3, in_turn=False)
    assert scores is not None
    assert scores.step == 2
    all_of_them = KnownStates(3 * segments.state_bytes).of(segments, marks, inputs, runs=3, in_turn=True)
    assert all_of_them is not None
    assert all_of_them.step == 1

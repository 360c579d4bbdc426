"""Forms of layers and of files that once ended late: each gets through to a plan and a verified bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from explored import command
from models.graphs import model, node, saved, values
from onnx import TensorProto, helper

from lrf_dse.pipeline.run import Run

TINY = ("--target", "spacemit-k1", "--top", 1, "--evaluations", 1, "--tune", 1, "--bits", "fp32")


def odd_forms() -> onnx.ModelProto:
    """An Einsum, a constant on the left, shapes that are computed, and a layer that a sampling rate chooses."""

    def branch(name: str, seed: int) -> onnx.GraphProto:
        constant = onnx.numpy_helper.from_array(values(24, 16, seed=seed), f"w_{name}")
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [1, 16])
        layer = node("MatMul", ["f", f"w_{name}"], [f"{name}_out"], name)
        return helper.make_graph([layer], name, [], [output], [constant])

    nodes = [
        node("Einsum", ["x", "a"], ["e"], "einsum", equation="bi,oi->bo"),
        node("Relu", ["e"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[1, 0]),
        node("MatMul", ["left", "t"], ["l"], "left"),
        node("Mod", ["five", "three"], ["axis"]),  # 2, as exporters of packed attention count axes
        node("Shape", ["l"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["rows"]),
        node("Concat", ["one", "rows"], ["turned"], axis=0),
        node("Reshape", ["l", "turned"], ["g"]),
        node("Unsqueeze", ["g", "axis"], ["u"]),
        node("Squeeze", ["u", "axis"], ["f"]),
        node("Equal", ["sr", "rate"], ["is_fast"]),
        node("If", ["is_fast"], ["y"], "choice", then_branch=branch("fast", 3), else_branch=branch("slow", 4)),
    ]
    constants = {
        "a": values(40, 64, seed=1) / 8,
        "left": values(24, 40, seed=2) / 6,
        "five": np.asarray([5]),
        "three": np.asarray([3]),
        "zero": np.asarray([0]),
        "one": np.asarray([1]),
        "rate": np.asarray(16000),
    }
    proto = model(nodes, inputs={"x": (1, 64)}, outputs={"y": (1, 16)}, constants=constants)
    proto.graph.input.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    return proto


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    path = saved(odd_forms(), folder)
    done = command("explore", path, *TINY, "--input", "sr=16000", "-o", folder / "run")
    assert done.code == 0, done.err
    return folder / "run"


def test_odd_forms_get_a_plan_with_a_factorised_layer(explored: Path) -> None:
    info = Run(explored).info
    assert [item.layer.name for item in info.model.layers] == ["einsum", "left", "fast"]
    assert any(choice.tt_shape is not None for plan in info.plans for choice in plan.choices)
    assert "--input sr=16000" in info.command


def test_the_bundle_of_odd_forms_is_verified(explored: Path, tmp_path: Path) -> None:
    done = command("export", explored, "--pick", "smallest", "-o", tmp_path / "bundle")
    assert done.code == 0, done.err
    assert "verified under QEMU against onnxruntime" in done.out


def test_a_run_names_the_option_of_reading_that_differs(explored: Path) -> None:
    done = command("explore", explored.parent / "model.onnx", *TINY, "--input", "sr=8000", "-o", explored)
    assert done.code == 2
    assert "(read with: --input sr=16000 there, --input sr=8000 here)" in done.err

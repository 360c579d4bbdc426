"""Trained constants back to cores: rewriting with what was recovered is the trained model again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.finetune.grids import grids_of
from lrf_dse.finetune.recover import recover
from lrf_dse.models.compress import replaced
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.values import constants, with_values
from lrf_dse.schema import Order
from lrf_dse.tt.contraction import stage_matrix
from lrf_dse.tt.grid import nearest

RNG = np.random.default_rng(5)


def core(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def network(*sizes: int) -> onnx.ModelProto:
    """Gemm and Relu in turn, weights stored [out, in]: layers that stay dense are written anew too."""
    nodes, constants = [], []
    for k, (width, wider) in enumerate(pairwise(sizes)):
        constants += [
            numpy_helper.from_array(core(wider, width), f"w{k}"),
            numpy_helper.from_array(core(wider), f"b{k}"),
        ]
        nodes.append(helper.make_node("Gemm", [f"r{k}", f"w{k}", f"b{k}"], [f"g{k}"], name=f"fc{k}", transB=1))
        nodes.append(helper.make_node("Relu", [f"g{k}"], [f"r{k + 1}"]))
    ports = [("r0", sizes[0]), (f"r{len(sizes) - 1}", sizes[-1])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in ports)
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recovered(model: Model, replacements: dict[str, Replacement]) -> dict[str, Replacement]:
    """What `recover` finds of the rewritten model with other values everywhere: put back, it is that model again."""
    rewritten = replaced(model, replacements)
    trainable = {name: value for name, value in constants(rewritten).items() if value.dtype == np.float32}
    trained = with_values(rewritten, {name: value + core(*value.shape) for name, value in trainable.items()})
    found, rest = recover(model, replacements, trained)
    again = with_values(replaced(model, found), rest)
    assert {name: value.tobytes() for name, value in constants(again).items()} == {
        name: value.tobytes() for name, value in constants(trained).items()
    }
    return found


@pytest.mark.parametrize("order", ["first_first", "last_first"])
def test_recovered_weights_make_the_trained_model(tmp_path: Path, order: Order) -> None:
    onnx.save(network(12, 8, 6), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx")
    first, second = model.fc_layers
    cores = [core(1, 2, 3, 2), core(2, 2, 2, 3), core(3, 2, 2, 1)]
    replacements = {first.name: Replacement(cores, order, bias_shift=core(8))}
    found = recovered(model, replacements)
    assert [c.shape for c in found[first.name].cores or ()] == [c.shape for c in cores]
    assert not np.array_equal((found[first.name].cores or cores)[0], cores[0])
    weight = found[second.name].weight
    assert weight is not None and not np.array_equal(weight, model.weights(second.name)[0])


def test_monarch_factors_are_recovered_and_trained_through(tmp_path: Path) -> None:
    """Their blocks lie below each other in one constant each, which training sees like any other matrix."""
    onnx.save(network(12, 8, 6), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx")
    first = model.fc_layers[0]
    cores = [core(2, 4, 6, 1), core(3, 4, 4, 1)]
    stored = [nearest(stage_matrix(each, "last_first"), "int8") for each in cores]
    values = [part.values.reshape(each.shape) for part, each in zip(stored, cores, strict=True)]
    found = recovered(model, {first.name: Replacement(cores)})
    assert [c.shape for c in found[first.name].cores or ()] == [c.shape for c in cores]
    replacements = {first.name: Replacement(values, stored=stored)}
    grids, held = grids_of(model, replacements), constants(replaced(model, replacements))
    assert len(grids) == 2
    for name, grid in grids.items():
        assert np.array_equal(grid.snapped(held[name]), held[name])
        assert grid.scales is not None and len(grid.scales) == len(held[name])


def test_large_weights_are_counted_exactly(tmp_path: Path) -> None:
    onnx.save(network(1500, 1200), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx")
    (layer,) = model.fc_layers
    cores = [core(1, 1200, 1, 900), core(900, 1, 1500, 1)]
    replacements = {layer.name: Replacement(cores)}
    found, _ = recover(model, replacements, replaced(model, replacements))
    for got, wanted in zip(found[layer.name].cores or (), cores, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_convolutions_of_one_point_are_recovered(tmp_path: Path) -> None:
    """One has cores, the other stays dense; both are trained."""
    shapes = {"k": (6, 4, 1, 1), "l": (5, 6, 1, 1)}
    stored = [numpy_helper.from_array(core(*shape), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "l"], ["y"], name="second"),
    ]
    ports = [("x", 4), ("y", 5)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 3, 3]) for name, size in ports)
    graph = helper.make_graph(nodes, "network", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    model = read_model(tmp_path / "m.onnx")
    replacements = {"first": Replacement([core(1, 3, 2, 2), core(2, 2, 2, 1)])}
    found = recovered(model, replacements)
    assert found["second"].weight is not None and found["second"].weight.shape == (5, 6)

"""Models with calls of generated kernels, small enough to be built in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from models.graphs import model, node, saved, values

from lrf_dse.codegen import KernelSchedule
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement, rewrite
from lrf_dse.schema import TTShape

SHAPES = {
    "fc1": TTShape((6, 4), (5, 8), (1, 4, 1)),  # 40 -> 24
    "fc2": TTShape((6, 4), (4, 6), (1, 3, 1)),  # 24 -> 24
    "fc3": TTShape((6, 4), (4, 6), (1, 3, 1)),  # the same kernel as fc2
    "last": TTShape((5, 1, 3), (2, 3, 4), (1, 2, 3, 1)),  # 24 -> 15
}


def three_layers_and_more(*, leading: tuple[int, ...] = (3,)) -> onnx.ModelProto:
    """fc1, Relu; fc2 and fc3, clipped to -1..6; dense, Tanh; last, whose value is added to and is an output itself."""
    nodes = [
        node("MatMul", ["x", "w1"], ["h1"], "fc1"),
        node("Add", ["h1", "b1"], ["a1"]),
        node("Relu", ["a1"], ["r1"]),
        node("MatMul", ["r1", "w2"], ["h2"], "fc2"),
        node("Clip", ["h2", "low", "six"], ["r2"]),
        node("MatMul", ["r2", "w3"], ["h3"], "fc3"),
        node("Clip", ["h3", "low", "six"], ["r3"]),
        node("MatMul", ["r3", "wd"], ["hd"], "dense"),
        node("Tanh", ["hd"], ["t"]),
        node("MatMul", ["t", "w4"], ["y"], "last"),
        node("Add", ["y", "y"], ["z"]),
    ]
    constants = {"w1": values(40, 24), "b1": values(24, seed=1), "low": np.float32(-1), "six": np.float32(6)}
    constants |= {f"w{k}": values(24, n, seed=k) for k, n in ((2, 24), (3, 24), (4, 15))} | {"wd": values(24, 24) / 5}
    outputs = {"y": (*leading, 15), "z": (*leading, 15)}
    return model(nodes, inputs={"x": (*leading, 40)}, outputs=outputs, constants=constants)


def with_kernels(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    threads: int = 1,
    shapes: Mapping[str, TTShape] = SHAPES,
    schedules: Mapping[str, KernelSchedule] | None = None,
) -> onnx.ModelProto:
    """`proto` with the named layers as calls of kernels of random cores."""
    read = read_model(saved(proto, folder, "original.onnx"))
    known = schedules or {}
    replacements = {
        name: Replacement(
            [
                values(*core, seed=k) / np.float32((core[2] * core[3]) ** 0.5)
                for k, core in enumerate(shape.core_shapes)
            ],
            kernel=KernelChoice(threads, known.get(name)),
        )
        for name, shape in shapes.items()
    }
    return rewrite(read, replacements)

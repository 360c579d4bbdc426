"""Three TT layers of one model as generated kernels: one .vmfb, run by the generated host and by IREE's own runtime.

    python benchmarks/kernels_in_iree.py [TARGET]

Prints the error of both against onnxruntime, and modelled cycles of the same network with IREE's kernels and dense.
Exits with 1 if an output is wrong, or if the generated kernels are not the fastest.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.builders.program import BUILDERS
from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.models.compress import replaced
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.stock import run_on_stock_runtime
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import Target, load_target

SIZES = (784, 512, 1024, 256)
SHAPES = {
    "fc0": TTShape((32, 16), (28, 28), (1, 8, 1)),
    "fc1": TTShape((16, 8, 8), (8, 8, 8), (1, 8, 8, 1)),
    "fc2": TTShape((256, 1), (1, 1024), (1, 32, 1)),
}


def network() -> onnx.ModelProto:
    """Three FC layers with biases, a Relu after each of the first two, random weights."""
    random = np.random.default_rng(0)
    nodes, constants = [], []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(SIZES)):
        weight = random.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(inputs**0.5)
        bias = random.standard_normal(outputs, dtype=np.float32)
        constants += [numpy_helper.from_array(weight, f"w{k}"), numpy_helper.from_array(bias, f"b{k}")]
        last = k == len(SIZES) - 2
        nodes.append(helper.make_node("Gemm", [f"x{k}", f"w{k}", f"b{k}"], ["y" if last else f"h{k}"], f"fc{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{k}"], [f"x{k + 1}"]))
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, SIZES[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SIZES[-1]])
    graph = helper.make_graph(nodes, "three", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def replacements() -> dict[str, Replacement]:
    """Random cores of every layer, as plain chains."""
    random = np.random.default_rng(1)

    def core(*shape: int) -> np.ndarray:
        scale = np.float32((shape[2] * shape[3]) ** -0.5)
        return random.standard_normal(shape, dtype=np.float32) * scale

    return {name: Replacement([core(*size) for size in shape.core_shapes]) for name, shape in SHAPES.items()}


def measured(model: onnx.ModelProto, target: Target, folder: Path) -> Measurement:
    """The fastest program of the model over all builders. Raises SystemExit where an output is wrong."""
    x = np.random.default_rng(2).standard_normal((1, SIZES[0]), dtype=np.float32)
    found = []
    for name, build in BUILDERS.items():
        work = folder / name
        work.mkdir(parents=True)
        built = build(model, target, work)
        job = Job(Path(built.program.path), target, (x,), run_once(model, [x]), work / "run", schedule=built.schedule)
        outcome = QemuRunner().run(job)
        if not isinstance(outcome, Measurement):
            raise SystemExit(f"{name}: {outcome.reason}")
        found.append(replace(outcome, builder=name))
    return min(found, key=lambda measurement: measurement.time)


def stock_error(model: onnx.ModelProto, target: Target, folder: Path) -> float:
    """The error of IREE's own runtime on this machine, relative to max |y|. Raises SystemExit where it is wrong."""
    folder.mkdir(parents=True)
    x = np.random.default_rng(2).standard_normal((1, SIZES[0]), dtype=np.float32)
    vmfb = build_for_stock_runtime(model, target, folder)
    errors = compare(run_on_stock_runtime(vmfb, [x], folder / "run", outputs=1), run_once(model, [x]), tolerance=1e-5)
    if not isinstance(errors, Errors):
        raise SystemExit(errors)
    return errors.max_rel


def main(name: str = "spacemit-k1") -> int:
    """Print the table; 0 if the generated kernels are right everywhere, and the fastest."""
    target = load_target(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.onnx").write_bytes(network().SerializeToString())
        model, chains = read_model(folder / "model.onnx"), replacements()
        kernels = {name: replace(chain, kernel=KernelChoice()) for name, chain in chains.items()}
        networks: Mapping[str, Mapping[str, Replacement]] = {"generated": kernels, "IREE": chains, "dense": {}}
        found = {what: measured(replaced(model, how), target, folder / what) for what, how in networks.items()}
        stock = stock_error(replaced(model, kernels), target, folder / "stock")
    print(
        f"{'kernels':<10} {'cycles':>12} {'flash bytes':>12} {'RAM bytes':>10} {'error':>8}  best builder, figures by"
    )
    for what, m in found.items():
        cycles = "-" if m.cycles is None else f"{m.cycles:,.0f}"
        sizes = f"{m.flash_bytes:>12,} {m.ram_bytes:>10,}"
        print(f"{what:<10} {cycles:>12} {sizes} {m.max_rel_error:>8.1e}  {m.builder}, {m.source}")
    print(f"generated kernels by IREE's own runtime on this machine, in plain C: error {stock:.1e}")
    return int(min(found, key=lambda what: found[what].time) != "generated")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

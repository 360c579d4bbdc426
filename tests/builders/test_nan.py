"""A NaN or an infinity of the input comes out of a program as it comes out of onnxruntime, whatever computes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from models.graphs import model, node, saved, values

from lrf_dse.builders.nan_kept import with_nan_kept
from lrf_dse.builders.program import build_with_iree
from lrf_dse.codegen.spec import Activation
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.reader import read_model
from lrf_dse.models.rewrite import Replacement, rewrite
from lrf_dse.target import load_target

IN, OUT, BATCH = 32, 24, 2
AFTER = {
    "relu": ("Relu", []),
    "relu6": ("Clip", ["zero", "six"]),
    "clip": ("Clip", ["minus", "one"]),
    "at most": ("Clip", ["", "one"]),
    "at least": ("Clip", ["one"]),
    "max": ("Max", ["zero"]),
    "min": ("Min", ["one"]),
    "leaky": ("LeakyRelu", []),
    "tanh": ("Tanh", []),
}
"""What follows a layer, by the layer's name."""
BOUNDS = {"zero": 0.0, "six": 6.0, "minus": -1.0, "one": 1.0}


def many_layers() -> onnx.ModelProto:
    """A layer for each activation, all reading the input, each its own output."""
    nodes, constants, outputs = [], {name: np.asarray(value, np.float32) for name, value in BOUNDS.items()}, {}
    for seed, (name, (op, bounds)) in enumerate(AFTER.items()):
        constants |= {f"w {name}": values(OUT, IN, seed=seed), f"b {name}": values(OUT, seed=seed)}
        nodes.append(node("Gemm", ["x", f"w {name}", f"b {name}"], [f"h {name}"], name, transB=1))
        nodes.append(node(op, [f"h {name}", *bounds], [f"y {name}"]))
        outputs[f"y {name}"] = (BATCH, OUT)
    return model(nodes, inputs={"x": (BATCH, IN)}, outputs=outputs, constants=constants)


@pytest.mark.parametrize(
    ("target", "generated"),
    [("spacemit-k1", False), ("spacemit-k1", True), ("starfive-jh7110", True)],
    ids=["iree", "rvv", "plain C"],
)
def test_not_a_number_and_infinities_go_through(target: str, generated: bool, tmp_path: Path) -> None:
    chip, read = load_target(target), read_model(saved(many_layers(), tmp_path))
    kernel = KernelChoice(1, None) if generated else None
    cores = [values(OUT, 4, seed=70).reshape(1, OUT, 1, 4), values(4, IN, seed=71).reshape(4, 1, IN, 1)]
    proto = rewrite(read, dict.fromkeys(AFTER, Replacement(cores, kernel=kernel) if generated else Replacement()))
    program = build_with_iree(proto, chip, tmp_path).program.path
    names = [f"y{number}.bin" for number in range(len(AFTER))]
    for bad in (np.nan, np.inf, -np.inf):
        x = values(BATCH, IN, seed=72)
        x[0, 3] = bad
        (tmp_path / "x.bin").write_bytes(x.tobytes())
        command = ["qemu-riscv64", "-cpu", chip.qemu.cpu, str(program), "x.bin", *names]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        for name, file, reference in zip(AFTER, names, run_once(proto, [x]), strict=True):
            got = np.fromfile(tmp_path / file, np.float32).reshape(reference.shape)
            # A Clip without a bound has the largest float for one in onnxruntime: as good as infinity.
            want = np.where(np.abs(reference) > 3e38, np.copysign(np.float32(np.inf), reference), reference)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=f"{name} of {bad}")
            assert np.isfinite(got[1]).all(), "the other row is its own"
            assert not np.isfinite(want[0]).all() or not np.isnan(bad)


def test_the_rewritten_operators_compute_the_same() -> None:
    ops = [("Max", ["a", "b", "c"]), ("Min", ["a", "b"]), ("Max", ["a"]), ("Clip", ["a"]), ("Clip", ["a", "", "one"])]
    nodes = [node(op, inputs, [f"y{k}"]) for k, (op, inputs) in enumerate(ops)]
    given = {name: values(3, 5, seed=seed) for seed, name in enumerate("abc")}
    for seed, array in enumerate(given.values()):
        array.flat[seed::4] = np.nan
    proto = model(
        nodes,
        inputs=dict.fromkeys(given, (3, 5)),
        outputs={f"y{k}": (3, 5) for k in range(len(ops))},
        constants={"one": np.asarray(0.5, np.float32)},
    )
    kept = with_nan_kept(proto)
    assert not {n.op_type for n in kept.graph.node[:-2]} & {"Min"}
    for got, want in zip(run_once(kept, list(given.values())), run_once(proto, list(given.values())), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_needs_no_rewriting_is_the_same_object() -> None:
    integers = model([node("Max", ["x", "x"], ["y"])], inputs={"x": (2,)}, outputs={"y": (2,)}, input_type=7)
    for proto in (integers, model([node("Relu", ["x"], ["y"])], inputs={"x": (2,)}, outputs={"y": (2,)})):
        assert with_nan_kept(proto) is proto


def test_an_upper_bound_below_0_is_not_computed_by_a_kernel() -> None:
    with pytest.raises(ValueError, match="an upper bound below 0"):
        Activation(None, -1.0)

"""Kernels of few bits in IREE modules: the packed bytes are what ships, and every runtime computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from builders.test_program import _inputs
from models.graphs import values

from lrf_dse.builders.program import BUILDERS
from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.codegen import KernelSpec, default_schedule, has_half, pack
from lrf_dse.codegen.stages import core_of, stage_matrix
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.stock import run_on_stock_runtime
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import FcLayer, Measurement, Order, Storage, TTShape
from lrf_dse.target import Target, load_target
from lrf_dse.tt.grid import Stored, nearest
from lrf_dse.tune.measuring import HALF_TOLERANCE, TOLERANCE

LOW_RANK, TRAIN = TTShape((96, 1), (1, 170), (1, 8, 1)), TTShape((6, 4, 4), (5, 2, 17), (1, 4, 3, 1))


def replacement(
    shape: TTShape | None, storage: Storage, order: Order = "last_first"
) -> tuple[Replacement, list[Stored]]:
    """Random weights on their grid, and the codes."""
    side = "left" if order == "last_first" else "right"
    if shape is None:
        stored = nearest(values(96, 170) / np.float32(13), storage)
        return Replacement(weight=stored.values, kernel=KernelChoice(), stored=[stored]), [stored]
    matrices, cores = [], []
    for k, size in enumerate(shape.core_shapes):
        core = values(*size, seed=k) / np.float32((size[2] * size[3]) ** 0.5)
        matrices.append(nearest(stage_matrix(core, side), storage))
        cores.append(core_of(matrices[-1].values, size, side))
    return Replacement(cores, order, kernel=KernelChoice(), stored=matrices), matrices


def layer_model(given: Replacement, *, batch: int = 1) -> onnx.ModelProto:
    return single_layer_model(FcLayer("fc", 170, 96, batch, has_bias=True), given, bias=values(96, seed=9))


def check(model: onnx.ModelProto, target: Target, work: Path) -> tuple[bytes, bytes]:
    """The program is right under QEMU; the module and the program."""
    built = BUILDERS["iree"](model, target, work)
    inputs = tuple(_inputs(model))
    tolerance = HALF_TOLERANCE if has_half(target) else TOLERANCE
    program = Path(built.program.path)
    outcome = QemuRunner().run(Job(program, target, inputs, run_once(model, inputs), work / "run", tolerance=tolerance))
    assert isinstance(outcome, Measurement), outcome
    return Path(built.module().path).read_bytes(), program.read_bytes()


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("shape", [None, LOW_RANK], ids=["dense", "low rank"])
def test_the_module_holds_the_packed_bytes_and_nothing_wider(storage, shape, k1: Target, work: Path) -> None:
    given, stored = replacement(shape, storage)
    module, program = check(layer_model(given), k1, work)
    count = len(stored)
    spec = KernelSpec(shape, 96, 170, has_bias=True, storages=(storage,) * count)
    packed = pack(stored if shape else stored[0], values(96, seed=9), spec, default_schedule(spec, k1)).tobytes()
    wide = b"".join(np.asarray(part.values).tobytes() for part in stored)
    for image in (module, program):
        assert packed in image
        assert wide[:256] not in image


@pytest.mark.parametrize("target", ["canaan-k230", "sifive-x280", "starfive-jh7110"])
def test_other_chips(target: str, work: Path) -> None:
    """VLEN 128 and 512, and a chip without vectors, with weights that are used many times."""
    chip = load_target(target)
    given, _ = replacement(TRAIN, "int8")
    check(layer_model(given, batch=3), chip, work)


def test_a_batch_is_multiplied_in_half_precision(k1: Target, work: Path) -> None:
    """The program of the chip in half precision, that of this machine in single: their scratch differs."""
    given, _ = replacement(None, "int8")
    model = layer_model(given, batch=16)
    spec = KernelSpec(None, 96, 170, 16, has_bias=True, storages=("int8",))
    assert default_schedule(spec, k1).stages[0].in_half
    check(model, k1, work)
    inputs = _inputs(model)
    outputs = run_on_stock_runtime(build_for_stock_runtime(model, k1, work), inputs, work / "run", outputs=1)
    errors = compare(outputs, run_once(model, inputs), tolerance=TOLERANCE)
    assert isinstance(errors, Errors), errors


@pytest.mark.parametrize("order", ["last_first", "first_first"])
@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_the_stock_runtime_computes_the_same_on_this_machine(storage, order, k1: Target, work: Path) -> None:
    """In plain C, with the packing of the vector kernel: full precision, whatever the chip's products are."""
    given, _ = replacement(TRAIN, storage, order)
    model = layer_model(given)
    inputs = _inputs(model)
    outputs = run_on_stock_runtime(build_for_stock_runtime(model, k1, work), inputs, work / "run", outputs=1)
    errors = compare(outputs, run_once(model, inputs), tolerance=TOLERANCE)
    assert isinstance(errors, Errors), errors

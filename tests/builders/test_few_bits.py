"""Kernels of few bits in IREE modules: the packed bytes are what ships, and every runtime computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders.test_program import _inputs
from models.graphs import values
from numpy.typing import NDArray

from lrf_dse.builders.kernel_calls import is_load
from lrf_dse.builders.program import BUILDERS
from lrf_dse.builders.schedule import Dispatch
from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.codegen import KernelSpec, copied_schedule, default_schedule, has_half, pack
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


def widened(storage: Storage, target: Target, *, batch: int) -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """A model whose layer widens its weights at load, and the copy of them that it reads then."""
    given, stored = replacement(TRAIN, storage)
    spec = KernelSpec(TRAIN, 96, 170, batch, has_bias=True, storages=(storage,) * len(stored))
    schedule = copied_schedule(spec, target)
    assert schedule is not None and schedule.copied
    cores = [core_of(m.values, s, "left") for m, s in zip(stored, TRAIN.core_shapes, strict=True)]
    copy = pack(cores, values(96, seed=9), replace(spec, storages=()), schedule)
    return layer_model(replace(given, kernel=KernelChoice(1, schedule)), batch=batch), copy


@pytest.mark.parametrize("chip", ["spacemit-k1", "starfive-jh7110"])
@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_weights_widened_at_load_are_packed_in_the_artifact_and_counted_in_ram(storage, chip, work: Path) -> None:
    target = load_target(chip)
    model, copy = widened(storage, target, batch=4)
    built = BUILDERS["iree"](model, target, work)
    assert built.schedule.at_load, "the copy is made when the program loads"
    inputs, program = tuple(_inputs(model)), Path(built.program.path)
    expected = run_once(model, inputs)
    outcome = QemuRunner().run(Job(program, target, inputs, expected, work / "run", tolerance=TOLERANCE))
    assert isinstance(outcome, Measurement), outcome
    assert copy.nbytes <= outcome.ram_parts["state_bytes"] <= copy.nbytes + 256
    for image in (Path(built.module().path), program):
        assert copy.tobytes()[:256] not in image.read_bytes()
    stock = build_for_stock_runtime(model, target, work)
    errors = compare(run_on_stock_runtime(stock, inputs, work / "stock", outputs=1), expected, tolerance=TOLERANCE)
    assert isinstance(errors, Errors), errors


def test_what_shares_a_buffer_with_a_copy_is_made_at_load_as_well(k1: Target, work: Path) -> None:
    """IREE's data tiling puts what it packs beside the copy: then both are made at load, and RAM counts both."""
    first, copy = widened("int8", k1, batch=4)
    dense = Replacement(weight=values(64, 96) / 10)
    rest = single_layer_model(FcLayer("fc2", 96, 64, 4, has_bias=True), dense, bias=values(64, seed=8))
    model = onnx.compose.merge_models(
        onnx.compose.add_prefix(first, "a_"),
        onnx.compose.add_prefix(rest, "b_"),
        [(f"a_{first.graph.output[0].name}", f"b_{rest.graph.input[0].name}")],
    )
    inputs = tuple(_inputs(model))
    for builder, least in (("iree", copy.nbytes), ("iree-tiled", copy.nbytes + 4 * 64 * 96)):
        (work / builder).mkdir()
        built = BUILDERS[builder](model, k1, work / builder)
        functions = [command.function for command in built.schedule.at_load if isinstance(command, Dispatch)]
        assert is_load(functions[0]) and (len(functions) > 1) == (builder == "iree-tiled")
        program, expected = Path(built.program.path), run_once(model, inputs)
        outcome = QemuRunner().run(Job(program, k1, inputs, expected, work / builder / "run", tolerance=1e-4))
        assert isinstance(outcome, Measurement), outcome
        assert least <= outcome.ram_parts["state_bytes"] < least + 1024


def test_weights_that_are_subnormal_in_half_precision_are_no_zeros_on_this_machine(k1: Target, work: Path) -> None:
    """IREE's runtime has subnormal floats flushed to 0 on x86: no step of widening may pass through one there."""
    stored = nearest(values(96, 170) * np.float32(1e-5), "fp16")
    assert (np.abs(stored.values[stored.values != 0]) < 2**-14).all()
    model = layer_model(Replacement(weight=stored.values, kernel=KernelChoice(), stored=[stored]), batch=2)
    bias_free = single_layer_model(
        FcLayer("fc", 170, 96, 2, has_bias=False),
        Replacement(weight=stored.values, kernel=KernelChoice(), stored=[stored]),
    )
    for number, proto in enumerate((model, bias_free)):
        folder = work / str(number)
        folder.mkdir()
        inputs = _inputs(proto)
        outputs = run_on_stock_runtime(build_for_stock_runtime(proto, k1, folder), inputs, folder / "run", outputs=1)
        errors = compare(outputs, run_once(proto, inputs), tolerance=TOLERANCE)
        assert isinstance(errors, Errors), errors

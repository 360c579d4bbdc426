"""A model becomes a .vmfb and a program that hold the same kernels, and the program computes the model."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders.zoo import ZOO, Maker, fully_connected
from runners.boards import seal_bundle

from lrf_dse.builders.elf import R_RISCV_RELATIVE, parse_elf, read_elf
from lrf_dse.builders.iree import compile_to_hal, import_onnx
from lrf_dse.builders.program import BUILDERS, BuiltProgram, build_with_iree, tool_versions
from lrf_dse.errors import BuildError
from lrf_dse.models.evaluate import run_once
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement
from lrf_dse.target import Target, load_target


def _inputs(model: onnx.ModelProto, seed: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    arrays = []
    for port in model.graph.input:
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        is_float = port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        arrays.append(random.standard_normal(shape).astype(np.float32) if is_float else random.integers(0, 50, shape))
    return arrays


@pytest.mark.parametrize("maker", ZOO, ids=lambda maker: maker.__name__)
def test_the_program_computes_what_onnxruntime_computes(maker: Maker, k1: Target, work: Path) -> None:
    model = maker()
    inputs = _inputs(model)
    built = build_with_iree(model, k1, work)
    job = Job(Path(built.program.path), k1, tuple(inputs), run_once(model, inputs), work / "run", tolerance=1e-5)
    outcome = QemuRunner().run(job)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.counts["unknown"] == 0


def test_module_and_program_hold_the_same_self_contained_kernels(fully_connected_program: BuiltProgram) -> None:
    built = fully_connected_program
    (image,) = built.schedule.executables.values()
    assert image in Path(built.module().path).read_bytes()
    assert image in Path(built.program.path).read_bytes()
    elf = parse_elf(image, "kernel image")
    assert set(elf.relocation_types) == {R_RISCV_RELATIVE}
    assert not elf.undefined_symbols


def test_the_program_is_static_and_holds_the_weights_once(fully_connected_program: BuiltProgram) -> None:
    model, built = fully_connected(), fully_connected_program
    data = Path(built.program.path).read_bytes()
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert data.count(weight.tobytes()) == 1
    assert sum(s.size_bytes for s in built.schedule.of_kind("constant")) >= weight.nbytes
    elf = read_elf(Path(built.program.path))
    assert not elf.undefined_symbols
    assert elf.flash_bytes < weight.nbytes + 100_000


def test_changed_weights_of_the_same_size_reach_the_program(k1: Target, tmp_path: Path) -> None:
    """zig caches objects and does not see files named by .incbin: a stale one would show here."""
    outputs = []
    for scale in (1.0, 2.0):
        model = fully_connected()
        weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(scale)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "W"))
        work = tmp_path / str(scale)
        work.mkdir()
        built = build_with_iree(model, k1, work)
        job = Job(Path(built.program.path), k1, tuple(_inputs(model)), run_once(model, _inputs(model)), work / "run")
        assert isinstance(QemuRunner().run(job), Measurement)
        outputs.append((work / "run" / "output0.bin").read_bytes())
    assert outputs[0] != outputs[1]


def _run(program: str, cpu: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["qemu-riscv64", "-cpu", cpu, program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_refuses_what_it_cannot_do(fully_connected_program: BuiltProgram, k1: Target, work: Path) -> None:
    model, program = fully_connected(), fully_connected_program.program.path
    good, bad, out = work / "good.bin", work / "bad.bin", work / "out.bin"
    good.write_bytes(_inputs(model)[0].tobytes())
    bad.write_bytes(b"1234")
    short = _run(program, "rv64,v=true,vlen=128,elen=64,vext_spec=v1.0", str(good), str(out))
    assert short.returncode == 3
    assert short.stderr == "error: this program needs vector registers of 256 bits, this machine has 128\n"
    none = _run(program, "rv64,v=false", str(good), str(out))
    assert none.returncode == 3
    assert "this machine has 0" in none.stderr
    for arguments, words in (
        ([str(bad), str(out)], "must be 480 bytes"),
        ([str(work / "none.bin"), str(out)], "cannot open input"),
        ([str(good), str(work / "no" / "out.bin")], "cannot write output"),
        ([str(good)], "usage"),
    ):
        refused = _run(program, k1.qemu.cpu, *arguments)
        assert refused.returncode == 1
        assert words in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_longer_vector_register_is_fine(fully_connected_program: BuiltProgram, work: Path) -> None:
    model, program = fully_connected(), fully_connected_program.program.path
    source, out = work / "in.bin", work / "out.bin"
    source.write_bytes(_inputs(model)[0].tobytes())
    assert _run(program, "rv64,v=true,vlen=512,elen=64,vext_spec=v1.0", str(source), str(out)).returncode == 0
    (expected,) = run_once(model, _inputs(model))
    np.testing.assert_allclose(np.fromfile(out, np.float32).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_a_shorter_target_gives_a_program_for_it(work: Path) -> None:
    target = load_target("qemu-rv64gcv")
    model = fully_connected()
    built = build_with_iree(model, target, work)
    job = Job(Path(built.program.path), target, tuple(_inputs(model)), run_once(model, _inputs(model)), work / "run")
    assert isinstance(QemuRunner().run(job), Measurement)


def test_a_model_that_iree_refuses_is_a_build_error_with_one_line(k1: Target, work: Path) -> None:
    model = fully_connected()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BuildError, match=r"iree-\w+") as caught:
        build_with_iree(model, k1, work)
    assert "\n" not in str(caught.value)


def test_same_model_same_bytes(k1: Target, tmp_path: Path) -> None:
    """Timings are cached by content: the same source must give the same program."""
    hashes = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        built = build_with_iree(fully_connected(), k1, folder)
        hashes.add((built.program.sha256, built.module().sha256))
    assert len(hashes) == 1


def test_the_registry_and_the_tool_versions() -> None:
    assert set(BUILDERS) == {"iree", "iree-tiled"}
    assert set(tool_versions()) == {"iree", "zig", "host"}


def test_hal_text_is_left_beside_the_module(k1: Target, work: Path) -> None:
    path = compile_to_hal(import_onnx(fully_connected(), work), k1)
    assert "hal.command_buffer.dispatch" in path.read_text()


def test_the_check_on_the_machine_itself(fully_connected_program: BuiltProgram, k1: Target, work: Path) -> None:
    """What a bundle's README tells to do on a board: right and wrong expected outputs, on one and on more threads."""
    model, bundle = fully_connected(), work / "bundle"
    bundle.mkdir()
    program = shutil.copy(fully_connected_program.program.path, bundle)
    source, right, wrong = bundle / "in.bin", bundle / "right.bin", work / "wrong.bin"
    source.write_bytes(_inputs(model)[0].tobytes())
    (expected,) = run_once(model, _inputs(model))
    right.write_bytes(expected.tobytes())
    alone = _run(program, k1.qemu.cpu, "--check", str(source), str(right))
    assert (alone.returncode, "manifest.json cannot be read" in alone.stderr) == (4, True), "a check is of a bundle"
    seal_bundle(bundle, {})
    wrong.write_bytes((expected + np.float32(0.01)).tobytes())
    for options in ([], ["--threads", "3", "--passes", "20"]):
        passed = _run(program, k1.qemu.cpu, *options, "--check", str(source), str(right))
        assert (passed.returncode, passed.stdout[:4]) == (0, "ok: ")
        failed = _run(program, k1.qemu.cpu, *options, "--check", str(source), str(wrong))
        assert (failed.returncode, failed.stdout[:7]) == (5, "WRONG: ")
    assert _run(program, k1.qemu.cpu, "--threads", "0", str(source), str(work / "out.bin")).returncode == 1


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_give_the_same_bits(
    fully_connected_program: BuiltProgram, k1: Target, work: Path, threads: int
) -> None:
    model, program = fully_connected(), fully_connected_program.program.path
    source, one, more = work / "in.bin", work / "one.bin", work / "more.bin"
    source.write_bytes(_inputs(model)[0].tobytes())
    assert _run(program, k1.qemu.cpu, str(source), str(one)).returncode == 0
    assert _run(program, k1.qemu.cpu, "--threads", str(threads), str(source), str(more)).returncode == 0
    assert one.read_bytes() == more.read_bytes()


@pytest.mark.parametrize("maker", [fully_connected, ZOO[1]], ids=lambda maker: maker.__name__)
def test_tiled_programs_are_right_and_pack_nothing_at_load(maker: Maker, k1: Target, work: Path) -> None:
    """Weights are packed while building: constants of the program, no second copy in RAM."""
    model = maker()
    inputs = _inputs(model)
    built = BUILDERS["iree-tiled"](model, k1, work)
    assert built.schedule.at_load == ()
    assert built.schedule.of_kind("state") == ()
    job = Job(Path(built.program.path), k1, tuple(inputs), run_once(model, inputs), work / "run", tolerance=1e-5)
    outcome = QemuRunner().run(job)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.ram_parts["state_bytes"] == 0

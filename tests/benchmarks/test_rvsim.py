"""The second opinion: a bare-metal program on rvsim, its figures, its refusals, and whatever goes wrong there."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders.zoo import fully_connected, tt_layer_as_einsums

from benchmarks.simulators import rvsim, rvsim_model
from benchmarks.simulators.rvsim import RvsimRunner
from benchmarks.simulators.rvsim_console import Pass, miscomputed_instructions, read_console, refused_instruction
from lrf_dse.builders.program import BuiltProgram, build_with_iree
from lrf_dse.errors import ToolError, UsageError
from lrf_dse.models.evaluate import run_once
from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target, load_target, target_names

X = np.random.default_rng(3).standard_normal((3, 40)).astype(np.float32)
JobOf = Callable[..., Job]


@pytest.fixture(scope="module")
def k1() -> Target:
    return load_target("spacemit-k1")


@pytest.fixture(scope="module")
def built(k1: Target, tmp_path_factory: pytest.TempPathFactory) -> BuiltProgram:
    return build_with_iree(fully_connected(), k1, tmp_path_factory.mktemp("fully_connected"))


@pytest.fixture
def job_of(built: BuiltProgram, k1: Target, tmp_path: Path) -> JobOf:
    """The job of the FC layer, with fields changed."""

    def job(**changes: object) -> Job:
        expected = run_once(fully_connected(), [X])
        base = Job(Path(built.program.path), k1, (X,), expected, tmp_path / "work", schedule=built.schedule)
        return dataclasses.replace(base, **changes)  # type: ignore[arg-type]

    return job


def _job_of_model(model: onnx.ModelProto, x: np.ndarray, target: Target, folder: Path) -> Job:
    folder.mkdir(exist_ok=True)
    program = build_with_iree(model, target, folder)
    return Job(
        Path(program.program.path), target, (x,), run_once(model, [x]), folder / "run", schedule=program.schedule
    )


def test_it_measures_the_same_program_as_qemu(job_of: JobOf, tmp_path: Path) -> None:
    outcome = RvsimRunner().run(job_of())
    assert isinstance(outcome, Measurement), outcome
    version = importlib.metadata.version("rvsim")
    assert outcome.source == f"rvsim {version}, out-of-order model nearest to spacemit-x60: a second opinion"
    assert outcome.max_rel_error < 1e-5
    qemu = QemuRunner().run(job_of(work=tmp_path / "qemu"))
    assert isinstance(qemu, Measurement)
    # The same kernels on the same data: only the marks around the region differ.
    assert outcome.instructions is not None and qemu.instructions is not None
    assert abs(outcome.instructions - qemu.instructions) < 20
    assert outcome.cycles is not None and outcome.cold_cycles is not None and qemu.cycles is not None
    assert outcome.cycles < outcome.cold_cycles
    assert 0.5 < outcome.cycles / qemu.cycles < 2
    same = ("transient_bytes", "io_bytes", "image_bytes", "state_bytes", "local_bytes")
    assert [outcome.ram_parts[name] for name in same] == [qemu.ram_parts[name] for name in same]
    assert 0 < outcome.ram_parts["stack_bytes"] < 65536
    assert outcome.ram_bytes == sum(outcome.ram_parts.values())
    assert 0 < outcome.flash_bytes < qemu.flash_bytes  # no libc in it


def test_its_figures_can_be_repeated(job_of: JobOf) -> None:
    assert RvsimRunner().run(job_of()) == RvsimRunner().run(job_of())


def test_a_wrong_result_is_a_failure_and_no_figure(job_of: JobOf) -> None:
    (expected,) = run_once(fully_connected(), [X])
    outcome = RvsimRunner().run(job_of(expected=(expected + np.float32(0.01),)))
    assert isinstance(outcome, Failure)
    assert outcome.stage == "verify"
    assert "output 0: element" in outcome.reason
    assert outcome.kept_files and all(Path(name).is_file() for name in outcome.kept_files)


def test_legal_code_that_rvsim_refuses_is_named(k1: Target, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((1, 400)).astype(np.float32)
    job = _job_of_model(tt_layer_as_einsums(), x, k1, tmp_path / "refused")
    assert isinstance(QemuRunner().run(job), Measurement)
    outcome = RvsimRunner().run(job)
    assert isinstance(outcome, Failure)
    assert outcome.stage == "run"
    version = importlib.metadata.version("rvsim")
    assert outcome.reason == (
        f"rvsim {version} cannot run this program: it raises IllegalInstruction on vrgatherei16.vv, which is legal code"
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x028400A7, "vs1r.v"),
        (0xE2840427, "vs8r.v"),
        (0x62850407, "vl4re8.v"),
        (0x2285E407, "vl2re32.v"),
        (0x3A1080D7, "vrgatherei16.vv"),
        (0x381080D7, "vrgatherei16.vv"),  # masked
        (0x321080D7, None),  # vrgather.vv
        (0x3A10C0D7, None),  # vslideup.vx
        (0x0205E407, None),  # vle32.v
        (0x02B58407, None),  # vlm.v
        (0x0005A407, None),  # flw
        (0, None),
    ],
)
def test_what_is_known_to_be_refused(code: int, name: str | None) -> None:
    assert refused_instruction(code) == name


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("d7610742", ("vmv.s.x",)),  # vmv.s.x v3, a4
        ("0100d7610742", ("vmv.s.x",)),  # after a compressed instruction
        ("57500742d7610742", ("vfmv.s.f", "vmv.s.x")),
        ("d7610743", ()),  # another vs2
        ("d7610740", ()),  # masked: no such instruction
        ("d76107", ()),
        ("", ()),
    ],
)
def test_what_is_known_to_be_computed_wrongly(code: str, names: tuple[str, ...]) -> None:
    assert miscomputed_instructions(bytes.fromhex(code)) == names


def test_a_wrong_result_names_what_rvsim_gets_wrong(job_of: JobOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rvsim, "miscomputed_instructions", lambda image: ("vmv.s.x",) if image[:4] == b"\x7fELF" else ()
    )
    (expected,) = run_once(fully_connected(), [X])
    outcome = RvsimRunner().run(job_of(expected=(expected + np.float32(0.01),)))
    assert isinstance(outcome, Failure)
    assert outcome.reason.endswith("the kernels hold vmv.s.x, which rvsim 2.1.0 gets wrong under LMUL > 1)")


def test_an_endless_program_ends_at_the_limit_of_instructions(job_of: JobOf) -> None:
    outcome = RvsimRunner(max_instructions=1000).run(job_of())
    assert isinstance(outcome, Failure)
    assert outcome.stage == "run"
    assert outcome.reason.startswith("did not finish in 100")
    assert "simulated instructions" in outcome.reason


def test_a_hanging_simulator_ends_at_the_timeout(job_of: JobOf, tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    start = time.monotonic()
    outcome = RvsimRunner(process=script).run(job_of(timeout_s=1.0))
    assert time.monotonic() - start < 30
    assert isinstance(outcome, Failure)
    assert outcome.reason.startswith("rvsim") and "hangs: it did nothing for 1 s" in outcome.reason
    pid = (tmp_path / "work" / "pid").read_text()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os; os.abort()", "broke down (exit code -6): no word from it"),
        ("raise RuntimeError('panicked')", "broke down (exit code 1): RuntimeError: panicked"),
        ("", "broke down (exit code 0): no word from it"),
    ],
)
def test_a_simulator_that_breaks_down_is_a_failure(job_of: JobOf, tmp_path: Path, script: str, reason: str) -> None:
    (tmp_path / "process.py").write_text(script)
    outcome = RvsimRunner(process=tmp_path / "process.py").run(job_of())
    assert isinstance(outcome, Failure)
    assert (outcome.stage, reason in outcome.reason) == ("run", True), outcome.reason


def test_files_of_an_earlier_run_are_never_taken_for_this_one(job_of: JobOf, tmp_path: Path) -> None:
    assert isinstance(RvsimRunner().run(job_of()), Measurement)
    (tmp_path / "nothing.py").write_text("")
    assert isinstance(RvsimRunner(process=tmp_path / "nothing.py").run(job_of()), Failure)


def test_registers_that_are_too_short_are_refused_by_the_program(job_of: JobOf) -> None:
    def with_short_registers(target: Target) -> rvsim_model.RvsimModel:
        return dataclasses.replace(rvsim_model.model_of(target), vlen_bits=128)

    outcome = RvsimRunner(model=with_short_registers).run(job_of())
    assert isinstance(outcome, Failure)
    assert outcome.reason == "this program needs vector registers of 256 bits, this machine has 128"


def test_scalar_code_runs_on_the_model_of_a_core_without_vectors(tmp_path: Path) -> None:
    job = _job_of_model(fully_connected(), X, load_target("starfive-jh7110"), tmp_path / "scalar")
    outcome = RvsimRunner().run(job)
    assert isinstance(outcome, Measurement), outcome
    assert "derived from starfive-jh7110: a second opinion" in outcome.source


@pytest.mark.parametrize("name", target_names())
def test_every_target_has_a_model_or_says_that_it_has_none(name: str) -> None:
    target = load_target(name)
    if target.timing is None:
        with pytest.raises(UsageError, match=rf"rvsim has no model of target {name}: its file has no \[timing\]"):
            rvsim_model.model_of(target)
        return
    model = rvsim_model.model_of(target)
    assert model.width == target.core.issue_width.value  # type: ignore[union-attr]
    assert [cache.size_bytes for cache in model.caches] == [cache.size_bytes for cache in target.timing.cache]
    assert ("VecFpFma" in model.units) == (target.isa.vlen_bits is not None)


def test_the_model_of_the_x60_is_the_one_that_was_fitted(k1: Target) -> None:
    model = rvsim_model.model_of(k1)
    figures = (model.width, model.window, model.vector_registers, model.vector_lanes, model.vector_bytes)
    assert figures == (2, 24, 41, 16, 16)
    assert (model.load_ports, model.units["VecFpFma"]) == (1, (1, 5))


def test_what_it_cannot_be_asked(job_of: JobOf) -> None:
    with pytest.raises(UsageError, match="give the job the schedule"):
        RvsimRunner().run(job_of(schedule=None))
    outcome = RvsimRunner().run(job_of(threads=2))
    assert isinstance(outcome, Failure)
    assert "on one thread, not on 2" in outcome.reason


def test_missing_rvsim_names_the_package(job_of: JobOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(rvsim.importlib.metadata, "version", missing)
    with pytest.raises(ToolError, match="pip install rvsim"):
        RvsimRunner().run(job_of())


def test_the_tool_versions() -> None:
    versions = rvsim.tool_versions()
    assert versions["rvsim"][0].isdigit()
    assert len(versions["bare"]) == 16


Y = (np.array([1.0, -2.0], np.float32),)
GOOD = "cold 50 9\nwarm 20 9\nmemory stack_bytes 64\noutput 0 0000803f000000c0\ndone\n"


def test_the_serial_line_is_read() -> None:
    console = read_console(GOOD, Y, simulator="rvsim 0")
    assert (console.cold, console.warm) == (Pass(50, 9), Pass(20, 9))
    assert console.ram_parts == {"stack_bytes": 64}
    np.testing.assert_array_equal(console.outputs[0], Y[0])


@pytest.mark.parametrize(
    ("text", "stage", "reason"),
    [
        ("", "run", "the program's serial line is not complete: ''"),
        (GOOD.removesuffix("done\n"), "run", "is not complete"),
        (GOOD.replace("warm", "worm"), "run", "is not complete"),
        (GOOD.replace("0000803f", "0000803"), "run", "is not complete"),
        (GOOD.replace("0000803f", ""), "verify", "output 0 has 4 bytes, expected 8"),
        ("error the stack overflowed\n", "run", "the stack overflowed"),
        ("trap 2 80000100 0 3a1080d7\n", "run", "rvsim 0 cannot run this program: it raises IllegalInstruction on vrg"),
        ("trap 2 80000100 0 ffff\n", "run", "with an exception: illegal instruction 0xffff at 0x80000100"),
        ("trap 5 80000100 10 0\n", "run", "with an exception: load access fault of address 0x10 at 0x80000100"),
        ("trap 18 80000100 0 0\n", "run", "with an exception: exception 24 of address 0x0"),
    ],
)
def test_a_serial_line_without_a_result_is_rejected(text: str, stage: str, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_console(text, Y, simulator="rvsim 0")
    assert caught.value.stage == stage
    assert reason in caught.value.reason

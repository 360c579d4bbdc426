"""The QEMU runner: what is measured, and how programs that go wrong are reported."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrf_dse.builders.elf import read_elf
from lrf_dse.errors import ToolError
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.runners import qemu
from lrf_dse.runners.job import Job
from lrf_dse.runners.runner import runner_for
from lrf_dse.schema import Failure, Measurement

Run = Callable[..., Measurement | Failure]


def test_a_measurement_says_what_was_observed(run_case: Run, probe: Path) -> None:
    result = run_case("scalar", target="qemu-rv64gcv")
    assert isinstance(result, Measurement), result
    assert result.source == f"qemu-riscv64 {qemu.qemu_version()}, cpu of qemu-rv64gcv: executed instructions"
    assert result.ram_parts == {"stack_bytes": 1000, "transient_bytes": 200, "io_bytes": 30, "image_bytes": 4}
    assert result.ram_bytes == 1234
    assert 0 < result.flash_bytes == read_elf(probe).flash_bytes < probe.stat().st_size
    assert (result.max_abs_error, result.max_rel_error) == (0.0, 0.0)
    assert result.cycles is None and result.seconds is None, "QEMU has no clock worth recording"
    assert from_json(Measurement, to_json(result)) == result


def test_a_target_with_a_timing_model_gives_modelled_cycles(run_case: Run) -> None:
    """10 instructions, of which divw waits for mul (6 cycles) and takes 12."""
    result = run_case("scalar")
    counted = run_case("scalar", target="qemu-rv64gcv")
    assert isinstance(result, Measurement) and isinstance(counted, Measurement)
    assert result.source == "modelled cycles, spacemit-k1"
    assert result.counts == counted.counts and result.instructions == counted.instructions == 10
    assert result.cycles is not None and 18 <= result.cycles <= 30
    assert result.cold_cycles == result.cycles, "no memory, no branch: nothing to be cold"
    assert result.busy_cycles is not None
    assert result.busy_cycles + sum(result.stalls.values()) == result.cycles
    assert result.untimed == {"operation": 0, "vtype": 0}
    assert from_json(Measurement, to_json(result)) == result


def test_errors_are_relative_to_the_largest_output(run_case: Run) -> None:
    result = run_case("off_by_little")
    assert isinstance(result, Measurement), result
    assert result.max_abs_error == pytest.approx(8.0 * 1e-5, rel=0.02)
    assert result.max_rel_error == pytest.approx(8.0 / 201.0 * 1e-5, rel=0.02)


def test_tolerance_is_the_callers(run_case: Run) -> None:
    assert isinstance(run_case("off_by_little", tolerance=1e-8), Failure)
    assert isinstance(run_case("wrong_result", tolerance=0.1), Measurement)


@pytest.mark.parametrize(
    ("case", "stage", "reason"),
    [
        (
            "wrong_result",
            "verify",
            "output 0: element 2 is 8.5, expected 8: off by 0.0025 of max |y|, tolerance 0.0001",
        ),
        ("not_a_number", "verify", "output 0 holds 1 values that are not finite (of 4)"),
        ("short_output", "verify", "output0.bin has 12 bytes, expected 16 (float32 (4,))"),
        ("no_output", "verify", "the program did not write output0.bin"),
        ("no_stats", "run", "the program wrote no complete stats.json"),
        ("cut_stats", "run", "the program wrote no complete stats.json"),
        ("bad_stats", "run", "stats.json: 'stack_bytes' must be a number of bytes, got 'many'"),
        ("no_region", "run", "the inference region (LRF_REGION_BEGIN) was never entered"),
        ("two_regions", "run", "the inference region (LRF_REGION_BEGIN) was entered 6 times, expected 3"),
        ("open_region", "run", "the program ended inside its inference region: LRF_REGION_END was not reached"),
        ("crash", "run", "killed by SIGSEGV"),
        ("aborts", "run", "killed by SIGABRT"),
        ("illegal", "run", "killed by SIGILL"),
        ("silent_exit", "run", "exit code 5: nothing on stderr"),
        ("no such case", "run", "exit code 65: nothing on stderr"),
    ],
)
def test_a_program_that_goes_wrong_is_a_failure(case: str, stage: str, reason: str, run_case: Run) -> None:
    result = run_case(case)
    assert isinstance(result, Failure), result
    assert (result.stage, result.reason) == (stage, reason)
    assert result.kept_files and all(Path(name).is_file() for name in result.kept_files)


def test_a_vector_length_that_is_too_short_is_a_failure_with_the_programs_words(run_case: Run) -> None:
    result = run_case("needs_vlen_256", target="qemu-rv64gcv")
    assert isinstance(result, Failure)
    assert result.reason == "exit code 3: needs vector registers of 256 bits, this machine has 128"
    assert isinstance(run_case("needs_vlen_256", target="spacemit-k1"), Measurement)


def test_a_hang_ends_at_the_timeout_and_leaves_no_process(run_case: Run, tmp_path: Path) -> None:
    start = time.monotonic()
    result = run_case("hang", timeout_s=0.5)
    assert time.monotonic() - start < 10
    assert isinstance(result, Failure)
    assert (result.stage, result.reason) == (
        "run",
        "the program under qemu-riscv64 did not finish in 0.5 s of processor time",
    )
    work = str(tmp_path / "work")
    assert not [p for p in Path("/proc").glob("[0-9]*") if _working_folder(p) == work]


def _working_folder(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


def test_files_of_an_earlier_run_are_never_taken_for_this_one(run_case: Run) -> None:
    assert isinstance(run_case("scalar"), Measurement)
    assert isinstance(run_case("no_output"), Failure)
    assert isinstance(run_case("scalar"), Measurement)
    assert isinstance(run_case("no_stats"), Failure)


def test_a_reference_of_another_shape_is_a_failure(run_case: Run) -> None:
    result = run_case("scalar", expected=(np.zeros((2, 3), np.float32),))
    assert isinstance(result, Failure)
    assert result.reason == "output0.bin has 16 bytes, expected 24 (float32 (2, 3))"


def test_big_endian_and_strided_arrays_are_written_as_the_contract_says(
    run_case: Run, job_of: Callable[..., Job]
) -> None:
    name, x = job_of("scalar").inputs
    strided = np.repeat(x, 2).astype(">f4")[::2]
    assert isinstance(run_case("scalar", inputs=(name, strided), expected=((2 * x + 1).astype(">f4"),)), Measurement)


def test_the_users_qemu_variables_do_not_reach_the_run(run_case: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QEMU_STRACE", "1")
    monkeypatch.setenv("QEMU_CPU", "none")
    assert isinstance(run_case("scalar"), Measurement)


@pytest.mark.usefixtures("only_on_path")
def test_missing_qemu_names_the_package(run_case: Run) -> None:
    with pytest.raises(ToolError, match=r"qemu-riscv64 not found: .*qemu-user \(apt-get install qemu-user\)"):
        run_case("scalar")


def test_a_qemu_that_names_no_version_is_a_tool_error(only_on_path: Path) -> None:
    fake = only_on_path / "qemu-riscv64"
    fake.write_text("#!/bin/sh\necho hello\n")
    fake.chmod(0o755)
    with pytest.raises(ToolError, match="did not name a version: 'hello'"):
        qemu.qemu_version()


def test_a_cpu_that_qemu_does_not_know_is_a_tool_error(run_case: Run) -> None:
    with pytest.raises(ToolError, match=r"-cpu rv64.*,nonsense=true \(target spacemit-k1\) did not start: .*nonsense"):
        run_case("scalar", cpu_suffix=",nonsense=true")


def test_a_mistake_of_qemu_in_one_program_fails_that_program_only(run_case: Run, first_on_path: Path) -> None:
    """It loaded the plugin, whose file it opened, and then met an assertion of its own."""
    fake = first_on_path / "qemu-riscv64"
    fake.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "qemu-riscv64 version 7.2.22"; exit; fi\n'
        ": >figures.json\n"
        "echo 'qemu-riscv64: translate.c:213: decode_save_opc: Assertion failed.' >&2\n"
        "kill -SEGV $$\n"
    )
    fake.chmod(0o755)
    found = run_case("scalar")
    assert isinstance(found, Failure)
    assert found.stage == "run"
    assert "itself failed: translate.c:213" in found.reason


def test_a_plugin_that_does_not_load_is_a_tool_error(
    run_case: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(qemu, "plugin_path", lambda *_: tmp_path / "none.so")
    with pytest.raises(ToolError, match="did not start: .*Could not load plugin"):
        run_case("scalar")


def test_a_file_that_is_no_program_is_a_failure(job_of: Callable[..., Job], tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a program\n")
    text.chmod(0o755)
    result = qemu.QemuRunner().run(dataclasses.replace(job_of("scalar"), program=text))
    assert isinstance(result, Failure)
    assert result.stage == "run"


def test_tool_versions_name_qemu_and_the_plugin() -> None:
    versions = qemu.tool_versions()
    assert versions["qemu-riscv64"][0].isdigit()
    assert len(versions["count plugin"]) == len(versions["timing plugin"]) == 16
    assert versions["count plugin"] != versions["timing plugin"]


def test_without_a_board_qemu_is_the_runner() -> None:
    assert isinstance(runner_for(None), qemu.QemuRunner)

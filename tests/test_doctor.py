"""lrf_dse.doctor: every tool of this project is found here, and a missing or broken one is told, never raised."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrf_dse.doctor import TOOLS, Tool, ToolCheck, checks


def check_one(**how: object) -> ToolCheck:
    (found,) = checks((Tool("tool", "this test", "install it", **how),), timeout_s=10.0)  # type: ignore[arg-type]
    return found


@pytest.fixture
def program(first_on_path: Path) -> Path:
    """An executable `some-tool` on PATH; a test writes its text."""
    path = first_on_path / "some-tool"
    path.write_text("#!/bin/sh\necho 'some-tool version 3.12.1rc2 (by somebody)'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_all_tools_of_this_environment_are_found_and_tell_their_version() -> None:
    found = checks()
    assert [check.name for check in found] == [tool.name for tool in TOOLS]
    assert {check.name: (check.found, check.warning) for check in found} == dict.fromkeys(
        (tool.name for tool in TOOLS), (True, None)
    )
    assert all(check.version and check.version[0].isdigit() for check in found)
    assert all(check.install and check.needed_for for check in found)


def test_tools_of_the_issue_are_listed() -> None:
    names = {tool.name for tool in TOOLS}
    wanted = {"qemu-riscv64", "zig", "iree-compile", "iree-import-onnx", "onnxruntime", "t3f", "tensorflow", "chromium"}
    wanted |= {"rvsim", "ssh", "sshd", "llvm-mca"}
    assert wanted <= names


def test_no_heavy_package_is_imported() -> None:
    code = (
        "import sys; from lrf_dse.doctor import checks; checks();"
        "print([m for m in ('tensorflow', 't3f', 'onnxruntime', 'iree.compiler', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("only_on_path")
def test_a_missing_program_is_told() -> None:
    assert check_one(command=("some-tool", "--version")) == ToolCheck("tool", False, None, "this test", "install it")


def test_a_missing_wheel_or_module_is_told() -> None:
    missing = ToolCheck("tool", False, None, "this test", "install it")
    assert check_one(wheel="no-such-wheel-of-lrf-dse") == missing
    assert check_one(command=(sys.executable, "-m", "no_such_module")) == missing
    assert check_one(command=(sys.executable, "--version"), wheel="no-such-wheel-of-lrf-dse") == missing


@pytest.mark.usefixtures("only_on_path")
def test_every_listed_tool_can_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty Python and an empty PATH: nothing is found and nothing is raised."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr("lrf_dse.doctor._ask", lambda *_: (None, "exit code 1: python: No module named x"))
    assert [check.found for check in checks()] == [False] * len(TOOLS)


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("checked_with", "warning"),
    [
        ("3.12", None),
        (None, None),
        ("3.13", "lrf-dse is checked with 3.13.x, found 3.12.1rc2"),
        ("3.1", "lrf-dse is checked with 3.1.x, found 3.12.1rc2"),
    ],
)
def test_another_release_gives_a_warning(checked_with: str | None, warning: str | None) -> None:
    check = check_one(command=("some-tool", "--version"), checked_with=checked_with)
    assert (check.found, check.version, check.warning) == (True, "3.12.1rc2", warning)


def test_a_program_that_hangs_is_given_up(program: Path) -> None:
    program.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    start = time.monotonic()
    (check,) = checks((Tool("tool", "x", "y", command=("some-tool",)),), timeout_s=0.2)
    assert time.monotonic() - start < 20
    assert (check.found, check.version, check.warning) == (False, None, "did not answer within 0.2 s")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho first >&2; echo 'no such library' >&2; exit 3\n", "exit code 3: no such library"),
        ("#!/no/such/interpreter\n", "some-tool cannot be started (some-tool): No such file or directory"),
        ("#!/bin/sh\nkill -9 $$\n", "some-tool was killed, perhaps for memory"),
    ],
)
def test_a_broken_program_is_told(program: Path, text: str, reason: str) -> None:
    program.write_text(text, encoding="utf-8")
    check = check_one(command=("some-tool",))
    assert (check.found, check.version) == (False, None)
    assert check.warning is not None
    assert check.warning.startswith(reason)


def test_a_program_without_a_version_is_found_and_warned_about(program: Path) -> None:
    program.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    assert check_one(command=("some-tool",)).warning is None
    check = check_one(command=("some-tool",), checked_with="1.0")
    assert (check.found, check.version) == (True, None)
    assert check.warning == "lrf-dse is checked with 1.0.x, found a version that it does not tell"

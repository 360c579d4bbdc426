"""Which external tools are there, in which version, and how to install the ones that are missing.

Owns the list of tools. It asks programs for their version and reads the metadata of wheels; it never imports them
(TensorFlow alone would take seconds), never raises for a missing or broken tool, and installs nothing.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shutil import which

from lrf_dse.builders.iree import SUPPORTED_VERSION
from lrf_dse.errors import ToolError, ToolTimeout
from lrf_dse.farm import Local
from lrf_dse.process import Limit, run


@dataclass(frozen=True)
class ToolCheck:
    """What was found of one tool. `version` is None where the tool is missing or does not tell it.

    `warning` is a text for the user. `needed` says whether explorations and exports need the tool; the others are for
    boards, second opinions and tests.
    """

    name: str
    found: bool
    version: str | None
    needed_for: str
    install: str
    warning: str | None = None
    needed: bool = True


@dataclass(frozen=True)
class Tool:
    """How to find one tool: by a `command` that prints its version, by the metadata of its `wheel`, or by both.

    With both, the command shows that the tool runs and the wheel gives the version. `checked_with` is the release
    that lrf-dse is tested with, as a prefix.
    """

    name: str
    needed_for: str
    install: str
    command: tuple[str, ...] = ()
    wheel: str | None = None
    checked_with: str | None = None
    needed: bool = True


TOOLS: tuple[Tool, ...] = (
    Tool(
        "qemu-riscv64",
        "running and counting riscv64 programs",
        "apt-get install qemu-user",
        command=("qemu-riscv64", "--version"),
        checked_with="7.2",  # its plugin interface, version 1, is what the counting plugin is written against
    ),
    Tool(
        "zig",
        "compiling C for riscv64 and for the host",
        "pip install ziglang",
        command=(sys.executable, "-m", "ziglang", "version"),
    ),
    Tool(
        "iree-compile",
        "compiling models for riscv64",
        f"pip install 'iree-base-compiler[onnx]=={SUPPORTED_VERSION}.*'",
        command=(sys.executable, "-m", "iree.compiler.tools.scripts.iree_compile", "--version"),
        checked_with=SUPPORTED_VERSION,
    ),
    Tool(
        "iree-import-onnx",
        "reading ONNX into the compiler",
        f"pip install 'iree-base-compiler[onnx]=={SUPPORTED_VERSION}.*'",
        command=(sys.executable, "-m", "iree.compiler.tools.import_onnx", "--help"),
        wheel="iree-base-compiler",
        checked_with=SUPPORTED_VERSION,
    ),
    Tool(
        "iree-runtime",
        "checking compiled models on this machine",
        f"pip install 'iree-base-runtime=={SUPPORTED_VERSION}.*'",
        wheel="iree-base-runtime",
        checked_with=SUPPORTED_VERSION,
    ),
    Tool("onnxruntime", "reference outputs and accuracy", "pip install onnxruntime", wheel="onnxruntime"),
    Tool("rvsim", "a second opinion on cycles", "pip install rvsim", wheel="rvsim", checked_with="2.1", needed=False),
    Tool("t3f", "the t3f decomposer", "pip install t3f", wheel="t3f"),
    Tool("tensorflow", "the t3f decomposer", "pip install tensorflow-cpu", wheel="tensorflow-cpu"),
    Tool("ssh", "reaching boards", "apt-get install openssh-client", command=("ssh", "-V"), needed=False),
    Tool(
        "sshd",
        "tests only: a board on loopback",
        "apt-get install openssh-server",
        command=("/usr/sbin/sshd", "-V"),  # not on everybody's PATH
        needed=False,
    ),
    Tool(
        "llvm-mca",
        "benchmarks only: another model of the X60's pipeline",
        "apt-get install llvm-22",
        command=("llvm-mca-22", "--version"),
        checked_with="22.1",
        needed=False,
    ),
    Tool(
        "chromium",
        "tests only: drawing report.html",
        "apt-get install chromium",
        command=("chromium", "--version"),
        needed=False,
    ),
    Tool(
        "strace",
        "tests only: that no command opens a connection",
        "apt-get install strace",
        command=("strace", "-V"),
        needed=False,
    ),
)

# "qemu-riscv64 version 7.2.22", "OpenSSH_9.2p1", "strace -- version 6.1", "2.21.0rc1".
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*\w*")


def checks(tools: Sequence[Tool] = TOOLS, *, timeout_s: float = 20.0) -> tuple[ToolCheck, ...]:
    """One ToolCheck per tool, in the order given. Commands run side by side and may take `timeout_s` each."""
    with Local(4) as pool:
        return tuple(pool.map(lambda tool: _check(tool, timeout_s), tools))


def _check(tool: Tool, timeout_s: float) -> ToolCheck:
    version, problem = None, None
    if tool.command:
        if which(tool.command[0]) is None:
            return _missing(tool)
        version, problem = _ask(tool.command, timeout_s)
    if tool.wheel is not None:
        # `iree-import-onnx --help` shows that it runs and tells no version.
        version = _wheel_version(tool.wheel)
        if version is None:
            return _missing(tool)
    # A module of Python that is not installed is a missing tool; a program of its own that fails is a broken one.
    if problem is not None and tool.command[0] == sys.executable and "No module named" in problem:
        return _missing(tool)
    warning = problem or _version_warning(tool, version)
    return ToolCheck(tool.name, problem is None, version, tool.needed_for, tool.install, warning, tool.needed)


def _missing(tool: Tool) -> ToolCheck:
    return ToolCheck(tool.name, False, None, tool.needed_for, tool.install, needed=tool.needed)


def _ask(command: tuple[str, ...], timeout_s: float) -> tuple[str | None, str | None]:
    """The version that `command` prints, and what is wrong with the tool (None if it works)."""
    try:
        done = run(command, name=command[0], limit=Limit(wall_s=timeout_s))
    except ToolTimeout:
        return None, f"did not answer within {timeout_s:g} s"
    except ToolError as error:
        return None, str(error)
    if done.code != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return None, f"exit code {done.code}: {lines[-1]}"
    match = _VERSION.search(done.stdout) or _VERSION.search(done.stderr)  # ssh says it on standard error
    return (match.group() if match else None), None


def _wheel_version(wheel: str) -> str | None:
    try:
        return importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_warning(tool: Tool, version: str | None) -> str | None:
    if tool.checked_with is None or (version or "").startswith(f"{tool.checked_with}."):
        return None
    return f"lrf-dse is checked with {tool.checked_with}.x, found {version or 'a version that it does not tell'}"

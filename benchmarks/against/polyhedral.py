"""Polyhedral optimisers of plain C loops, as a baseline: clang with Polly, and Pluto's `polycc` where it is installed.

Owns their command lines and the check that loops really were transformed. Debian packages clang-22 (Polly is in it).
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrf_dse.builders.compiling import run_compiler
from lrf_dse.builders.kernel_object import undefined_symbols
from lrf_dse.errors import BuildError, ToolError
from lrf_dse.process import Limit, run
from lrf_dse.target import Target

CLANG, PLUTO = "clang-22", "polycc"
MOST_CPU_S = 300.0
"""Polly takes seconds on these loops; what takes minutes is a failure with that reason."""

FLAGS = ("-O3", "-ffast-math", "-fomit-frame-pointer", "-ffreestanding", "-fno-builtin")
"""Sums may be reordered, as the baseline of plain C may too, and our own kernels do."""

_SCOP_REMARK = "SCoP begins here"


@dataclass(frozen=True)
class TunedMachine:
    """What clang must know of the chip: LLVM's name of the core, and its extensions that the runner lacks."""

    cpu: str | None
    without: tuple[str, ...] = ()


def clang_version() -> str:
    """The version of clang-22, such as "22.1.8". Raises ToolError if it is missing."""
    path = shutil.which(CLANG)
    if path is None:
        raise ToolError(f"{CLANG} not found: install the Debian package clang-22 (apt-get install clang-22)")
    return _version_of(path)


@functools.cache
def _version_of(path: str) -> str:
    said = run([path, "--version"], name=CLANG, limit=Limit(wall_s=60)).stdout
    found = re.search(r"version (\d+(?:\.\d+)+)", said)
    if found is None:
        raise ToolError(f"{path} --version did not name a version: {said.strip()[:200]!r}")
    return found.group(1)


def has_pluto() -> bool:
    """Whether Pluto's `polycc` is on PATH."""
    return shutil.which(PLUTO) is not None


def compile_with_polly(source: Path, target: Target, machine: TunedMachine, options: Sequence[str]) -> Path:
    """Compile `source` through Polly with its `options` ("-polly-..."); the object's path.

    Raises BuildError if Polly found nothing to work on, or the code is the one that clang makes without it.
    """
    remarks = "-Rpass-analysis=polly-scops"
    switches = [word for option in ("-polly", *options) for word in ("-mllvm", option)]
    built, scops = _compile(source, target, machine, [*switches, remarks], name="polly")
    if scops == 0:
        raise BuildError("Polly found no static control part in the loops")
    plain, _ = _compile(source, target, machine, (), name="plain")
    if built.read_bytes() == plain.read_bytes():
        raise BuildError("Polly left the loops as they are: this is clang's own code")
    return built


def compile_with_pluto(source: Path, target: Target, machine: TunedMachine, options: Sequence[str]) -> Path:
    """Transform `source` with Pluto's `options`, then compile it with clang; the object's path.

    Raises BuildError, ToolError if Pluto is missing.
    """
    if not has_pluto():
        raise ToolError(f"{PLUTO} not found: install Pluto and put its {PLUTO} on PATH")
    transformed = source.parent / "pluto" / source.name  # an object holds its source's name: the same for both
    transformed.parent.mkdir(exist_ok=True)
    command = [PLUTO, *options, source.name, "-o", str(transformed)]
    run_compiler(command, name=PLUTO, cwd=source.parent, cpu_s=MOST_CPU_S)
    built, _ = _compile(transformed, target, machine, (), name="pluto")
    plain, _ = _compile(source, target, machine, (), name="plain")
    if built.read_bytes() == plain.read_bytes():
        raise BuildError("Pluto left the loops as they are")
    return built


def _compile(
    source: Path, target: Target, machine: TunedMachine, flags: Sequence[str], *, name: str
) -> tuple[Path, int]:
    """Compile `source` into NAME.o beside it; its path, and how many static control parts Polly found.

    Raises BuildError, also where the object needs a symbol from elsewhere.
    """
    clang_version()
    built = source.with_name(f"{name}.o")
    options = [*_machine_flags(target, machine), *FLAGS, *flags]
    command = [CLANG, *options, "-c", source.name, "-o", built.name]
    said = run_compiler(command, name=CLANG, cwd=source.parent, cpu_s=MOST_CPU_S)
    if missing := undefined_symbols(built.read_bytes()):
        raise BuildError(f"{built}: the compiled loops need {', '.join(missing)} from elsewhere")
    return built, said.count(_SCOP_REMARK)


def _machine_flags(target: Target, machine: TunedMachine) -> list[str]:
    which = [f"-march={target.isa.march}"]
    if machine.cpu is not None:
        which = [f"-mcpu={machine.cpu}"]
        which += [word for e in machine.without for word in ("-Xclang", "-target-feature", "-Xclang", f"-{e}")]
    return ["--target=riscv64-linux-musl", *which, f"-mabi={target.iree.abi}", "-mcmodel=medany"]

"""Polyhedral optimisers of plain C loops, as a baseline: clang with Polly, and Pluto's `polycc` where it is installed.

Owns their command lines and the check that loops really were transformed. Debian packages clang-22 (Polly is in it).
"""

from __future__ import annotations

import functools
import hashlib
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

_SCOP, _LATER = "#pragma scop", "/* a nest for later */"
_SCOP_END, _LATER_END = "#pragma endscop", "/* end of the nest for later */"

PLUTO_HEADERS = {"math.h": "#define ceil(x) __builtin_ceil(x)\n#define floor(x) __builtin_floor(x)\n", "omp.h": ""}
"""What Pluto's output includes, and the bare target has no headers for: clang computes both functions in line."""


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


def pluto_version() -> str | None:
    """The version of Pluto's `polycc`, such as "0.12.0"; None where it is not on PATH.

    polycc is a script that hands its arguments on: one that names no version is known by its content.
    """
    path = shutil.which(PLUTO)
    return None if path is None else _pluto_version_of(path, Path(path).stat().st_mtime_ns)


@functools.cache
def _pluto_version_of(path: str, changed_ns: int) -> str:
    del changed_ns  # a script that was replaced is asked again
    answer = run([path, "--version"], name=PLUTO, limit=Limit(wall_s=60))
    found = re.search(r"version (\d+(?:\.\d+)+\S*)", answer.stdout + answer.stderr, re.IGNORECASE)
    return found.group(1) if found else f"script {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}"


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
    """Transform every marked nest of `source` with Pluto's `options`, then compile it with clang; the object's path.

    Pluto gets one nest at a time: its script finds its place in a file by the only `#pragma scop` there. Its front end
    takes no declaration inside a nest. Raises BuildError, ToolError if Pluto is missing.
    """
    if pluto_version() is None:
        raise ToolError(f"{PLUTO} not found: install Pluto and put its {PLUTO} on PATH")
    folder = source.parent / "pluto"
    folder.mkdir(exist_ok=True)
    text = source.read_text(encoding="utf-8")
    for number in range(text.count(_SCOP)):
        text = _transformed(text, folder / f"nest{number}", source.name, options)
    transformed = folder / source.name  # an object holds its source's name: the same for both
    transformed.write_text(text, encoding="utf-8")
    headers = folder / "headers"
    headers.mkdir(exist_ok=True)
    for name, content in PLUTO_HEADERS.items():
        (headers / name).write_text(content, encoding="utf-8")
    built, _ = _compile(transformed, target, machine, ("-isystem", str(headers.resolve())), name="pluto")
    plain, _ = _compile(source, target, machine, (), name="plain")
    if built.read_bytes() == plain.read_bytes():
        raise BuildError("Pluto left the loops as they are")
    return built


def _transformed(text: str, folder: Path, name: str, options: Sequence[str]) -> str:
    """`text` with its first marked nest as Pluto writes it; the marks of the others are kept. Raises BuildError."""
    folder.mkdir(exist_ok=True)
    first, end, rest = text.partition(_SCOP_END)
    rest = rest.replace(_SCOP_END, _LATER_END).replace(_SCOP, _LATER)
    (folder / name).write_text(first + end + rest, encoding="utf-8")
    written = folder / f"pluto.{name}"
    command = [PLUTO, *options, name, "-o", written.name]
    run_compiler(command, name=PLUTO, cwd=folder, cpu_s=MOST_CPU_S)
    try:
        made = written.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{PLUTO} wrote no {written}: {error.strerror}") from error
    # Some versions leave the marks of the nest where they were.
    made = made.replace(_SCOP_END, "").replace(_SCOP, "")
    return made.replace(_LATER_END, _SCOP_END).replace(_LATER, _SCOP)


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

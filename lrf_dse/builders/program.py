"""Build what runs on the target: an ONNX model becomes a .vmfb and a static riscv64 Linux program.

Both hold the same kernel image. Builder is the role (one method); BUILDERS is its registry.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.host import FIXED_SOURCES, emit_host
from lrf_dse.builders.iree import assemble_vmfb, compile_to_hal, import_onnx, iree_version
from lrf_dse.builders.schedule import Schedule
from lrf_dse.builders.zig import zig_cc, zig_version
from lrf_dse.errors import BuildError
from lrf_dse.resources import data_dir
from lrf_dse.schema import Artifact
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

_TOOLCHAIN_GLOBS = ("host/*.c", "host/*.h")

_HOST_MCPU = "generic_rv64+m+a+f+d+c"
"""No vector instructions outside the kernels: the host and its libc must work well enough on a machine with short
vectors, or none, to refuse it. (With zvl256b, clang's memcpy garbled that very message on VLEN 128.)"""


@dataclass(frozen=True)
class BuiltProgram:
    """The program, the module it was made from, and the schedule that it replays."""

    program: Artifact
    vmfb: Artifact
    schedule: Schedule


class Builder(Protocol):
    """Makes a program of a model for a target, in a folder of its own. Raises BuildError."""

    def __call__(self, model: onnx.ModelProto, target: Target, work_dir: Path) -> BuiltProgram:
        """The program and module of `model`, in `work_dir`."""
        ...


def build_with_iree(model: onnx.ModelProto, target: Target, work_dir: Path) -> BuiltProgram:
    """Compile `model` with IREE and wrap its schedule into a static program. Raises BuildError."""
    hal_path = compile_to_hal(import_onnx(model, work_dir), target)
    schedule = read_schedule(hal_path.read_text(encoding="utf-8"))
    vmfb_path = assemble_vmfb(hal_path, target)
    program_path = link_program(schedule, target, work_dir, title=model.graph.name)
    versions = tool_versions()
    return BuiltProgram(_artifact(program_path, versions), _artifact(vmfb_path, versions), schedule)


BUILDERS: dict[str, Builder] = {"iree": build_with_iree}


def link_program(schedule: Schedule, target: Target, work_dir: Path, *, title: str) -> Path:
    """Write the host sources of `schedule` into `work_dir` and link them statically; the program's path."""
    sources = emit_host(schedule, title=title, required_vlen_bits=target.isa.vlen_bits or 0)
    (work_dir / "model.c").write_text(sources.model_c, encoding="utf-8")
    (work_dir / "blobs.S").write_text(sources.blobs_s, encoding="utf-8")
    for name, data in sources.blobs.items():
        (work_dir / name).write_bytes(data)
    host = data_dir("toolchain") / "host"
    program = work_dir.resolve() / "model-riscv64"  # the linker runs in work_dir
    zig_cc(
        [
            *("-target", "riscv64-linux-musl", f"-mcpu={_HOST_MCPU}", "-mcmodel=medany"),
            *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-ffunction-sections"),
            # Zig's default sanitizers trap on patterns that are legal here and cost code size.
            "-fno-sanitize=all",
            *("-Wl,--gc-sections", f"-I{host}"),
            *("model.c", "blobs.S", *(str(host / name) for name in FIXED_SOURCES)),
            *("-o", str(program)),
        ],
        cwd=work_dir,
    )
    return program


def tool_versions() -> dict[str, str]:
    """Versions of everything that decides what a built program does, for records and content keys."""
    return {"iree": iree_version(), "zig": zig_version(), "host": _host_digest()}


def _host_digest() -> str:
    """A hash of the C host's sources: another host is another tool."""
    root = data_dir("toolchain")
    paths = sorted(path for pattern in _TOOLCHAIN_GLOBS for path in root.glob(pattern))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _artifact(path: Path, versions: dict[str, str]) -> Artifact:
    try:
        return Artifact(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), versions)
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error

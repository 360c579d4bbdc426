"""Link generated host sources and the fixed part in toolchain/host/ into a static riscv64 Linux program.

The module owns the flags of every such program, whatever its generated part is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lrf_dse.builders.host import emit_host
from lrf_dse.builders.host_objects import host_dir, host_objects
from lrf_dse.builders.schedule import Schedule
from lrf_dse.builders.zig import zig_cc
from lrf_dse.process.spending import spent_on
from lrf_dse.target import Target

SCALAR_MCPU = "generic_rv64+m+a+f+d+c"
"""No vector instructions outside the kernels: the host and its libc must work well enough on a machine with short
vectors, or none, to refuse it. (With zvl256b, clang's memcpy garbled that very message on VLEN 128.)"""

_CORE_SOURCES = ("fail.c", "image.c", "loader.c", "dispatch.c", "pool.c")
FIXED_SOURCES = ("main.c", "board.c", "bundle.c", "check.c", "sha256.c", *_CORE_SOURCES)
"""The C files of toolchain/host/ that every program shares."""
PACK_SOURCES = ("pack.c", *_CORE_SOURCES)
"""The same for the program that runs only what is done at load."""

# Sections for each function let --gc-sections drop what a model does not call.
_FLAGS = (
    *("-target", "riscv64-linux-musl", f"-mcpu={SCALAR_MCPU}", "-mcmodel=medany"),
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections"),
    # Zig's default sanitizers trap on patterns that are legal here and cost code size.
    "-fno-sanitize=all",
)


def link_program(
    schedule: Schedule,
    target: Target,
    work_dir: Path,
    *,
    title: str,
    name: str = "model-riscv64",
    sources: Sequence[str] = FIXED_SOURCES,
) -> Path:
    """Write the host sources of `schedule` into `work_dir` and link them statically; the path of the program."""
    generated = emit_host(schedule, title=title, required_vlen_bits=target.isa.vlen_bits or 0)
    (work_dir / "model.c").write_text(generated.model_c, encoding="utf-8")
    (work_dir / "blobs.S").write_text(generated.blobs_s, encoding="utf-8")
    for blob, data in generated.blobs.items():
        (work_dir / blob).write_bytes(data)
    return link_static(("model.c", "blobs.S"), work_dir, name=name, fixed=sources)


def link_static(files: Sequence[str], work_dir: Path, *, name: str, fixed: Sequence[str] = FIXED_SOURCES) -> Path:
    """Link sources and objects, named as seen from `work_dir`, with those of toolchain/host/ that `fixed` names.

    The path of the program, `name` in `work_dir`. Raises BuildError.
    """
    program = work_dir.resolve() / name  # the linker runs in work_dir
    with spent_on("link"):
        fixed_objects = [str(path) for path in host_objects(fixed, _FLAGS)]
        linked = ("-static", "-s", "-Wl,--gc-sections", *files, *fixed_objects)
        zig_cc([*_FLAGS, f"-I{host_dir()}", *linked, "-o", str(program)], cwd=work_dir)
    return program

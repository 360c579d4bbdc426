"""Build what runs on the target: an ONNX model becomes a static riscv64 Linux program and, where asked for, a .vmfb.

Both hold the same kernel image. Builder is the role (one method); BUILDERS is its registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.importing import import_model, riscv_machine
from lrf_dse.builders.iree import assemble_vmfb, compile_to_hal, iree_version
from lrf_dse.builders.kernel_calls import tolerance_of
from lrf_dse.builders.linking import link_program
from lrf_dse.builders.origin import origin_of
from lrf_dse.builders.packing import pack_at_build
from lrf_dse.builders.schedule import Schedule
from lrf_dse.builders.zig import zig_version
from lrf_dse.errors import BuildError, ScheduleError
from lrf_dse.resources import data_dir
from lrf_dse.schema import Artifact
from lrf_dse.sealed import sources_digest
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

_TOOLCHAIN_GLOBS = ("host/*.c", "host/*.h")


@dataclass(frozen=True)
class BuiltProgram:
    """The program, the HAL IR that it was made from, and the schedule that it replays."""

    program: Artifact
    hal: Path
    schedule: Schedule
    target: Target

    def module(self) -> Artifact:
        """Make the .vmfb with the same kernel image; measuring a program needs none. Raises BuildError."""
        return _artifact(assemble_vmfb(self.hal, self.target), self.program.tool_versions)


class Builder(Protocol):
    """Makes a program of a model for a target, in a folder of its own. Raises BuildError."""

    def __call__(self, model: onnx.ModelProto, target: Target, work_dir: Path) -> BuiltProgram:
        """The program of `model`, in `work_dir`."""
        ...


def build_with_iree(
    model: onnx.ModelProto, target: Target, work_dir: Path, *, flags: Sequence[str] = ()
) -> BuiltProgram:
    """Compile `model` with IREE and wrap its schedule into a static program. Raises BuildError.

    Calls of generated kernels (`lrf_dse.models.kernel_call`) become dispatches of the same module.
    """
    mlir_path = import_model(model, target, riscv_machine(target, flags), work_dir)
    hal_path, read = _scheduled(mlir_path, target, flags)
    # The tolerance is a matter of the model's kernels; the HAL IR does not show what they round.
    schedule = replace(pack_at_build(read, target, work_dir), tolerance=tolerance_of(model, target))
    program_path = link_program(schedule, target, work_dir, title=model.graph.name)
    return BuiltProgram(_artifact(program_path, tool_versions()), hal_path, schedule, target)


def _scheduled(mlir_path: Path, target: Target, flags: Sequence[str]) -> tuple[Path, Schedule]:
    """The HAL IR and the schedule in it. Raises BuildError, which names the ONNX node where that is known."""
    try:
        hal_path = compile_to_hal(mlir_path, target, flags=flags)
    except BuildError as error:
        raise BuildError(f"{error}{origin_of(str(error), mlir_path)}") from error
    try:
        return hal_path, read_schedule(hal_path.read_text(encoding="utf-8"))
    except ScheduleError as error:
        # Where operations come from is in the text on request only: it would be in every module then.
        compile_to_hal(mlir_path, target, flags=[*flags, "--mlir-print-debuginfo"])
        raise ScheduleError(f"{error}{origin_of(_location(hal_path), mlir_path)}") from error


def _location(hal_path: Path) -> str:
    """Where the operation stands that makes the text at `hal_path` no schedule."""
    try:
        read_schedule(hal_path.read_text(encoding="utf-8"))
    except ScheduleError as error:
        return error.location
    return ""


BUILDERS: dict[str, Builder] = {
    "iree": build_with_iree,
    "iree-tiled": partial(build_with_iree, flags=("--iree-opt-data-tiling",)),
}
"""By name. Data tiling packs weights and states for the kernels: 4.5 times faster where rows of weights would else be
strided through DRAM (dense 784x300), slower on small layers. Neither is always better, so both are tried."""


def tool_versions() -> dict[str, str]:
    """Versions of everything that decides what a built program does, for records and content keys."""
    return {"iree": iree_version(), "zig": zig_version(), "host": _host_digest()}


def _host_digest() -> str:
    """A hash of the C host's sources and of this room's: another host, flag or emitter is another tool."""
    root = data_dir("toolchain")
    paths = [path for pattern in _TOOLCHAIN_GLOBS for path in root.glob(pattern)]
    # All of them, comments too: a figure that is measured once too often is better than one of another program.
    paths += Path(__file__).parent.glob("*.py")
    return sources_digest(sorted(paths))


def _artifact(path: Path, versions: Mapping[str, str]) -> Artifact:
    try:
        return Artifact(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), dict(versions))
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error

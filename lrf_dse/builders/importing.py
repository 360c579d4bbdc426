"""Import a model into IREE's compiler, generated kernels included: ONNX -> MLIR text with objects beside it.

The module decides for which machine kernels are emitted and compiled: a target, or the machine that this runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.builders.dispatches import entry_points, insert_dispatches
from lrf_dse.builders.iree import executable_target, host_flags, import_onnx, target_flags
from lrf_dse.builders.kernel_calls import KERNEL, Emitter, detach_kernels
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.builders.nan_kept import with_nan_kept
from lrf_dse.codegen import KernelCode, KernelSchedule, KernelSpec, emit, emit_scalar
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Machine:
    """What code is made for: the flags of iree-compile, how kernels are written, and the target they are compiled for.

    `target` is None for the machine that this runs on.
    """

    iree_flags: tuple[str, ...]
    emit: Emitter
    target: Target | None


def riscv_machine(target: Target, flags: Sequence[str] = ()) -> Machine:
    """`target`, with more `flags` for iree-compile."""
    return Machine((*target_flags(target), *flags), partial(_emit, target=target), target)


def this_machine() -> Machine:
    """The machine that this runs on: plain C with the packing and scratch of any target's kernels."""
    return Machine(tuple(host_flags()), _emit_scalar, None)


def import_model(model: onnx.ModelProto, target: Target, machine: Machine, work_dir: Path) -> Path:
    """`model` as MLIR in `work_dir`, every call of a kernel replaced by dispatches for `machine`; the file's path.

    Calls without a schedule take the default one of `target`. Raises BuildError.
    """
    detached = detach_kernels(model, target, machine.emit)
    # Here and not in the exported model: only IREE's compiler drops a NaN.
    mlir_path = import_onnx(with_nan_kept(detached.model), work_dir)
    if detached.calls:
        objects = [
            compile_generated(code.source + entry_points(code), machine.target, work_dir, name=f"{KERNEL}{number}")
            for number, code in enumerate(detached.kernels)
        ]
        # Letter for letter what the compiler makes of these flags (see dispatches).
        device = executable_target(machine.iree_flags)
        insert_dispatches(mlir_path, detached, objects=objects, executable_target=device)
    return mlir_path


def _emit(spec: KernelSpec, schedule: KernelSchedule, name: str, *, target: Target) -> KernelCode:
    return emit(spec, schedule, target, name=name)


def _emit_scalar(spec: KernelSpec, schedule: KernelSchedule, name: str) -> KernelCode:
    return emit_scalar(spec, schedule, name=name)

"""C source of a kernel for a target: with vector instructions where it has them."""

from __future__ import annotations

from lrf_dse.codegen.abi import KernelCode
from lrf_dse.codegen.rvv import emit_rvv
from lrf_dse.codegen.schedule import KernelSchedule
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.target import Target


def emit(spec: KernelSpec, schedule: KernelSchedule, target: Target, *, name: str) -> KernelCode:
    """The kernel of `schedule`, NAME in C. Raises ValueError if the schedule does not fit."""
    return emit_rvv(spec, schedule, target, name=name)

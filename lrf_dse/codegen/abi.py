"""The result of the generator: C source, how to call it, and the sizes it needs.

ABI of every phase function:

    void NAME(const float *x, const float *weights, float *scratch, float *y, size_t group)

x [batch, in], y [batch, out], `weights` as `lrf_dse.codegen.packing` lays them out, whatever their storage, `scratch`
uninitialised; all are aligned to 64 bytes. `group` counts the phase's workgroups, which may run at the same time;
phases follow each other.
It touches nothing else, calls nothing, has no globals and takes less than 4 KiB of stack.
"""

from __future__ import annotations

from dataclasses import dataclass

PARAMETERS = "const float *x, const float *weights, float *scratch, float *y, size_t group"
"""The parameters of every phase function."""


@dataclass(frozen=True)
class Phase:
    """One function, to be called for every group < `workgroups`; a barrier separates phases."""

    function: str
    workgroups: int = 1


@dataclass(frozen=True)
class KernelCode:
    """One C translation unit and what its caller must know."""

    source: str
    phases: tuple[Phase, ...]
    weight_bytes: int
    scratch_bytes: int

"""The result of the generator: C source, how to call it, and the sizes it needs.

ABI of every phase function:

    void NAME(const float *x, const float *weights, float *scratch, float *y, size_t group)

x [batch, in], y [batch, out], `weights` as `lrf_dse.codegen.packing` lays them out, whatever their storage, `scratch`
uninitialised; all are aligned to 64 bytes. `group` counts the phase's workgroups, which may run at the same time;
phases follow each other.
It touches nothing else, calls nothing, has no globals and takes less than 4 KiB of stack.

A kernel that widens its weights at load has one function more, of the same parameters, to be called once before all:
it reads the packed weights of the artifact and writes, as its y, the copy that its phases take for `weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

# One prototype for all phases: whatever calls kernels (dispatches, programs, the C library) needs no table of
# signatures.
PARAMETERS = "const float *x, const float *weights, float *scratch, float *y, size_t group"
"""The parameters of every phase function."""


LOAD = "_load"
"""What the name of the function that is called at load ends in."""


@dataclass(frozen=True)
class Phase:
    """One function, to be called for every group < `workgroups`; a barrier separates phases."""

    function: str
    workgroups: int = 1


@dataclass(frozen=True)
class KernelCode:
    """One C translation unit and what its caller must know.

    `load` makes the copy of `copy_bytes` in RAM that the phases read; without one they read the packed weights.
    """

    source: str
    phases: tuple[Phase, ...]
    weight_bytes: int
    scratch_bytes: int
    load: Phase | None = None
    copy_bytes: int = 0

    @property
    def functions(self) -> tuple[Phase, ...]:
        """Everything that a program links: the phases, and what is called at load."""
        return self.phases if self.load is None else (*self.phases, self.load)

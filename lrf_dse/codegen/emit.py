"""C source of a kernel: with vector instructions, or plain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lrf_dse.codegen.abi import KernelCode
from lrf_dse.codegen.copying import with_load
from lrf_dse.codegen.loops import stage_function
from lrf_dse.codegen.microkernel import MACROS
from lrf_dse.codegen.phases import emit_phases
from lrf_dse.codegen.scalar import MACROS as SCALAR_MACROS
from lrf_dse.codegen.scalar import scalar_stage_function
from lrf_dse.codegen.schedule import KernelSchedule
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.stream_code import MACROS as STREAM
from lrf_dse.codegen.stream_pass import MACROS as PASS
from lrf_dse.codegen.stream_state import MACROS as STATE
from lrf_dse.codegen.widening import HALF_TO_FLOAT
from lrf_dse.codegen.widening import MACROS as WIDENING
from lrf_dse.target import Target


def emit(spec: KernelSpec, schedule: KernelSchedule, target: Target, *, name: str) -> KernelCode:
    """The kernel of `schedule`, NAME in C, with vectors where `target` has them.

    The text compiles with clang for RISC-V: vector instructions are asm statements
    (lrf_dse/codegen/microkernel.py says why). Raises ValueError if the schedule does not fit.
    """
    if target.isa.vlen_bits is None:
        return emit_scalar(spec, schedule, name=name)
    function = partial(stage_function, lanes=schedule.lanes, target=target)
    head: tuple[str, ...] = ("#include <stddef.h>", "", MACROS)
    # A kernel without streams and few bits stays short: it gets none of their macros.
    if spec.few_bits or any(how.vector == "stream" for how in schedule.stages):
        head = (*head, WIDENING, HALF_TO_FLOAT, STREAM, PASS, STATE)
    code = emit_phases(spec, schedule, function, head=head, name=name, lanes=schedule.lanes)
    return with_load(code, spec, schedule, name=name) if schedule.copied else code


def emit_scalar(spec: KernelSpec, schedule: KernelSchedule, *, name: str) -> KernelCode:
    """The kernel of `schedule` in plain C for any machine, with the ABI, weights, scratch and phases of `emit`.

    Raises ValueError if the schedule does not fit.
    """
    # Plain C multiplies in single precision on every machine.
    schedule = replace(schedule, stages=tuple(replace(how, in_half=False) for how in schedule.stages))
    head = ("#include <stddef.h>", "", SCALAR_MACROS, *((HALF_TO_FLOAT,) if spec.few_bits else ()))
    code = emit_phases(spec, schedule, scalar_stage_function, head=head, name=name)
    return with_load(code, spec, schedule, name=name) if schedule.copied else code

"""Weights in few bits widened once, when a program loads, into the copy in RAM that a kernel then reads as fp32.

The packed weights lie in the order of the copy, panel after panel: reading and writing go on side by side. The text is
plain C on every chip: it runs once, and its cycles are in no figure of an inference.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lrf_dse.codegen.abi import LOAD, PARAMETERS, KernelCode, Phase
from lrf_dse.codegen.packing import PackedStage, PackedWeights, packed_weights
from lrf_dse.codegen.plan import StagePlan, stage_plans
from lrf_dse.codegen.scalar_widening import widened_panel
from lrf_dse.codegen.schedule import KernelSchedule, computed_spec
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.text import indented, loop, runs
from lrf_dse.codegen.widening import panel_function, panel_functions
from lrf_dse.cost.counts import FP32_BYTES

_COPY = """\
/* What is stored in fp32 goes into the copy as it is. */
static inline __attribute__((unused)) void copy_words(const float *from, float *to, size_t count)
{
  for (size_t i = 0; i < count; i++)
    to[i] = from[i];
}
"""


def copy_bytes(spec: KernelSpec, schedule: KernelSchedule) -> int:
    """What the copy of a kernel's weights takes in RAM; 0 where it reads them as they are stored."""
    return FP32_BYTES * packed_weights(computed_spec(spec, schedule), schedule).floats if schedule.copied else 0


def with_load(code: KernelCode, spec: KernelSpec, schedule: KernelSchedule, *, name: str) -> KernelCode:
    """`code`, whose phases read fp32, with the function NAME_load that makes their copy of the packed weights."""
    load = Phase(f"{name}{LOAD}")
    head = f"void {load.function}({PARAMETERS})"
    # It has the parameters of a phase, so that one type of pointer calls both, and uses two of them.
    body = ["(void)x, (void)scratch, (void)group;", *_loading(spec, schedule)]
    lines = [*_functions(spec, schedule), f"{head};", head, "{", *indented(body), "}", ""]
    stored = FP32_BYTES * packed_weights(spec, schedule).floats
    source = "\n".join([code.source, *lines])
    # `code` was made for weights in fp32: its weight_bytes are those of the copy.
    return replace(code, source=source, weight_bytes=stored, load=load, copy_bytes=code.weight_bytes)


def _functions(spec: KernelSpec, schedule: KernelSchedule) -> list[str]:
    """The C functions that `_loading` calls."""
    lines = [_COPY]
    for plan in _stored(spec, schedule):
        lines += [] if plan.storage == "fp32" else panel_functions(plan, partial(widened_panel, plan))
    return lines


def _loading(spec: KernelSpec, schedule: KernelSchedule) -> list[str]:
    """The body of the function that widens the packed `weights` into the copy `y`."""
    # The same schedule gives both layouts, so their panels have the same order and the pointers never go back.
    stored, copy = packed_weights(spec, schedule), packed_weights(computed_spec(spec, schedule), schedule)
    lines: list[str] = []
    for plan, there in zip(_stored(spec, schedule), copy.stages, strict=True):
        lines += ["{", *indented(_stage(plan, there)), "}"]
    return [*lines, *_bias(stored, copy, spec.out_features)]


def _stored(spec: KernelSpec, schedule: KernelSchedule) -> list[StagePlan]:
    return stage_plans(spec, schedule, packed_weights(spec, schedule))


def _stage(plan: StagePlan, there: PackedStage) -> list[str]:
    """Every panel of every slice, in the order of both arrays."""
    here = plan.packed
    start = [f"const unsigned char *from = (const unsigned char *)(weights + {here.offset});"]
    start += [f"float *to = y + {there.offset};"]
    if plan.storage == "fp32":
        return [*start, f"copy_words((const float *)from, to, {there.floats});"]
    panels: list[str] = []
    for width, count in runs(panel.width for panel in here.panels):
        step = [
            f"{panel_function(plan, width)}(from, to);",
            f"from += {here.panel_bytes(width)};",
            f"to += {here.slice_k * width};",
        ]
        panels += [f"for (size_t p = 0; p < {count}; p++) {{", *indented(step), "}"]
    return start + loop("block", here.blocks, loop("ks", here.slices, panels))


def _bias(stored: PackedWeights, copy: PackedWeights, count: int) -> list[str]:
    if stored.bias is None or copy.bias is None:
        return []
    return [f"copy_words(weights + {stored.bias}, y + {copy.bias}, {count});"]

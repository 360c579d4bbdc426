"""A whole kernel as C: the functions of its stages, and around them the phases that call them.

How a stage is computed is not known here (lrf_dse/codegen/loops.py with vectors, lrf_dse/codegen/scalar.py without).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lrf_dse.codegen.abi import PARAMETERS, KernelCode, Phase
from lrf_dse.codegen.blocks import block_calls, move_function
from lrf_dse.codegen.plan import KernelPlan, StagePlan, kernel_plan
from lrf_dse.codegen.schedule import KernelSchedule
from lrf_dse.codegen.spec import KernelSpec
from lrf_dse.codegen.text import Term, at, indented, loop

FP32_BYTES = 4


def stage_parameters(plan: StagePlan) -> list[str]:
    """The parameters of the function stage_N: state, weights, output, then what the stage needs besides."""
    parameters = ["const float *s", "const float *w", "float *out"]
    parameters += ["const float *bias"] if plan.has_bias else []
    parameters += ["int first"] if plan.called_in_slices else []
    parameters += ["int last"] if plan.called_in_slices and plan.finish else []
    parameters += ["float *work"] if plan.work_floats else []
    return parameters + (["size_t group"] if plan.groups > 1 else [])


def stage_code(plan: StagePlan, title: str, body: Sequence[str]) -> list[str]:
    """The function stage_N with `body`; `title` says what it computes."""
    return [
        f"/* Stage {plan.number}: {title}. */",
        f"static void stage_{plan.number}({', '.join(stage_parameters(plan))})",
        "{",
        *indented(body),
        "}",
    ]


def one_column(plan: StagePlan) -> str:
    """What a stream computes, in words."""
    return f"S' [{plan.rows}] = A [{plan.rows}, {plan.k}] S, {plan.storage}"


def emit_phases(
    spec: KernelSpec,
    schedule: KernelSchedule,
    stage_function: Callable[[StagePlan], list[str]],
    *,
    head: Sequence[str],
    name: str,
    lanes: int = 1,
) -> KernelCode:
    """The kernel NAME; with several threads NAME_1, NAME_2, ..., one phase for each stage.

    `stage_function` writes stage_N with `stage_parameters`; `head` comes before all. With `lanes` vectors move what
    must be moved between stages. Raises ValueError.
    """
    plan = kernel_plan(spec, schedule)
    if spec.threads == 1:
        phases = {Phase(name, 1): _all_stages(plan)}
    else:
        calls = [_stage_calls(plan, stage, spec.threads) for stage in plan.stages]
        phases = {Phase(f"{name}_{n}", spec.threads): call for n, call in enumerate(calls, start=1)}
    lines = [f"/* {_title(spec)}.", f" * {schedule}. */", *head, ""]
    if plan.moved is not None:
        lines += [*move_function(plan.moved, lanes), ""]
    for stage in plan.stages:
        lines += [*stage_function(stage), ""]
    for phase, body in phases.items():
        function = f"void {phase.function}({PARAMETERS})"
        # A phase seldom uses all of its parameters, which compilers would warn of.
        unused = "  (void)x, (void)scratch, (void)y, (void)group;"
        lines += [f"{function};", function, "{", unused, *indented(body), "}", ""]
    return KernelCode("\n".join(lines), tuple(phases), plan.weight_bytes, FP32_BYTES * plan.scratch_floats)


def _title(spec: KernelSpec) -> str:
    layer = f"y [{spec.batch}, {spec.out_features}] from x [{spec.batch}, {spec.in_features}]"
    return f"{layer}, {spec.shape or 'dense'}" + (f", {spec.threads} threads" if spec.threads > 1 else "")


def _all_stages(plan: KernelPlan) -> list[str]:
    """Every stage once, or once for every slice."""
    together = plan.stages[: plan.fused] if plan.slices > 1 else ()
    rest = plan.stages[len(together) :]
    return loop("slice", plan.slices, _run(plan, together)) * bool(together) + _run(plan, rest)


def _run(plan: KernelPlan, stages: Sequence[StagePlan]) -> list[str]:
    """`stages` one after the other, the last two of the kernel over slices of the rank between them."""
    if any(stage.by_row for stage in stages):
        return [line for stage in stages for line in _stage_calls(plan, stage, 1)]
    calls = [_call(plan, stage) for stage in stages]
    if plan.rank_slices > 1 and stages and stages[-1] is plan.stages[-1]:
        # The last but one stage gives one slice of the rank, the last one adds what it makes of that slice to y.
        calls[-2:] = loop("rank", plan.rank_slices, calls[-2:])
    return calls


def _stage_calls(plan: KernelPlan, stage: StagePlan, threads: int) -> list[str]:
    """All calls of a stage that runs in no slices: one, or one for each block and row of x."""
    return block_calls(plan, stage, threads) if stage.by_row else [_call(plan, stage)]


def _call(plan: KernelPlan, stage: StagePlan) -> str:
    """The call of one stage, with the pointers of its slice."""
    index, last = stage.number - 1, len(plan.stages)
    # Only x (read by the first stage) and the state that leaves the slices move on with the slice: the states between
    # two fused stages are written again in every slice, which is what keeps them in a near cache.
    together = plan.fused if plan.slices > 1 else 0
    in_slice: Term = ("slice", stage.in_floats, plan.slices if stage.number == 1 and together else 1)
    out_slice: Term = ("slice", stage.out_floats, plan.slices if stage.number == together else 1)
    source = at("x", in_slice) if index == 0 else at("scratch", ("", plan.states[index - 1], 1))
    result = at("y", out_slice) if stage.number == last else at("scratch", ("", plan.states[index], 1), out_slice)
    slices = plan.rank_slices if stage.number >= last - 1 else 1
    weights = at("weights", ("", stage.packed.offset, 1), ("rank", stage.slice_floats, slices))
    arguments = [source, weights, result]
    arguments += [at("weights", ("", plan.bias or 0, 1))] if stage.has_bias else []
    arguments += ["rank == 0"] if stage.called_in_slices else []
    arguments += [f"rank == {plan.rank_slices - 1}"] if stage.called_in_slices and stage.finish else []
    if stage.work_floats:
        arguments += [at("scratch", ("", plan.work, 1), ("group", plan.work_floats, stage.groups))]
    return f"stage_{stage.number}({', '.join(arguments + ['group'] * (stage.groups > 1))});"

"""What nobody has published of a chip: the cycles of the plans that matter under every switch of its timing model.

The program of a plan is gone by the time that one is chosen, and is built again: of many plans two are swept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.kernels import schedules_from_json
from lrf_dse.pipeline.keys import sweep_key
from lrf_dse.pipeline.plans import golden_inputs, plan_task
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.schema import Measurement, Plan


def with_sweeps(x: Exploration, plans: Sequence[Plan], chosen: str | None) -> tuple[Plan, ...]:
    """The plans, the reference and the `chosen` one with their `sweep`; on a board, or without a model, as they are."""
    swept = [plan for plan in plans if plan.is_reference or plan.id == chosen]
    if x.settings.board is not None or not x.target.has_timing:
        return tuple(plans)
    inputs, tasks = golden_inputs(x), {}
    for plan in swept:
        task = plan_task(x, plan.choices, schedules_from_json(plan.schedules), inputs, builders=(plan.builder,))
        # Without a switch it was measured before; only the switches remain.
        measured = recorded(x.store, task.key, Measurement)
        if measured is not None:
            tasks[plan.id] = replace(task, key=sweep_key(task.key, plan.builder), kind="sweep", swept=measured)
    outcomes = x.measure("sweep the timing model", list(tasks.values()))
    found = {name: outcomes[task.key] for name, task in tasks.items()}
    return tuple(
        replace(plan, sweep=known.sweep) if isinstance(known := found.get(plan.id), Measurement) else plan
        for plan in plans
    )

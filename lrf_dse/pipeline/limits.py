"""Budgets of an exploration: in the units of its runner, and refused before the search where no plan can keep them.

Two programs are measured first. The smallest one, a layer of one weight, holds the fixed part of every program. The
dense model holds what no plan changes: all that is left of it without the weights of its FC layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.errors import BudgetError, UsageError
from lrf_dse.pipeline.alone import SMALLEST
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.layers import dense_kernels, layer_task
from lrf_dse.pipeline.plans import measured_dense
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.schema import Measurement, dense_candidate
from lrf_dse.target import Target
from lrf_dse.units import show_bytes, show_latency

_CODE_SHARE = 0.95
"""Kernels of another plan may be a little smaller than those of the programs that are measured first."""


def with_latency_limit(settings: ExploreSettings, target: Target) -> ExploreSettings:
    """`settings` whose budgets hold `max_latency` in what the runner tells: seconds of a board, or modelled cycles.

    Raises UsageError where the target's clock is needed and unknown, or where nothing tells a time.
    """
    latency, budgets = settings.max_latency, settings.budgets
    if latency is None:
        return settings
    if settings.board is None and not target.has_timing:
        raise UsageError(
            f"--max-latency: {target.name} has no timing model, only instructions are counted; choose another target"
        )
    on_board, clock = settings.board is not None, target.core.freq_hz
    if latency.unit == ("s" if on_board else "cycles"):
        value = latency.value
    elif clock is None:
        wanted = "a time such as 5ms" if on_board else "a number of cycles"
        raise UsageError(f"--max-latency: the clock of {target.name} is not known; give {wanted}")
    else:
        # Cycles and seconds are turned into each other at the clock of the target's file.
        value = latency.value / clock.value if on_board else latency.value * clock.value
    limited = replace(budgets, max_seconds=value) if on_board else replace(budgets, max_cycles=value)
    return replace(settings, budgets=limited)


def refuse_impossible(x: Exploration) -> None:
    """Raise BudgetError for a limit that the smallest program exceeds: told before the model is built."""
    budgets = x.settings.budgets
    if not budgets.limits_size and budgets.max_cycles is None and budgets.max_seconds is None:
        return
    tasks = [layer_task(x, dense_candidate(SMALLEST, kernel)) for kernel in dense_kernels(x.settings)]
    smallest = [m for m in x.measure("measure the smallest program", tasks).values() if isinstance(m, Measurement)]
    _refuse(x, smallest, weight_bytes=0, why="what every program holds")


def refuse_what_no_layer_can_save(x: Exploration) -> None:
    """Raise BudgetError for less flash than what the dense model takes without the weights of its FC layers."""
    if x.settings.budgets.max_flash_bytes is None:
        return
    dense = [m for _, _, m in measured_dense(x) if isinstance(m, Measurement)]
    # Every byte of FC weights is taken off: no plan can save more than all of them.
    weights = sum(layer.in_features * layer.out_features for layer in x.model.fc_layers)
    _refuse(x, dense, weight_bytes=FP32_BYTES * weights, why="the model without the weights of its FC layers")


def _refuse(x: Exploration, programs: Sequence[Measurement], *, weight_bytes: int, why: str) -> None:
    """Raise BudgetError where less than any of `programs`, without so many bytes of weights, is asked for."""
    if not programs:
        return
    budgets = x.settings.budgets
    flash = min(program.flash_bytes for program in programs) - weight_bytes
    if budgets.max_flash_bytes is not None and budgets.max_flash_bytes < _CODE_SHARE * flash:
        raise BudgetError(
            f"--max-bytes is {budgets.max_flash_bytes:,} bytes, but {why} takes {flash:,} bytes of flash "
            f"({show_bytes(flash)}): no plan can keep it"
        )
    # Of the model without its weights only flash is known: RAM and time depend on what stands there instead.
    if weight_bytes:
        return
    ram = min(program.ram_bytes for program in programs) + _ports_bytes(x)
    if budgets.max_ram_bytes is not None and budgets.max_ram_bytes < ram:
        raise BudgetError(
            f"--max-ram is {budgets.max_ram_bytes:,} bytes, but {why}, inputs and outputs of the model take {ram:,} "
            f"bytes of RAM ({show_bytes(ram)}): no plan can keep it"
        )
    for limit, known, unit in (
        (budgets.max_cycles, [p.cycles for p in programs], "cycles"),
        (budgets.max_seconds, [p.seconds for p in programs], "s"),
    ):
        least = min((value for value in known if value is not None), default=0.0)
        if limit is not None and limit < least:
            shown = [show_latency(value, "cycles" if unit == "cycles" else "s") for value in (limit, least)]
            raise BudgetError(f"--max-latency is {shown[0]}, but the smallest program takes {shown[1]}")


def _ports_bytes(x: Exploration) -> int:
    """What inputs and outputs of the model take more than those of the smallest program."""
    ports = (*x.model.inputs, *x.model.outputs)
    own = sum(prod(port.shape) * np.dtype(port.dtype).itemsize for port in ports)
    return own - FP32_BYTES * (SMALLEST.in_features + SMALLEST.out_features)

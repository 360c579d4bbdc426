"""The coefficients of a target's closed form: fitted once to modelled cycles, and written as a file of the target.

A fit is a non-negative least squares in relative errors: no term may make a program faster. What a step of an inner
loop costs is not fitted but measured alone, on programs of one MatMul whose operands stay in the nearest cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.bench.closed_form import Sample, measure_program
from lrf_dse.cost.closed_form import KERNEL_TERMS
from lrf_dse.cost.machine import Machine, machine_of
from lrf_dse.cost.plain_kernel import loop_cycles
from lrf_dse.runners.job import Array
from lrf_dse.target import TERMS, Target

if TYPE_CHECKING:
    import onnx

_COMPETITIVE = 2.0
"""A tiled program this many times slower than the plain one is never the one that is kept: it need not be fitted."""

_DEPTHS = (48, 96)  # K of the two programs whose difference is that many steps

_LOOPS: tuple[tuple[str, int | None, int, int], ...] = (
    ("step", 0, 7, 8),
    ("step", 1, 7, 16),
    ("step", 2, 7, 32),
    ("step", 3, 1, 64),
    ("masked_row", None, 5, 45),
    ("spilled_row", None, 56, 75),
    ("ragged_row", None, 11, 40),
)
"""Each cost of a step, in the order they are found: the field of Machine, its LMUL's place, rows and columns of the
MatMul that shows it for 8 lanes (columns are scaled for others). Each needs those before it only."""


def measured_steps(target: Target, work: Path) -> Machine:
    """What steps cost on `target`, measured in the folder `work`.

    Raises ValueError where the target has no closed form to start from; any coefficients will do.
    """
    machine = machine_of(target)
    if machine is None:
        raise ValueError(f"target {target.name} has no closed form to start from")
    for number, (field, at, rows, columns) in enumerate(_LOOPS):
        wide = columns * machine.lanes // 8
        cycles = [_one_matmul(rows, wide, k, target, work / f"{number}-{k}") for k in _DEPTHS]
        slope = (cycles[1] - cycles[0]) / (_DEPTHS[1] - _DEPTHS[0])
        without, by_one = (loop_cycles(_with(machine, field, at, value), rows, wide) for value in (0.0, 1.0))
        machine = _with(machine, field, at, max(0.1, round((slope - without) / (by_one - without), 1)))
    return machine


def fitted(samples: Sequence[Sample], machine: Machine, builder: str) -> dict[str, float]:
    """Coefficients of `builder` that fit `samples` best. Raises ValueError where none of them has its program."""
    from scipy.optimize import nnls

    used = [sample for sample in samples if builder in sample.cycles and _worth_fitting(sample, builder, machine)]
    if not used:
        raise ValueError(f"no sample to fit builder {builder} to")
    names = list(TERMS[builder])
    terms = [KERNEL_TERMS[builder](sample.candidate, machine) for sample in used]
    cycles = np.array([sample.cycles[builder] for sample in used])
    amounts = np.array([[term.get(name, 0.0) for name in names] for term in terms]) / cycles[:, None]
    scale = np.maximum(amounts.max(axis=0), 1e-12)  # columns of like size: the solver's tolerance is absolute
    coefficients, _ = nnls(amounts / scale, np.ones(len(used)))
    return {name: float(f"{value:.4g}") for name, value in zip(names, coefficients / scale, strict=True)}


def closed_form_text(machine: Machine, fits: dict[str, dict[str, float]], *, command: str, source: str) -> str:
    """The file targets/closed_form/NAME.toml."""
    lines = [
        f"# Written by {command}: do not edit. Cycles; the names are explained in lrf_dse/target/closed_form.py.",
        f"step = [{', '.join(f'{value:g}' for value in machine.step)}]",
        *(f"{name} = {getattr(machine, name):g}" for name in ("masked_row", "spilled_row", "ragged_row")),
        "",
        "[step_known]",
        'basis = "derived"',
        f'source = "programs of one MatMul, {_DEPTHS[0]} and {_DEPTHS[1]} deep, under the timing plugin; {command}"',
    ]
    for builder, coefficients in fits.items():
        lines += ["", f"[fits.{builder}]", 'basis = "derived"', f'source = "{source}"', ""]
        lines += [f"[fits.{builder}.coefficients]", *(f"{name} = {value:g}" for name, value in coefficients.items())]
    return "\n".join([*lines, ""])


def _worth_fitting(sample: Sample, builder: str, machine: Machine) -> bool:
    """All of the plain programs. Of the tiled ones those that may win, and those that must be known to lose."""
    plain = sample.cycles.get("iree")
    if builder == "iree" or plain is None or sample.cycles[builder] < _COMPETITIVE * plain:
        return True
    return "broadcast" in KERNEL_TERMS[builder](sample.candidate, machine)


def _with(machine: Machine, field: str, at: int | None, value: float) -> Machine:
    if at is None:
        return replace(machine, **{field: value})  # type: ignore[arg-type]
    step = list(machine.step)
    step[at] = value
    return replace(machine, step=(step[0], step[1], step[2], step[3]))


def _one_matmul(rows: int, columns: int, k: int, target: Target, work: Path) -> float:
    model, inputs = _matmul_model(rows, columns, k)
    return measure_program(model, inputs, target, work, builders=("iree",))["iree"]


def _matmul_model(rows: int, columns: int, k: int) -> tuple[onnx.ModelProto, list[Array]]:
    """One MatMul, [rows, k] times a constant [k, columns], and its input."""
    from onnx import TensorProto, helper, numpy_helper

    source = np.random.default_rng(0)
    weight = numpy_helper.from_array(source.standard_normal((k, columns), np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (rows, k)), ("y", (rows, columns)))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matmul", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, [source.standard_normal((rows, k), np.float32)]

"""Run a .vmfb that was built for this machine by IREE's own runtime, as a second witness of what a module computes.

It runs in a process of its own, because generated code that goes wrong must not end ours. It gives outputs, never a
time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lrf_dse.errors import RunError, ToolError, ToolTimeout
from lrf_dse.process import Limit, run
from lrf_dse.runners.job import Array

# It is there to end a module that hangs; how long one takes is of no interest here.
_MOST_CPU_S = 3600.0


def run_on_stock_runtime(vmfb: Path, inputs: Sequence[Array], work: Path, *, outputs: int) -> tuple[Array, ...]:
    """The `outputs` outputs of the module's one function, workgroups on all cores. Raises RunError."""
    work.mkdir(parents=True, exist_ok=True)
    command = [_run_module(), f"--module={vmfb.resolve()}", "--device=local-task"]
    for index, array in enumerate(inputs):
        np.save(work / f"input{index}.npy", np.asarray(array, order="C"))
        command.append(f"--input=@input{index}.npy")
    names = [f"output{index}.npy" for index in range(outputs)]
    command += [f"--output=@{name}" for name in names]
    try:
        done = run(command, name="IREE's runtime", limit=Limit(cpu_s=_MOST_CPU_S), cwd=work)
    except ToolTimeout as error:
        raise RunError(f"{vmfb.name}: {error}") from error
    if done.code != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.code}"]
        raise RunError(f"IREE's runtime could not run {vmfb.name}: {lines[0]}")
    return tuple(np.load(work / name) for name in names)


def _run_module() -> str:
    """The program of the wheel that runs a module."""
    # The environment's bin/ has a script of that name, but is on PATH only where the environment was activated.
    spec = importlib.util.find_spec("iree._runtime_libs")
    for folder in spec.submodule_search_locations or [] if spec else []:
        program = Path(folder) / "iree-run-module"
        if program.is_file():
            return str(program)
    raise ToolError("IREE's runtime is missing: pip install iree-base-runtime (see `lrf-dse doctor`)")

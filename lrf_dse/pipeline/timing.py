"""Build, verify and measure programs: single layers and whole models, each once, a few at a time.

Owns the path from an ONNX model to a Measurement or a Failure record. A candidate that fails is data.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.builders.program import BUILDERS, tool_versions
from lrf_dse.codegen import KernelSchedule, KernelSpec
from lrf_dse.errors import BuildError
from lrf_dse.farm import Farm, Work, stream
from lrf_dse.jsonform import to_json
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.models.work import operations
from lrf_dse.pipeline.recorded import Records, recorded
from lrf_dse.process.spending import spent_on
from lrf_dse.progress import Progress, silent
from lrf_dse.runners.board import Board
from lrf_dse.runners.job import Array, Job, passes_for
from lrf_dse.runners.qemu import model_sweep
from lrf_dse.runners.qemu import tool_versions as qemu_versions
from lrf_dse.runners.runner import runner_for
from lrf_dse.runners.ssh import tool_versions as board_versions
from lrf_dse.schema import Candidate, Failure, Measurement, Outcome
from lrf_dse.target import Target
from lrf_dse.tt.stored_fit import factors_of
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, user_records

if TYPE_CHECKING:
    import onnx

Program = tuple["onnx.ModelProto", Sequence[Array]]
"""A model, and the inputs of one inference."""


@dataclass(frozen=True)
class Around:
    """What a module adds to a kernel that was measured alone."""

    cycles: float
    flash_bytes: int
    ram_parts: Mapping[str, int]

    def added_to(self, kernel: Measurement) -> Measurement:
        """The kernel's figures as those of a module; instructions are the kernel's own."""
        # What a call takes with cold caches is not modelled: the warm figure is added to both.
        cycles, cold = (None if c is None else c + self.cycles for c in (kernel.cycles, kernel.cold_cycles))
        source = f"{kernel.source}; the kernel alone, with what a module adds"
        parts = {name: kernel.ram_parts.get(name, 0) + self.ram_parts.get(name, 0) for name in kernel.ram_parts}
        return replace(
            kernel,
            source=source,
            cycles=cycles,
            cold_cycles=cold,
            flash_bytes=kernel.flash_bytes + self.flash_bytes,
            ram_bytes=sum(parts.values()),
            ram_parts=parts,
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A program to be measured under `key`: what the function `make` gives of `arguments`.

    The arguments are asked for when the task is begun, or sent to another machine. The fastest of the programs of all
    `builders` counts. A kernel that stands `alone` needs neither model nor builder. A program that is `swept` is known
    to take that: it runs under the switches of the timing model only.
    """

    key: str
    kind: str
    context: object
    make: Callable[..., Program]
    arguments: Callable[[], tuple[Any, ...]] = tuple
    swept: Measurement | None = None
    threads: int = 1
    builders: tuple[str, ...] = tuple(BUILDERS)
    alone: tuple[KernelSpec, KernelSchedule, Around] | None = None


@dataclass(frozen=True)
class Bench:
    """Where programs are measured: under QEMU with the target's model, or on a board; each for at most `timeout_s`.

    Where `timeout_s` is None a program may run for as long as its work may take.
    """

    target: Target
    board: Board | None = None
    timeout_s: float | None = None

    @property
    def tools(self) -> dict[str, str]:
        """Versions of everything that decides a measurement. Raises ToolError if one is missing."""
        return tool_versions() | self.runner_tools

    @property
    def runner_tools(self) -> dict[str, str]:
        """The part of `tools` that runs programs."""
        return qemu_versions() if self.board is None else board_versions(self.board)

    @property
    def resource(self) -> str | None:
        """What a worker of a cluster must own to run programs here."""
        return None if self.board is None else f"board:{self.board.host}"

    @spent_on("run")
    def run(self, job: Job) -> Outcome:
        """The outcome of one program."""
        return runner_for(self.board).run(replace(job, timeout_s=self.timeout_s))

    @spent_on("sweep")
    def sweep(self, job: Job, measured: Measurement) -> dict[str, float]:
        """Cycles under every switch of the timing model, by name; empty on a board and without a model.

        `measured` is what the job took without a switch.
        """
        job = replace(job, timeout_s=self.timeout_s)
        outcomes = {} if self.board is not None else model_sweep(job, known=measured)
        return {n: m.cycles for n, m in outcomes.items() if isinstance(m, Measurement) and m.cycles is not None}


def measure_all(
    stage: str,
    tasks: Sequence[Task],
    *,
    store: Records,
    bench: Bench,
    folder: Path,
    farm: Farm,
    progress: Progress = silent,
) -> dict[str, Outcome]:
    """The outcome of every task by key: from the records, or measured now and recorded at once, shown as `stage`.

    The first error that is not a Failure stops the rest and is raised; what was measured is in the store by then.
    """
    # Tasks of one key are one program: it is built once.
    by_key = {task.key: task for task in tasks}
    recorded = {key: _recorded(key, store) for key in by_key}
    outcomes = {key: outcome for key, outcome in recorded.items() if outcome is not None}
    missing = [task for key, task in by_key.items() if key not in outcomes]
    known = len(outcomes)
    progress(stage, known, len(by_key))

    def keep(key: str, outcome: Outcome) -> None:
        store.put(key, by_key[key].kind, to_json(outcome), context=by_key[key].context)

    measured = stream(
        farm,
        [_work(task, bench, None if farm.ships else folder / "work" / task.key) for task in missing],
        keep=keep,
        finished=lambda done: progress(stage, known + done, len(by_key)),
    )
    return outcomes | dict(measured)


@dataclass(frozen=True)
class _Way:
    """How a program is built and measured."""

    bench: Bench
    threads: int
    swept: Measurement | None
    builders: tuple[str, ...]
    alone: tuple[KernelSpec, KernelSchedule, Around] | None


def _work(task: Task, bench: Bench, folder: Path | None) -> Work[Outcome]:
    way = _Way(bench, task.threads, task.swept, task.builders, task.alone)
    return Work(task.key, _measure, lambda: (way, folder, task.make, *task.arguments()), resource=bench.resource)


def _recorded(key: str, store: Records) -> Outcome | None:
    """What the records know; of failures only wrong results, which are the candidate's own.

    A compiler that was killed or a program that could not write may have met a full disk or too little memory:
    the next run tries again, or the dense layer would fail for ever.
    """
    outcome: Outcome | None = recorded(store, key, Outcome)  # type: ignore[arg-type]
    return None if isinstance(outcome, Failure) and outcome.stage != "verify" else outcome


@spent_on("compile")
def _measure(way: _Way, folder: Path | None, make: Callable[..., Program], *arguments: Any) -> Outcome:
    """Build and measure what `make` gives of `arguments`, in `folder`: of a worker of a cluster that is one of its own.

    The folder stays if the outcome is a Failure.
    """
    # A worker may be another machine, where the run's folder does not exist.
    work_dir = Path(tempfile.mkdtemp(prefix="lrf-dse-")) if folder is None else folder
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True, exist_ok=True)  # the compilers of a killed run may still write here
    if way.alone is not None:
        outcome = _measured_alone(*way.alone, way.bench, work_dir)
    else:
        model, inputs = make(*arguments)
        outcome = build_and_run(
            model, inputs, way.bench, work_dir, threads=way.threads, swept=way.swept, builders=way.builders
        )
    if isinstance(outcome, Measurement):
        shutil.rmtree(work_dir, ignore_errors=True)
    elif folder is None:
        # The files lie on the worker: its name goes before the path.
        outcome = replace(outcome, kept_files=tuple(f"{platform.node()}:{path}" for path in outcome.kept_files))
    return outcome


def _measured_alone(
    spec: KernelSpec, schedule: KernelSchedule, around: Around, bench: Bench, work_dir: Path
) -> Outcome:
    """A kernel without a module; the tuner's records know it too."""
    measure = RecordedMeasure(RunnerMeasure(bench.target, bench, bench.runner_tools), user_records())
    outcome = measure(spec, schedule, work_dir)
    return around.added_to(outcome) if isinstance(outcome, Measurement) else outcome


def build_and_run(
    model: onnx.ModelProto,
    inputs: Sequence[Array],
    bench: Bench,
    work_dir: Path,
    *,
    threads: int = 1,
    swept: Measurement | None = None,
    builders: Sequence[str] = tuple(BUILDERS),
) -> Outcome:
    """Compile `model` in `work_dir` with every one of `builders`, run each program, and keep the fastest that is right.

    Where none of theirs is right, the other builders have their turn. Outputs are compared with onnxruntime before
    anything counts. A Failure only if no builder's program is right. One that is `swept` was compared when that was
    measured, and runs under the switches of the timing model only.
    """
    expected = run_once(model, inputs)
    jobs: dict[str, Job] = {}
    outcomes: dict[str, Outcome] = {}
    right: dict[str, Measurement] = {}
    for name in (*builders, *(other for other in BUILDERS if other not in builders)):
        # The others are asked only where none of those named gave a right program.
        if name not in builders and right:
            break
        folder = work_dir / name
        folder.mkdir()
        try:
            built = BUILDERS[name](model, bench.target, folder)
        except BuildError as error:
            outcomes[name] = Failure("build", f"{name}: {error}", (str(folder),))
            continue
        jobs[name] = Job(
            Path(built.program.path),
            bench.target,
            tuple(inputs),
            expected,
            folder / "run",
            threads=threads,
            operations=operations(model),
            passes=passes_for(operations(model)),
            schedule=built.schedule,
            tolerance=built.schedule.tolerance,
        )
        outcome = bench.run(jobs[name]) if swept is None else swept
        outcomes[name] = outcome
        if isinstance(outcome, Measurement):
            right[name] = outcome
    if not right:
        # The failure of the first builder says most: the others were tried after it.
        return next(iter(outcomes.values()))
    # The user gets the program that is faster, so this is the figure that counts.
    best = min(right, key=lambda name: right[name].time)
    return replace(right[best], builder=best, sweep={} if swept is None else bench.sweep(jobs[best], swept))


def layer_program(candidate: Candidate, schedule: KernelSchedule | None = None, *, seed: int) -> Program:
    """A model of one layer with random weights, and a random input: a timing does not depend on their values."""
    layer, random = candidate.layer, np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape, dtype=np.float32) * np.float32(scale)).astype(np.float32)

    bias = normal(layer.out_features, scale=1.0) if layer.has_bias else None
    x = normal(layer.batch, layer.in_features, scale=1.0)
    kernel = KernelChoice(candidate.threads, schedule) if candidate.kernel == "rvv" else None
    cores, stored = None, None
    # As large as weights of a trained layer usually are: outputs of about the size of the inputs.
    weight = normal(layer.out_features, layer.in_features, scale=layer.in_features**-0.5)
    if candidate.tt_shape is not None:
        # Each core keeps the size of its input on average, so that no stage overflows or vanishes.
        shapes = candidate.tt_shape.core_shapes
        cores = [normal(*shape, scale=(shape[2] * shape[3]) ** -0.5) for shape in shapes]
    if candidate.storage != "fp32":
        factors = factors_of(weight, cores, candidate.storage, None)
        stored = tuple(factor.stored for factor in factors)
        values = [factor.core for factor in factors]
        weight, cores = (values[0][0, :, :, 0], None) if cores is None else (weight, values)
    made = Replacement(cores, candidate.order, None if cores else weight, kernel=kernel, stored=stored)
    return single_layer_model(layer, made, bias=bias), [x]

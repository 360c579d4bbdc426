"""Build, verify and measure programs: single layers and whole models, each once, a few at a time.

Owns the path from an ONNX model to a Measurement or a Failure record. A candidate that fails is data.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lrf_dse.builders.program import BUILDERS, tool_versions
from lrf_dse.codegen import KernelSchedule, KernelSpec
from lrf_dse.errors import BuildError
from lrf_dse.jsonform import to_json
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.models.work import operations
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.process.spending import spent_on, waiting
from lrf_dse.runners.board import Board
from lrf_dse.runners.job import Array, Job, passes_for
from lrf_dse.runners.qemu import model_sweep
from lrf_dse.runners.qemu import tool_versions as qemu_versions
from lrf_dse.runners.runner import runner_for
from lrf_dse.runners.ssh import tool_versions as board_versions
from lrf_dse.schema import Candidate, Failure, Measurement
from lrf_dse.store import Store
from lrf_dse.target import Target
from lrf_dse.tt.stored_fit import factors_of
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, user_records

if TYPE_CHECKING:
    import onnx

Outcome = Measurement | Failure
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Around:
    """What a module adds to a kernel that was measured alone."""

    cycles: float
    flash_bytes: int
    ram_parts: Mapping[str, int]

    def added_to(self, kernel: Measurement) -> Measurement:
        """The kernel's figures as those of a module; instructions are the kernel's own."""
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
    """A program to be measured under `key`. `make` gives the model and the inputs of one inference.

    The fastest of the programs of all `builders` counts. A kernel that stands `alone` needs neither model nor builder.
    A program that is `swept` is known to take that: it runs under the switches of the timing model only.
    """

    key: str
    kind: str
    context: object
    make: Callable[[], tuple[onnx.ModelProto, Sequence[Array]]]
    swept: Measurement | None = None
    threads: int = 1
    builders: tuple[str, ...] = tuple(BUILDERS)
    alone: tuple[KernelSpec, KernelSchedule, Around] | None = None


@dataclass(frozen=True)
class Bench:
    """Where programs are measured: under QEMU with the target's model, or on a board; each for at most `timeout_s`.

    None: as long as their work may take.
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
    tasks: Sequence[Task],
    store: Store,
    *,
    bench: Bench,
    folder: Path,
    jobs: int,
    progress: Callable[[int, int], None],
) -> dict[str, Outcome]:
    """The outcome of every task by key: from the records, or measured now and recorded at once.

    Compilers and simulator are processes of their own, so threads are enough. The first error that is not a
    Failure stops the rest and is raised; what was measured is in the store by then.
    """
    by_key = {task.key: task for task in tasks}
    recorded = {key: _recorded(key, store) for key in by_key}
    outcomes = {key: outcome for key, outcome in recorded.items() if outcome is not None}
    missing = [task for key, task in by_key.items() if key not in outcomes]
    progress(len(outcomes), len(by_key))

    def work(task: Task) -> Outcome:
        outcome = _measure(task, bench, folder / "work" / task.key)
        store.put(task.key, task.kind, to_json(outcome), context=task.context)
        return outcome

    known = len(outcomes)
    measured = in_threads(missing, work, jobs=jobs, finished=lambda done: progress(known + done, len(by_key)))
    return outcomes | dict(zip((task.key for task in missing), measured, strict=True))


def in_threads(
    items: Sequence[Item], work: Callable[[Item], Result], *, jobs: int, finished: Callable[[int], None]
) -> list[Result]:
    """`work` of every item in order, `jobs` at a time; `finished` hears after each how many are done.

    The first error stops the rest and is raised.
    """
    with waiting(), ThreadPoolExecutor(jobs, initializer=_keep_interrupts_out) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                finished(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _recorded(key: str, store: Store) -> Outcome | None:
    """What the records know; of failures only wrong results, which are the candidate's own.

    A compiler that was killed or a program that could not write may have met a full disk or too little memory:
    the next run tries again, or the dense layer would fail for ever.
    """
    outcome: Outcome | None = recorded(store, key, Outcome)  # type: ignore[arg-type]
    return None if isinstance(outcome, Failure) and outcome.stage != "verify" else outcome


def _keep_interrupts_out() -> None:
    """Block Ctrl-C in this thread and in the processes that it starts.

    It reaches every process of the terminal: what is being built is finished and recorded, not recorded as a
    compiler that failed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@spent_on("compile")
def _measure(task: Task, bench: Bench, work_dir: Path) -> Outcome:
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True, exist_ok=True)  # the compilers of a killed run may still write here
    if task.alone is not None:
        outcome = _measured_alone(*task.alone, bench, work_dir)
        if isinstance(outcome, Measurement):
            shutil.rmtree(work_dir, ignore_errors=True)
        return outcome
    model, inputs = task.make()
    outcome = build_and_run(
        model, inputs, bench, work_dir, threads=task.threads, swept=task.swept, builders=task.builders
    )
    if isinstance(outcome, Measurement):
        shutil.rmtree(work_dir, ignore_errors=True)
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

    Outputs are compared with onnxruntime before anything counts. A Failure only if no builder's program is right. One
    that is `swept` was compared when that was measured, and runs under the switches of the timing model only.
    """
    expected = run_once(model, inputs)
    jobs: dict[str, Job] = {}
    outcomes: dict[str, Outcome] = {}
    for name in builders:
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
        outcomes[name] = bench.run(jobs[name]) if swept is None else swept
    right = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Measurement)}
    if not right:
        return next(iter(outcomes.values()))
    best = min(right, key=lambda name: right[name].time)
    return replace(right[best], builder=best, sweep={} if swept is None else bench.sweep(jobs[best], swept))


def layer_program(
    candidate: Candidate, schedule: KernelSchedule | None = None, *, seed: int
) -> tuple[onnx.ModelProto, Sequence[Array]]:
    """A model of one layer with random weights, and a random input: a timing does not depend on their values."""
    layer, random = candidate.layer, np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape, dtype=np.float32) * np.float32(scale)).astype(np.float32)

    bias = normal(layer.out_features, scale=1.0) if layer.has_bias else None
    x = normal(layer.batch, layer.in_features, scale=1.0)
    kernel = KernelChoice(candidate.threads, schedule) if candidate.kernel == "rvv" else None
    cores, stored = None, None
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

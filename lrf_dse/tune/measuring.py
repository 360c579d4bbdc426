"""Turn a kernel's schedule into a verified measurement: generate C, pack random weights, link a program, run it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrf_dse.builders.direct import DirectLayer, direct_versions, link_direct
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.codegen import KernelSchedule, KernelSpec, emit, kernel_stages, pack
from lrf_dse.codegen.stages import core_of, stage_matrix
from lrf_dse.errors import BuildError
from lrf_dse.jsonform import content_key, to_json
from lrf_dse.process.spending import spent_on
from lrf_dse.runners import qemu
from lrf_dse.runners.job import Job
from lrf_dse.runners.machine import machine_facts
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.runner import Runner
from lrf_dse.schema import Failure, Measurement, Outcome
from lrf_dse.target import Target
from lrf_dse.tt.contraction import apply
from lrf_dse.tt.grid import Stored, nearest
from lrf_dse.tune.records import KernelRecords

TOLERANCE = 1e-5
"""Of max |y|, against float64: sums of thousands of float32 terms, stage after stage, stay below a tenth of it."""

HALF_TOLERANCE = 2e-3
"""The same where a state is rounded to half precision before it is multiplied."""

Measure = Callable[[KernelSpec, KernelSchedule, Path], Outcome]
"""Builds, verifies and times one schedule of a kernel, in a folder of its own."""

Floats = NDArray[np.float32]
_NAME = "kernel"


@dataclass(frozen=True)
class RunnerMeasure:
    """A Measure by a runner on `target`, by default QEMU with its timing model; `tools` are the runner's versions."""

    target: Target
    runner: Runner = field(default_factory=QemuRunner)
    tools: Mapping[str, str] = field(default_factory=qemu.tool_versions)

    def __call__(self, spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        """The outcome of one schedule. The folder stays only if it failed."""
        work_dir.mkdir(parents=True, exist_ok=True)
        try:
            with spent_on("compile"):
                job = kernel_job(spec, schedule, self.target, work_dir)
            with spent_on("run"):
                outcome = self.runner.run(job)
        except BuildError as error:
            outcome = Failure("build", str(error), (str(work_dir),))
        if isinstance(outcome, Measurement):
            shutil.rmtree(work_dir, ignore_errors=True)
        return outcome


@dataclass(frozen=True)
class RecordedMeasure:
    """A RunnerMeasure that measures nothing twice: the key of a record is the generated source, and all around it.

    Of failures only wrong results are recorded: a compiler may have met a full disk.
    """

    measure: RunnerMeasure
    records: KernelRecords

    def __call__(self, spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        """The recorded outcome of one schedule, else a new one, recorded at once."""
        key = kernel_key(spec, schedule, self.measure.target, self.measure.tools)
        known = self.records.get(key)
        if known is not None:
            return known
        outcome = self.measure(spec, schedule, work_dir)
        if isinstance(outcome, Measurement) or outcome.stage == "verify":
            self.records.put(key, outcome)
        return outcome


def kernel_key(spec: KernelSpec, schedule: KernelSchedule, target: Target, tools: Mapping[str, str]) -> str:
    """The content key of a kernel's time. It holds the C that is generated, and not the schedule that led to it."""
    # Two schedules that generate the same text have one key.
    code = emit(spec, schedule, target, name=_NAME)
    return content_key(
        "kernel",
        spec=to_json(spec),
        source=code.source,
        sizes=[code.weight_bytes, code.scratch_bytes, *(phase.workgroups for phase in code.phases)],
        copy=code.copy_bytes,
        **machine_facts(target, {**direct_versions(), **tools}, spec.threads),
    )


def kernel_job(
    spec: KernelSpec,
    schedule: KernelSchedule,
    target: Target,
    work_dir: Path,
    *,
    guarded: bool = False,
    seed: int = 0,
) -> Job:
    """A program with only this kernel, with random operands and their float64 result. Raises BuildError.

    `guarded` ends it at the first access outside its buffers (`lrf_dse.builders.direct`).
    """
    code = emit(spec, schedule, target, name=_NAME)
    cores, bias, x = random_operands(spec, seed=seed)
    weights, cores = rounded_cores(cores, spec, schedule)
    layer = DirectLayer(
        name=_NAME,
        phases=code.phases,
        weights=pack(weights, bias, spec, schedule),
        in_floats=x.size,
        out_floats=spec.batch * spec.out_features,
        scratch_bytes=code.scratch_bytes,
        load=code.load,
        copy_bytes=code.copy_bytes,
    )
    built = compile_generated(code.source, target, work_dir, name=_NAME)
    program = link_direct([layer], [built], target, work_dir, guarded=guarded)
    # The reference is computed with the cores that the codes stand for: rounding of weights is no error of a kernel.
    expected = reference(spec, cores, bias, x).astype(np.float32)
    tolerance = kernel_tolerance(spec, schedule)
    return Job(program, target, (x,), (expected,), work_dir / "run", tolerance=tolerance, threads=spec.threads)


def kernel_tolerance(spec: KernelSpec, schedule: KernelSchedule) -> float:
    """The error that a kernel may have, of max |y|, against float64 of the weights that its codes stand for."""
    return HALF_TOLERANCE if spec.few_bits and schedule.half else TOLERANCE


def rounded_cores(
    cores: list[Floats], spec: KernelSpec, schedule: KernelSchedule
) -> tuple[list[Floats | Stored], list[Floats]]:
    """`cores` as `spec` stores them, rounded to nearest, for `pack`; and the cores that these stand for."""
    weights: list[Floats | Stored] = list(cores)
    rounded = list(cores)
    for stage in kernel_stages(spec, schedule) if spec.few_bits else ():
        storage = spec.core_storages[stage.core]
        if storage != "fp32":
            stored = nearest(stage_matrix(cores[stage.core], stage.side), storage)
            weights[stage.core] = stored
            rounded[stage.core] = core_of(stored.values, spec.core_shapes[stage.core], stage.side)
    return weights, rounded


def random_operands(spec: KernelSpec, *, seed: int) -> tuple[list[Floats], Floats | None, Floats]:
    """Cores [r, m, n, r'] that keep the size of their input on average, a bias [out] or None, and x [batch, in]."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape, dtype=np.float32)

    # Each output of a stage sums n_k r_k products, so this factor keeps variances at 1.
    cores = [normal(*shape) * np.float32((shape[2] * shape[3]) ** -0.5) for shape in spec.core_shapes]
    return cores, normal(spec.out_features) if spec.has_bias else None, normal(spec.batch, spec.in_features)


def reference(spec: KernelSpec, cores: list[Floats], bias: Floats | None, x: Floats) -> NDArray[np.float64]:
    """The rows y [batch, out] of the layer in float64, by numpy."""
    # apply contracts in the precision that it is given.
    wide = [core.astype(np.float64) for core in cores]
    y = apply(wide, x.astype(np.float64)) + (0.0 if bias is None else bias)  # type: ignore[arg-type]
    bounds = spec.activation
    return np.asarray(y if bounds is None else np.clip(y, bounds.low, bounds.high), dtype=np.float64)

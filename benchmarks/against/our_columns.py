"""Our own columns: the generated kernel linked into a program, the same as it ships in an IREE module, and dense."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.trials import ColumnResult
from benchmarks.against.variants import Group, Groups, LayerData, Variant
from lrf_dse.builders.direct import DirectLayer, link_direct
from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.importing import import_model, riscv_machine
from lrf_dse.builders.iree import compile_to_hal
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.builders.linking import link_program
from lrf_dse.builders.packing import pack_at_build
from lrf_dse.codegen import KernelCode, KernelSchedule, KernelSpec, default_schedule, emit, pack
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.target import Target
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, Tuned, tune, user_records

BUDGET, DENSE_BUDGET = 12, 4
"""Schedules that the autotuner may measure for one kernel; dense programs hold hundreds of megabytes."""

MODULE, DIRECT = "IREE module", "direct program"
_NAME = "kernel"


def spec_of(data: LayerData) -> KernelSpec:
    """What our kernel computes on a row."""
    shape = data.case.shape
    return KernelSpec(None if data.dense else shape, shape.out_features, shape.in_features, data.case.batch)


def our_groups(data: LayerData, target: Target) -> Groups:
    """The kernel by itself under several schedules, then the fastest one in an IREE module, as it ships."""
    kernels = _kernels(data, target)
    yield Group(DIRECT, [kernel.variant(kernel.build_direct) for kernel in kernels])
    yield Group(MODULE, [kernel.variant(kernel.build_module) for kernel in kernels], best=1)


def packed_dense_groups(data: LayerData, target: Target) -> Groups:
    """Our own GEMV or GEMM of packed weights."""
    yield Group(DIRECT, [kernel.variant(kernel.build_direct) for kernel in _kernels(data, target)])


def _kernels(data: LayerData, target: Target) -> list[OurKernel]:
    """The default schedule, and the autotuner's best where that is another one."""
    spec = spec_of(data)
    chosen = [default_schedule(spec, target)]
    measure = RecordedMeasure(RunnerMeasure(target), user_records())
    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
        tuned = tune(spec, target, Path(folder), measure=measure, budget=DENSE_BUDGET if data.dense else BUDGET)
    if isinstance(tuned, Tuned):
        chosen.append(tuned.schedule)
    return [OurKernel(data, target, schedule) for schedule in dict.fromkeys(chosen)]


def fastest_kernel(data: LayerData, target: Target, result: ColumnResult) -> OurKernel | None:
    """The kernel of the best trial of `result`, which is that of `our_groups`; None if all failed."""
    best = shipped(result).best
    return next((k for k in _kernels(data, target) if best and best.name.endswith(f": {k.schedule}")), None)


def shipped(result: ColumnResult) -> ColumnResult:
    """The trials of our kernel as it ships, in an IREE module; where none of those is right, by itself."""
    modules = ColumnResult(tuple(trial for trial in result.trials if trial.name.startswith(MODULE)))
    return modules if modules.best else result


@dataclass(frozen=True, eq=False)
class OurKernel:
    """One schedule of the kernel of a row, and the programs that hold it."""

    data: LayerData
    target: Target
    schedule: KernelSchedule

    @property
    def spec(self) -> KernelSpec:
        """What it computes."""
        return spec_of(self.data)

    def variant(self, build: Callable[[Path], Path]) -> Variant:
        """The schedule as a variant: its generated source decides the program."""
        code = self.code()
        facts = {
            "how": build.__name__,
            "source": hashlib.sha256(code.source.encode()).hexdigest(),
            "sizes": [code.weight_bytes, code.scratch_bytes],
        }
        return Variant(str(self.schedule), facts, build)

    def code(self) -> KernelCode:
        """The generated C."""
        return emit(self.spec, self.schedule, self.target, name=_NAME)

    def weights(self) -> NDArray[np.float32]:
        """The packed weights."""
        cores = [self.data.weight[None, :, :, None]] if self.data.dense else self.data.cores
        return pack(cores, None, self.spec, self.schedule)

    def build_direct(self, folder: Path) -> Path:
        """The program around nothing but the kernel."""
        return self.link(self.code().source, folder)

    def link(self, source: str, folder: Path) -> Path:
        """The same, with the kernel's C given: it may hold marks of its stages."""
        code = self.code()
        built = compile_generated(source, self.target, folder, name=_NAME)
        layer = DirectLayer(
            "layer",
            code.phases,
            self.weights(),
            self.data.x.size,
            self.data.y.size,
            code.scratch_bytes,
        )
        return link_direct([layer], [built], self.target, folder)

    def build_module(self, folder: Path) -> Path:
        """The program that replays an IREE module with the kernel as a custom dispatch: what `export` ships."""
        replacement = Replacement(cores=self.data.cores, kernel=KernelChoice(schedule=self.schedule))
        model = single_layer_model(self.data.case.layer, replacement)
        mlir = import_model(model, self.target, riscv_machine(self.target), folder)
        hal = compile_to_hal(mlir, self.target)
        schedule = pack_at_build(read_schedule(hal.read_text(encoding="utf-8")), self.target, folder)
        return link_program(schedule, self.target, folder, title="ours")

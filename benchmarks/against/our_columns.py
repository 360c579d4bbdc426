"""Our own columns: the generated kernel linked into a program, the same as it ships in an IREE module, and dense."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.variants import Group, Groups, LayerData, Variant
from lrf_dse.builders.direct import DirectLayer, link_direct
from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.importing import import_model, riscv_machine
from lrf_dse.builders.iree import compile_to_hal
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.builders.linking import link_program
from lrf_dse.builders.packing import pack_at_build
from lrf_dse.codegen import KernelCode, KernelSchedule, KernelSpec, default_schedule, emit, kernel_rooflines, pack
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.runners.job import DEFAULT_TOLERANCE
from lrf_dse.schema import Storage
from lrf_dse.target import Target
from lrf_dse.tt.contraction import Core, apply
from lrf_dse.tt.grid import Stored
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, Tuned, tune, user_records
from lrf_dse.tune.measuring import kernel_tolerance, rounded_cores

BUDGET, DENSE_BUDGET, STORAGE_BUDGET = 6, 2, 2
"""Schedules that the autotuner may measure for a kernel in fp32, for a dense one, and for one in few bits.

Dense programs hold up to hundreds of megabytes, and the closed form's choice is seldom beaten there.
"""

FEW_BITS: tuple[Storage, ...] = ("fp16", "int8", "int4")
_NAME = "kernel"


def spec_of(data: LayerData, storage: Storage = "fp32") -> KernelSpec:
    """What our kernel computes on a row with all its cores in `storage`."""
    shape = data.case.shape
    plain = KernelSpec(None if data.dense else shape, shape.out_features, shape.in_features, data.case.batch)
    return plain if storage == "fp32" else replace(plain, storages=(storage,) * len(plain.core_shapes))


def our_groups(data: LayerData, target: Target, storage: Storage = "fp32") -> Groups:
    """The kernel of the best schedule in an IREE module, as it ships."""
    kernel = _kernel(data, target, storage)
    yield Group("IREE module", [kernel.variant(kernel.build_module)])


def packed_dense_groups(data: LayerData, target: Target) -> Groups:
    """Our own GEMV or GEMM of packed weights, by itself."""
    kernel = _kernel(data, target, "fp32")
    yield Group("direct program", [kernel.variant(kernel.build_direct)])


def _kernel(data: LayerData, target: Target, storage: Storage) -> OurKernel:
    """With the autotuner's best schedule; where none is right, the default one, which will say why."""
    spec = spec_of(data, storage)
    measure = RecordedMeasure(RunnerMeasure(target), user_records())
    budget = DENSE_BUDGET if data.dense else BUDGET if storage == "fp32" else STORAGE_BUDGET
    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
        tuned = tune(spec, target, Path(folder), measure=measure, budget=budget)
    schedule = tuned.schedule if isinstance(tuned, Tuned) else default_schedule(spec, target)
    return OurKernel(data, target, schedule, storage)


def best_kernel(data: LayerData, target: Target, storage: Storage = "fp32") -> OurKernel:
    """The kernel of `our_groups`; its schedule is recorded by then."""
    return _kernel(data, target, storage)


@dataclass(frozen=True, eq=False)
class OurKernel:
    """One schedule of the kernel of a row, and the programs that hold it."""

    data: LayerData
    target: Target
    schedule: KernelSchedule
    storage: Storage = "fp32"

    @property
    def spec(self) -> KernelSpec:
        """What it computes."""
        return spec_of(self.data, self.storage)

    @property
    def roofline_cycles(self) -> float:
        """What its stages cannot beat together (codegen.kernel_rooflines)."""
        return sum(bound.cycles for bound in kernel_rooflines(self.spec, self.schedule, self.target))

    def variant(self, build: Callable[[Path], Path]) -> Variant:
        """The schedule as a variant: its generated source decides the program."""
        code = self.code()
        facts = {
            "how": build.__name__,
            "storage": self.storage,
            "source": hashlib.sha256(code.source.encode()).hexdigest(),
            "sizes": [code.weight_bytes, code.scratch_bytes],
        }
        if self.storage == "fp32":
            return Variant(str(self.schedule), facts, build)
        tolerance = max(DEFAULT_TOLERANCE, kernel_tolerance(self.spec, self.schedule))
        return Variant(str(self.schedule), facts, build, self._expected, tolerance)

    def code(self) -> KernelCode:
        """The generated C."""
        return emit(self.spec, self.schedule, self.target, name=_NAME)

    def _stored(self) -> tuple[Sequence[Core | Stored], list[Core]]:
        """The cores as they are stored, for packing, and the cores that these stand for."""
        cores = [self.data.weight[None, :, :, None]] if self.data.dense else self.data.cores
        return rounded_cores(list(cores), self.spec, self.schedule)

    def _expected(self) -> NDArray[np.float32]:
        """The result [batch, M] of the cores as they are stored, in float64."""
        _, cores = self._stored()
        return apply([core.astype(np.float64) for core in cores], self.data.x.astype(np.float64)).astype(np.float32)

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
            pack(self._stored()[0], None, self.spec, self.schedule),
            self.data.x.size,
            self.data.y.size,
            code.scratch_bytes,
        )
        return link_direct([layer], [built], self.target, folder)

    def build_module(self, folder: Path) -> Path:
        """The program that replays an IREE module with the kernel as a custom dispatch: what `export` ships."""
        weights, cores = self._stored()
        stored = [each if isinstance(each, Stored) else Stored("fp32", each) for each in weights]
        replacement = Replacement(
            cores=cores,
            order="first_first" if self.schedule.order[0] == 0 else "last_first",
            kernel=KernelChoice(schedule=self.schedule),
            stored=None if self.storage == "fp32" else stored,
        )
        model = single_layer_model(self.data.case.layer, replacement)
        mlir = import_model(model, self.target, riscv_machine(self.target), folder)
        hal = compile_to_hal(mlir, self.target)
        schedule = pack_at_build(read_schedule(hal.read_text(encoding="utf-8")), self.target, folder)
        return link_program(schedule, self.target, folder, title="ours")

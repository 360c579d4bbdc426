"""Our kernels with weights in fp32, fp16, int8 and int4 on the same layers: cycles, bytes, and their own rooflines.

Owns the rows and what is said of each. Every kernel is verified against float64 of the weights that its codes stand for
before its cycles count; all is recorded by content, so a stopped run goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmarks.against.c_columns import hand_groups, literal_groups
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.variants import LayerData
from lrf_dse.codegen import (
    KernelSchedule,
    KernelSpec,
    copied_schedule,
    default_schedule,
    kernel_rooflines,
    packed_weights,
)
from lrf_dse.errors import BuildError
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, Measurement, Storage, TTShape
from lrf_dse.target import Target
from lrf_dse.tt.shapes import low_rank_dims
from lrf_dse.tune import RecordedMeasure

STORAGES: tuple[Storage, ...] = get_args(Storage)
Kind = Literal["used once", "computes", "tiny"]
"""What a row shows: weights that are used once, weights that are used often, or that overheads are small."""

LOW_RANK_LAYERS = ((784, 300), (2048, 1000), (768, 3072), (4096, 1000), (4096, 4096))
LOW_RANKS = (8, 24, 32)
DENSE_LAYERS = ((784, 300), (4096, 1000), (4096, 4096))
TINY = ((100, 10, 4), (100, 10, 0), (84, 10, 0), (64, 32, 4), (128, 10, 2))
"""Layers in, out, and the rank of the low-rank pair (0: dense): smaller than what a dispatch costs."""
COMPUTING = (
    (TTShape((20, 15), (28, 28), (1, 8, 1)), 1),
    (TTShape((8, 8, 8), (8, 8, 8), (1, 8, 8, 1)), 1),
    (TTShape((16, 16, 16), (16, 16, 16), (1, 16, 16, 1)), 1),
    (None, 16),
    (TTShape((300, 1), (1, 784), (1, 32, 1)), 16),
)
"""Rows that multiply-adds bound; None is dense 784x300."""


@dataclass(frozen=True)
class StorageRow:
    """One layer, which every storage computes."""

    kind: Kind
    shape: TTShape | None
    in_features: int
    out_features: int
    batch: int = 1

    @property
    def name(self) -> str:
        """Sizes, form and batch."""
        form = "dense" if self.shape is None else f"d={self.shape.d} r{max(self.shape.ranks)}"
        if self.shape is not None and self.shape.is_low_rank:
            form = f"low rank {max(self.shape.ranks)}"
        return f"{self.in_features}x{self.out_features} {form}" + (f" batch {self.batch}" if self.batch > 1 else "")

    def spec(self, storage: Storage) -> KernelSpec:
        """The kernel of the row with all its cores in `storage`."""
        plain = KernelSpec(self.shape, self.out_features, self.in_features, self.batch)
        return KernelSpec(
            self.shape,
            self.out_features,
            self.in_features,
            self.batch,
            storages=(storage,) * len(plain.core_shapes) if storage != "fp32" else (),
        )


@dataclass(frozen=True)
class StorageFigures:
    """One row in one storage: what was measured, the bytes of its weights and scales, and its roofline in cycles."""

    row: StorageRow
    storage: Storage
    schedule: KernelSchedule
    weight_bytes: int
    roofline: float
    bound: str
    outcome: Measurement | Failure

    @property
    def cycles(self) -> float | None:
        """Modelled cycles, warm; None of a failure."""
        return self.outcome.cycles if isinstance(self.outcome, Measurement) else None

    @property
    def share(self) -> float | None:
        """Of the roofline, 1 at most in theory."""
        return self.roofline / self.cycles if self.cycles else None


def storage_rows() -> Iterator[StorageRow]:
    """The rows of the table."""
    for (inside, outside), rank in ((layer, rank) for layer in LOW_RANK_LAYERS for rank in LOW_RANKS):
        yield _low_rank("used once", inside, outside, rank)
    for inside, outside in DENSE_LAYERS:
        yield StorageRow("used once", None, inside, outside)
    for shape, batch in COMPUTING:
        sizes = (shape.in_features, shape.out_features) if shape else (784, 300)
        yield StorageRow("computes", shape, *sizes, batch)
    for inside, outside, rank in TINY:
        yield _low_rank("tiny", inside, outside, rank) if rank else StorageRow("tiny", None, inside, outside)


def _low_rank(kind: Kind, inside: int, outside: int, rank: int) -> StorageRow:
    return StorageRow(kind, TTShape(*low_rank_dims(outside, inside), (1, rank, 1)), inside, outside)


def measure_storage(
    row: StorageRow, storage: Storage, target: Target, measure: RecordedMeasure, *, copied: bool = False
) -> StorageFigures:
    """The figures of one row in one storage, with the default schedule; `copied`: with weights widened at load."""
    spec = row.spec(storage)
    schedule = copied_schedule(spec, target) if copied else default_schedule(spec, target)
    if schedule is None:
        raise ValueError(f"{row.name}: there is nothing to widen in {storage}")
    bounds = kernel_rooflines(spec, schedule, target)
    issued = sum(bound.fma_cycles for bound in bounds if bound.fma_cycles >= bound.byte_cycles)
    roofline = sum(bound.cycles for bound in bounds)
    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
        outcome = measure(spec, schedule, Path(folder) / "kernel")
    size = 4 * packed_weights(spec, schedule).floats
    return StorageFigures(
        row, storage, schedule, size, roofline, "instructions" if 2 * issued > roofline else "bytes", outcome
    )


def plain_c_cycles(row: StorageRow, target: Target) -> float | None:
    """The fastest of the plain loops of a factorised row in fp32; None if none is right, and of dense rows."""
    if row.shape is None:
        return None
    data = LayerData(KernelCase(row.shape, row.batch))
    found = [cycles for cycles in _plain_trials(data, target) if cycles]
    return min(found, default=None)


def _plain_trials(data: LayerData, target: Target) -> Iterable[float | None]:
    groups = [*literal_groups(data, target), *hand_groups(data, target)]
    for variant in (variant for group in groups for variant in group.variants):
        with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
            try:
                program = variant.build(Path(folder))
            except BuildError:
                continue
            job = Job(program, target, (data.x,), (data.y,), Path(folder) / "run", tolerance=1e-4)
            outcome = QemuRunner().run(job)
            yield outcome.cycles if isinstance(outcome, Measurement) else None

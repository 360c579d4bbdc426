"""TT kernels against every compiler on the same compressed layer: `benchmarks/kernels.py`.

Owns the columns and the run over the rows of a set. How a column is measured is in kernel_runs.py, what is made of the
figures in kernel_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from time import monotonic

from benchmarks.against.c_columns import (
    hand_groups,
    literal_groups,
    pluto_default_groups,
    pluto_groups,
    polly_groups,
)
from benchmarks.against.contractions import contractions
from benchmarks.against.iree_columns import as_used_groups, dense_groups, t3f_groups, transpose_free_groups
from benchmarks.against.kernel_runs import KernelRuns
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.our_columns import FEW_BITS, best_kernel, our_groups, packed_dense_groups
from benchmarks.against.stage_cycles import StageFigures
from benchmarks.against.trials import ColumnResult, ranked_variants
from benchmarks.against.variants import Groups, LayerData
from lrf_dse.cost.counts import dense_flops
from lrf_dse.farm import Local
from lrf_dse.progress import Progress
from lrf_dse.schema import Storage
from lrf_dse.target import Target

GroupMaker = Callable[[LayerData, Target], Groups]

COLUMNS: Mapping[str, GroupMaker] = {
    "ours": our_groups,
    **{f"ours_{storage}": partial(our_groups, storage=storage) for storage in FEW_BITS},
    "c_literal": literal_groups,
    "c_hand": hand_groups,
    "iree_as_used": as_used_groups,
    "iree_transpose_free": transpose_free_groups,
    "iree_t3f": t3f_groups,
    "polly": polly_groups,
    "pluto_default": pluto_default_groups,
    "pluto": pluto_groups,
}
"""The columns that compute the TT layer, in the order in which they are measured."""

DENSE_COLUMNS: Mapping[str, GroupMaker] = {"dense_packed": packed_dense_groups, "dense_iree": dense_groups}
"""The dense layer: the same for all rows of one layer and batch."""

STORAGE_COLUMNS: Mapping[str, Storage] = {"ours": "fp32", **{f"ours_{storage}": storage for storage in FEW_BITS}}
OUR_COLUMNS = (*STORAGE_COLUMNS, "dense_packed")
"""Their variants are schedules, other ones on every row."""

FULL_ROWS = 1
"""So many of the smallest rows of a family try every variant. The others try, in each contraction, the ones that did
best on those: the whole set would take days of one core."""


@dataclass(frozen=True)
class KernelRow:
    """One row: the kernel, every column's result by name, and the stages of our fastest schedule.

    `rooflines` are cycles that our kernel in a storage cannot beat, by column.
    """

    case: KernelCase
    columns: Mapping[str, ColumnResult]
    stages: tuple[StageFigures, ...] = ()
    schedule: str = ""
    rooflines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    """What is measured at a time: the TT columns of a row, or the dense columns of its layer."""

    case: KernelCase
    dense: bool = False

    @property
    def flops(self) -> int:
        return dense_flops(self.case.layer) if self.dense else fewest_flops(self.case)

    @property
    def family(self) -> str:
        """What the same variants win on: a train's stages are small GEMMs at every batch, one row of x makes GEMVs."""
        if self.case.shape.is_low_rank or self.dense:
            size = "tiny" if self.case.is_tiny else "one row" if self.case.batch == 1 else "many rows"
            return f"{'dense' if self.dense else 'low rank'}, {size}"
        return f"train, d={self.case.shape.d}"

    @property
    def columns(self) -> Mapping[str, GroupMaker]:
        return DENSE_COLUMNS if self.dense else COLUMNS


def run_kernels(
    cases: Iterable[KernelCase],
    runs: KernelRuns,
    work: Path,
    *,
    jobs: int,
    progress: Progress,
    until: float = math.inf,
) -> tuple[KernelRow, ...]:
    """Measure every column of every row, `jobs` at a time, what has fewest FLOPs first; rows as in `cases`.

    After `until` (time.monotonic) nothing is begun: rows that were not measured by then are left out, and others lack
    the dense columns of their layer where these were not. The first error that is no Failure stops the rest and is
    raised; what was measured is recorded by then.
    """
    cases = tuple(dict.fromkeys(cases))
    layers = {_layer_of(case): _Task(case, dense=True) for case in cases}
    tasks = sorted([*map(_Task, cases), *layers.values()], key=attrgetter("flops"))
    families = {task.family: [each for each in tasks if each.family == task.family] for task in tasks}
    first = [task for task in tasks if task in families[task.family][:FULL_ROWS]]
    rows: dict[_Task, KernelRow] = {}

    def measure(task: _Task, likely: Mapping[str, Sequence[str]]) -> None:
        if monotonic() > until:
            return
        rows[task] = _measure(task, runs, work / f"{task.case.name} {task.family}".replace(" ", "-"), likely)

    with Local(jobs) as pool:
        try:
            for batch in (first, [task for task in tasks if task not in first]):
                likely = _likely_variants(rows)
                futures = [pool.submit(measure, task, likely.get(task.family, {})) for task in batch]
                for future in as_completed(futures):
                    future.result()
                    progress("measure rows", len(rows), len(tasks))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    dense = {layer: rows[task].columns for layer, task in layers.items() if task in rows}
    return tuple(
        replace(row, columns={**row.columns, **dense.get(_layer_of(row.case), {})})
        for row in (rows[task] for task in map(_Task, cases) if task in rows)
    )


def _measure(task: _Task, runs: KernelRuns, folder: Path, likely: Mapping[str, Sequence[str]]) -> KernelRow:
    data = LayerData(task.case, dense=task.dense)
    results = {
        name: runs.column(name, make(data, runs.target), data, folder, likely=likely.get(name, ()))
        for name, make in task.columns.items()
    }
    if task.dense or results["ours"].best is None:
        return KernelRow(task.case, results)
    kernel = best_kernel(data, runs.target)
    rooflines = {
        name: best_kernel(data, runs.target, storage).roofline_cycles
        for name, storage in STORAGE_COLUMNS.items()
        if results[name].best
    }
    return KernelRow(task.case, results, runs.stages(kernel, folder), str(kernel.schedule), rooflines)


def _likely_variants(rows: Mapping[_Task, KernelRow]) -> dict[str, dict[str, tuple[str, ...]]]:
    """For each family and column the variants to try first, by the rows measured so far."""
    return {
        family: {
            name: ranked_variants([row.columns[name] for task, row in rows.items() if task.family == family])
            for name in (DENSE_COLUMNS if family.startswith("dense") else COLUMNS)
            if name not in OUR_COLUMNS
        }
        for family in {task.family for task in rows}
    }


def fewest_flops(case: KernelCase) -> int:
    """FLOPs of the cheapest contraction of a row: what every TT column's work is counted as."""
    return contractions(case.shape, case.batch)[0].flops


def _layer_of(case: KernelCase) -> tuple[int, int, int]:
    return (case.shape.in_features, case.shape.out_features, case.batch)

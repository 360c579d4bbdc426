"""TT kernels against every compiler on the same compressed layer: `lrf-dse bench kernels`.

Owns the columns and the run over the rows of a set. How a column is measured is in kernel_runs.py, what is made of the
figures in kernel_report.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from lrf_dse.bench.c_columns import hand_groups, literal_groups, polyhedral_groups
from lrf_dse.bench.contractions import contractions
from lrf_dse.bench.iree_columns import dense_groups, t3f_groups, transpose_free_groups
from lrf_dse.bench.kernel_runs import KernelRuns
from lrf_dse.bench.kernel_set import KernelCase
from lrf_dse.bench.our_columns import fastest_kernel, our_groups, packed_dense_groups
from lrf_dse.bench.stage_cycles import StageFigures
from lrf_dse.bench.trials import ColumnResult
from lrf_dse.bench.variants import Groups, LayerData
from lrf_dse.cost.counts import dense_flops
from lrf_dse.target import Target

GroupMaker = Callable[[LayerData, Target], Groups]

COLUMNS: Mapping[str, GroupMaker] = {
    "ours": our_groups,
    "c_literal": literal_groups,
    "c_hand": hand_groups,
    "iree_transpose_free": transpose_free_groups,
    "iree_t3f": t3f_groups,
    "polyhedral": polyhedral_groups,
}
"""The columns that compute the TT layer, in the order in which they are measured."""

DENSE_COLUMNS: Mapping[str, GroupMaker] = {"dense_packed": packed_dense_groups, "dense_iree": dense_groups}
"""The dense layer: the same for all rows of one layer and batch."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class KernelRow:
    """One row: the kernel, every column's result by name, and the stages of our fastest schedule."""

    case: KernelCase
    columns: Mapping[str, ColumnResult]
    stages: tuple[StageFigures, ...] = ()
    schedule: str = ""


def run_kernels(
    cases: Iterable[KernelCase], runs: KernelRuns, work: Path, *, jobs: int, progress: Progress
) -> tuple[KernelRow, ...]:
    """Measure every column of every row, `jobs` at a time, what has fewest FLOPs first; rows as in `cases`.

    The first error that is no Failure stops the rest and is raised; what was measured is recorded by then.
    """
    cases = tuple(dict.fromkeys(cases))
    layers = {_layer_of(case): case for case in cases}
    rows: dict[KernelCase, KernelRow] = {}
    dense: dict[tuple[int, int, int], Mapping[str, ColumnResult]] = {}

    def measure_row(case: KernelCase) -> None:
        rows[case] = _measure_row(case, runs, work / "-".join(case.name.split()))

    def measure_dense(case: KernelCase) -> None:
        folder = work / f"dense-{case.layer_name}-{case.batch}"
        dense[_layer_of(case)] = _measure_columns(LayerData(case, dense=True), DENSE_COLUMNS, runs, folder)

    todo = [(fewest_flops(case), measure_row, case) for case in cases]
    todo += [(dense_flops(case.layer), measure_dense, case) for case in layers.values()]
    todo.sort(key=itemgetter(0))
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(measure, case) for _, measure, case in todo]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                progress("measure rows", done, len(todo))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tuple(replace(rows[case], columns={**rows[case].columns, **dense[_layer_of(case)]}) for case in cases)


def _measure_row(case: KernelCase, runs: KernelRuns, folder: Path) -> KernelRow:
    data = LayerData(case)
    results = _measure_columns(data, COLUMNS, runs, folder)
    kernel = fastest_kernel(data, runs.target, results["ours"])
    if kernel is None:
        return KernelRow(case, results)
    return KernelRow(case, results, runs.stages(kernel, folder), str(kernel.schedule))


def _measure_columns(
    data: LayerData, columns: Mapping[str, GroupMaker], runs: KernelRuns, folder: Path
) -> dict[str, ColumnResult]:
    return {name: runs.column(name, make(data, runs.target), data, folder) for name, make in columns.items()}


def fewest_flops(case: KernelCase) -> int:
    """FLOPs of the cheapest contraction of a row: what every TT column's work is counted as."""
    return contractions(case.shape, case.batch)[0].flops


def _layer_of(case: KernelCase) -> tuple[int, int, int]:
    return (case.shape.in_features, case.shape.out_features, case.batch)

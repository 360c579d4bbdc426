"""One run of the kernel benchmark from end to end: records opened, every row measured, the report made."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

from benchmarks.against.kernel_report import KernelReport
from benchmarks.against.kernel_runs import KernelRuns
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.kernels import OUR_COLUMNS, run_kernels
from lrf_dse.progress import Progress, silent
from lrf_dse.runners.board import Board
from lrf_dse.store import Store
from lrf_dse.target import Target


def run_benchmark(
    cases: Iterable[KernelCase],
    target: Target,
    records: Path,
    *,
    board: Board | None = None,
    ours_only: bool = False,
    jobs: int = 1,
    minutes: float = math.inf,
    progress: Progress = silent,
) -> KernelReport:
    """The report of all `cases` in their order; what is in the folder `records` already is not measured again.

    `ours_only`: of the other columns the report has what is recorded. After `minutes` no row is begun, and the report
    has those that were measured. Raises ToolError where a tool is missing,
    StoreError where the records are in use.
    """
    with Store(records) as store, tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
        runs = KernelRuns(target, store, board=board, columns=OUR_COLUMNS if ours_only else None)
        until = monotonic() + 60 * minutes
        rows = run_kernels(cases, runs, Path(scratch), jobs=jobs, progress=progress, until=until)
    return KernelReport(target, rows, on_board=board is not None)

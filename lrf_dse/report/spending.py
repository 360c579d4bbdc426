"""The time that an exploration took, as a report shows it: purposes in a fixed order, with their shares."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from lrf_dse.process.spending import REST, Spending

PURPOSES = MappingProxyType(
    {
        "compile": "models and kernels to machine code: IREE's importer and compiler, clang",
        "link": "programs put together",
        "run": "programs run and checked, with the target's timing model or on a board",
        "sweep": "the same programs under every switch of the timing model",
        "fit": "factors fitted to the layers: spectra, TT-SVD, TT-ALS, rounding, corrections",
        "judge": "models evaluated on the data",
        "search": "spaces narrowed, schedules ranked, whole models put together",
        "train": "plans trained",
        REST: "reading files, records, starting up",
    }
)


@dataclass(frozen=True)
class SpentRow:
    """One purpose: processor seconds, their share of all, and seconds on the clock."""

    purpose: str
    what: str
    cpu_s: float
    share: float
    wall_s: float


def spent_rows(spending: Spending) -> tuple[SpentRow, ...]:
    """A row for every purpose that took time; no row where nothing was counted."""
    total = spending.total_cpu_s
    # A run of another version may have purposes that this table does not name: they come last.
    names = [*PURPOSES, *sorted(spending.cpu_s.keys() - PURPOSES.keys())]
    return tuple(
        # The total is above 0 here, since one of its parts is.
        SpentRow(name, PURPOSES.get(name, ""), cpu_s, cpu_s / total, spending.wall_s.get(name, 0.0))
        for name in names
        if (cpu_s := spending.cpu_s.get(name, 0.0)) > 0
    )

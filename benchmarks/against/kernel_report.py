"""What the figures of the kernel benchmark amount to: ratios to ours, geometric means, shares of the peak, as JSON.

Every number is decided here, once; tables, the CSV and the plot only show them. A ratio is a column's cycles over ours
in fp32: above 1 ours is faster. A column that failed on a row has no ratio there, and the number of rows behind a mean
is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.against.against_dense import AgainstDense, against_dense, dense_bound
from benchmarks.against.kernels import DENSE_COLUMNS, STORAGE_COLUMNS, KernelRow, fewest_flops
from benchmarks.against.our_columns import FEW_BITS
from benchmarks.against.polyhedral import clang_version, pluto_version
from benchmarks.against.stage_cycles import StageFigures, peak_fraction
from benchmarks.against.trials import ColumnResult, Trial
from lrf_dse.cost.counts import dense_flops
from lrf_dse.runners.timing import sweep_of
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target

RATIOS: Mapping[str, tuple[str, ...]] = {
    "iree_as_used": ("iree_as_used",),
    "iree_t3f": ("iree_t3f",),
    "iree_transpose_free": ("iree_transpose_free",),
    "iree": ("iree_t3f", "iree_transpose_free"),
    "polly": ("polly",),
    "pluto_default": ("pluto_default",),
    "pluto": ("pluto",),
    "c": ("c_literal", "c_hand"),
    "dense_iree": ("dense_iree",),
    "dense_packed": ("dense_packed",),
    **{f"ours_{storage}": (f"ours_{storage}",) for storage in FEW_BITS},
}
"""What ours is compared with, and the columns of which the best counts."""

RIVALS = ("iree_as_used", "iree", "polly", "pluto", "c")
"""Those that compute the same compressed layer in fp32."""

COLUMN_ORDER = (
    *STORAGE_COLUMNS,
    *("iree_as_used", "iree_t3f", "iree_transpose_free", "polly", "pluto_default", "pluto"),
    *("c_literal", "c_hand", "dense_iree", "dense_packed"),
)


@dataclass(frozen=True)
class KernelReport:
    """All rows of one run, with what is made of them."""

    target: Target
    rows: tuple[KernelRow, ...]
    on_board: bool = False

    @property
    def unit(self) -> str:
        """What a column's figure is."""
        if self.on_board:
            return "board seconds"
        return "modelled cycles" if self.target.timing else "instructions"

    @property
    def models(self) -> tuple[str, ...]:
        """The timing model's switches, by name."""
        return () if self.on_board else tuple(sweep_of(self.target))

    def to_json(self) -> dict[str, Any]:
        """Everything: rows, and the means by model and by kind of rows."""
        rows = [self._row_json(row) for row in self.rows]
        kinds = dict.fromkeys(row.case.kind for row in self.rows)
        return {
            "target": self.target.name,
            "unit": self.unit,
            "titles": {"polly": f"Polly {clang_version()}", **self._pluto_titles()},
            "rows": rows,
            **summary(self.rows, None),
            "spans": {name: span and list(span) for name, span in spans(self.rows, self.models).items()},
            "switches": {model: summary(self.rows, model) for model in self.models},
            "kinds": {kind: summary([row for row in self.rows if row.case.kind == kind], None) for kind in kinds},
        }

    def _pluto_titles(self) -> dict[str, str]:
        """Pluto is named only where one of its programs was right, and so counted."""
        counted = any(column_of(row, name).best for row in self.rows for name in ("pluto_default", "pluto"))
        if not counted:
            return {}
        version = pluto_version()
        named = "Pluto" if version is None else f"Pluto {version}"
        return {"pluto_default": f"{named}, default", "pluto": f"{named}, best"}

    def _row_json(self, row: KernelRow) -> dict[str, Any]:
        shape, layer = row.case.shape, row.case.layer
        columns = {name: self._column_json(row, name) for name in COLUMN_ORDER if column_of(row, name).trials}
        return {
            "name": row.case.name,
            "kind": row.case.kind,
            "in": shape.in_features,
            "out": shape.out_features,
            "out_dims": list(shape.out_dims),
            "in_dims": list(shape.in_dims),
            "ranks": list(shape.ranks),
            "batch": row.case.batch,
            "flops": fewest_flops(row.case),
            "dense_flops": dense_flops(layer),
            "dense_bound": dense_bound(row.case, self.target),
            "schedule": row.schedule,
            "columns": columns,
            "ratios": {name: ratio(row, name) for name in RATIOS},
            "slower_than": slower_than(row),
            "against_dense": None if (against := layer_against_dense(row, self.target)) is None else asdict(against),
            "stages": [_stage_json(stage) for stage in row.stages],
        }

    def _column_json(self, row: KernelRow, name: str) -> dict[str, Any]:
        result = column_of(row, name)
        data: dict[str, Any] = {"trials": {trial.name: _trial_json(trial) for trial in result.trials}}
        best, failure = result.best, result.failure
        if best is None or not isinstance(best.outcome, Measurement):
            return {"failure": _failure_json(failure), **data}
        measured = best.outcome
        return {
            "cycles": best.cycles,
            "variant": best.name,
            "cold_cycles": measured.cold_cycles,
            "percent_of_peak": percent_of_peak(row, name, self.target),
            "percent_of_roofline": percent_of_roofline(row, name),
            "bytes": dict(measured.bytes_by_level),
            "stalls": dict(measured.stalls),
            "max_rel_error": measured.max_rel_error,
            "sweep": {model: result.cycles(model) for model in self.models},
            **data,
        }


def column_of(row: KernelRow, name: str) -> ColumnResult:
    """A column's result."""
    return row.columns.get(name, ColumnResult(()))


def ratio(row: KernelRow, name: str, model: str | None = None) -> float | None:
    """How many times ours the best of the columns `name` takes; None where either failed."""
    ours = column_of(row, "ours").cycles(model)
    known = [figure for column in RATIOS[name] if (figure := column_of(row, column).cycles(model)) is not None]
    return min(known) / ours if ours and known else None


def slower_than(row: KernelRow) -> list[str]:
    """What ours does not beat on this row, of the same compressed layer and of the dense one."""
    names = (*RIVALS, *DENSE_COLUMNS)
    return [name for name in names if (times := ratio(row, name)) is not None and times < 1]


def layer_against_dense(row: KernelRow, target: Target) -> AgainstDense | None:
    """The row against IREE's dense layer; None where either failed."""
    ours, dense = (column_of(row, name).best for name in ("ours", "dense_iree"))
    if ours is None or dense is None:
        return None
    assert isinstance(ours.outcome, Measurement)  # a best trial is one
    assert isinstance(dense.outcome, Measurement)
    return against_dense(row.case, ours.outcome, dense.outcome, target)


def percent_of_peak(row: KernelRow, name: str, target: Target) -> float | None:
    """The share of the FMA peak: the least FLOPs that the layer needs over what the column's cycles could do."""
    best = column_of(row, name).best
    cycles = best.outcome.cycles if best and isinstance(best.outcome, Measurement) else None
    if cycles is None or target.core.fma_per_cycle is None:
        return None
    flops = dense_flops(row.case.layer) if name in DENSE_COLUMNS else fewest_flops(row.case)
    return 100 * flops / 2 / target.core.fma_per_cycle.value / cycles


def percent_of_roofline(row: KernelRow, name: str) -> float | None:
    """The share of its own roofline that one of our columns reaches; None of the others."""
    cycles, roofline = column_of(row, name).cycles(), row.rooflines.get(name)
    return 100 * roofline / cycles if cycles and roofline else None


def summary(rows: Sequence[KernelRow], model: str | None) -> dict[str, Any]:
    """Geometric means of the ratios with the rows behind them, and shares of peak and rooflines, under one model."""
    ratios = {name: [r for row in rows if (r := ratio(row, name, model)) is not None] for name in RATIOS}
    stages = [stage for row in rows for stage in row.stages]
    shares = {name: [s for row in rows if (s := percent_of_roofline(row, name))] for name in STORAGE_COLUMNS}
    return {
        "geomean": {name: geomean(values) for name, values in ratios.items()},
        "geomean_rows": {name: len(values) for name, values in ratios.items()},
        "rows_measured": len(rows),
        "peak_fraction": peak_fraction(stages, "default" if model is None else model),
        "percent_of_roofline": {name: geomean(values) for name, values in shares.items()},
    }


def spans(rows: Sequence[KernelRow], models: Iterable[str]) -> dict[str, tuple[float, float] | None]:
    """Of every mean ratio the least and the most over the timing model's switches; None where nothing was measured."""
    means = [summary(rows, model)["geomean"] for model in models]
    found = {name: [mean[name] for mean in means if mean[name] is not None] for name in RATIOS}
    return {name: (min(values), max(values)) if values else None for name, values in found.items()}


def geomean(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing.

    >>> geomean([1, 4])
    2.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _trial_json(trial: Trial) -> Any:
    return trial.cycles if isinstance(trial.outcome, Measurement) else _failure_json(trial.outcome)


def _failure_json(failure: Failure | None) -> dict[str, str]:
    return {"stage": failure.stage, "reason": failure.reason} if failure else {"stage": "none", "reason": "not tried"}


def _stage_json(stage: StageFigures) -> dict[str, Any]:
    count = stage.count
    return {
        "batches": count.batches,
        "rows": count.rows,
        "k": count.k,
        "columns": count.columns,
        "flops": count.flops,
        "fma_cycles": stage.fma_cycles,
        "byte_cycles": stage.byte_cycles,
        "bound": stage.bound,
        "cycles": dict(stage.cycles),
        "fits_l2": stage.fits_l2,
        "counts_for_peak": stage.counts_for_peak,
    }

"""The numbers of a report as text for programs: plans.csv, candidates.csv and summary.json.

Every value is written as it is (no rounding, no units in cells); an unknown is an empty cell, or null in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lrf_dse.judged import Confirmation
from lrf_dse.report.comparison import Comparison
from lrf_dse.report.facts import CandidateResult
from lrf_dse.report.info import PlanRow, ReportInfo, target_figures
from lrf_dse.schema import Plan

SUMMARY_VERSION = 1


def plans_csv(info: ReportInfo) -> str:
    """One row a plan, the dense reference first; one `choice <layer>` and `kernel <layer>` column a layer."""
    return _csv([_plan_cells(info, row) for row in info.rows])


def candidates_csv(info: ReportInfo) -> str:
    """One row a candidate, dense layers and failures included; one `count <class>` column an instruction class."""
    classes = sorted({name for r in info.candidates if r.measurement for name in r.measurement.counts})
    return _csv([_candidate_cells(result, classes) for result in info.candidates])


def comparison_csv(found: Comparison) -> str:
    """One row a run: what it explored, its dense latency, and the numbers of its chosen plan, if there is one."""
    rows = []
    for name, info in found.runs.items():
        row = info.chosen_row
        cells = _plan_cells(info, row or info.rows[0])
        # Layers of two runs may have different names, and a table has one set of columns.
        numbers = {key: value for key, value in cells.items() if not key.startswith(("choice ", "kernel "))}
        facts = {
            "run": name,
            "model": info.model.name,
            "target": info.target.name,
            "dense_latency": info.rows[0].latency,
        }
        rows.append(facts | (numbers if row else dict.fromkeys(numbers)))
    return _csv(rows)


def summary_json(info: ReportInfo) -> str:
    """The run in one JSON object, for scripts; keys in a fixed order, strict JSON."""
    return json.dumps(_summary(info), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO(newline="")
    if rows:
        writer = csv.writer(buffer, lineterminator="\n")
        # All rows have the same keys in the same order, since one function made them.
        writer.writerow(map(_text_cell, rows[0]))
        writer.writerows([_text_cell(cell) for cell in row.values()] for row in rows)
    return buffer.getvalue()


def _text_cell(cell: Any) -> Any:
    """`cell`; a text that a spreadsheet would take for a formula gets an apostrophe, control characters are escaped.

    Names come from model files. OWASP, CSV injection: cells that begin with = + - @.
    """
    if not isinstance(cell, str):
        return cell
    # ascii("\n") is "'\\n'": without its quotes it is the escape.
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cell)
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain


def _plan_cells(info: ReportInfo, row: PlanRow) -> dict[str, Any]:
    plan = row.plan
    return {
        "id": plan.id,
        "is_dense": plan.is_dense,
        "threads": plan.threads,
        "is_chosen": row.is_chosen,
        "on_front": row.on_front,
        "same_as": row.same_as,
        "over_budget": row.over_budget,
        "slower_than_dense": row.slower_than_dense,
        "latency": row.latency,
        "latency_unit": info.latency_unit,
        **_speed(plan),
        "instructions_source": info.instructions_source,
        "flash_bytes": plan.flash_bytes,
        "ram_bytes": plan.ram_bytes,
        "weight_error": plan.weight_error,
        "accuracy": plan.accuracy,
        "drop_points": plan.drop_points,
        "test_accuracy": plan.test_accuracy,
        **_drops(plan),
        "speedup": row.speedup,
        "flash_ratio": row.flash_ratio,
        **{f"choice {choice.layer.name}": choice.label for choice in plan.choices},
        **{f"kernel {choice.layer.name}": choice.kernel for choice in plan.choices},
        "widened_at_load": ", ".join(plan.widened),
    }


def _speed(plan: Plan) -> dict[str, Any]:
    """What a plan takes, by what that is known, and what was done with its weights."""
    return {
        "cycles": plan.cycles,
        # `and` keeps an unknown None, which is an empty cell: so everywhere below.
        "cycles_least": plan.cycles_span and plan.cycles_span[0],
        "cycles_most": plan.cycles_span and plan.cycles_span[1],
        "seconds": plan.seconds,
        "latency_source": plan.latency_source,
        "builder": plan.builder,
        "sequential": plan.sequential,
        "finetuned_epochs": plan.finetuning and plan.finetuning.best_epoch,
        "reordered": plan.reordered,
        "instructions": plan.instructions,
    }


def _confirmation(plan: Plan) -> dict[str, Any]:
    """The drop on the part that chose nothing, its bounds, and what follows; empty where it was not judged there."""
    known = plan.confirmation or Confirmation()
    return {
        "confirmed": None if plan.confirmation is None else known.confirmed,
        "confirmed_drop": known.drop,
        "confirmed_drop_low": known.low,
        "confirmed_drop_high": known.high,
        "confirmation_samples": known.samples or None,
        "samples_to_decide": known.needed,
    }


def _drops(plan: Plan) -> dict[str, Any]:
    """The intervals of the drop, and the drop on the test part."""
    interval, test = plan.drop_interval or (None, None), plan.test_drop_interval or (None, None)
    return {
        "drop_low": interval[0],
        "drop_high": interval[1],
        **_confirmation(plan),
        "test_drop": plan.test_drop_points,
        "test_drop_low": test[0],
        "test_drop_high": test[1],
    }


def _candidate_cells(result: CandidateResult, classes: Sequence[str]) -> dict[str, Any]:
    candidate, estimate, measurement, failure = result.candidate, result.estimate, result.measurement, result.failure
    shape = candidate.tt_shape
    return {
        "layer": candidate.layer.name,
        "choice": candidate.label,
        "out_dims": "x".join(map(str, shape.out_dims)) if shape else None,
        "in_dims": "x".join(map(str, shape.in_dims)) if shape else None,
        "ranks": "x".join(map(str, shape.ranks)) if shape else None,
        "order": candidate.order,
        "decomposer": candidate.decomposer,
        "kernel": candidate.kernel,
        "threads": candidate.threads,
        "params": estimate.params,
        "flops": estimate.flops,
        "bytes_moved": estimate.bytes_moved,
        "lower_bound_cycles": estimate.lower_bound,
        "estimate_cycles": estimate.cycles,
        "estimate_source": estimate.source or None,
        "estimate_error": result.estimate_error,
        "status": result.status,
        "source": measurement and measurement.source,
        "cycles": measurement and measurement.cycles,
        "seconds": measurement and measurement.seconds,
        "instructions": measurement and measurement.instructions,
        **{f"count {name}": measurement and measurement.counts.get(name, 0) for name in classes},
        "flash_bytes": measurement and measurement.flash_bytes,
        "ram_bytes": measurement and measurement.ram_bytes,
        "max_abs_error": measurement and measurement.max_abs_error,
        "max_rel_error": measurement and measurement.max_rel_error,
        "weight_error": result.weight_error,
        "output_error": result.output_error,
        "drop_points": result.drop_points,
        "drop_measured": result.drop_measured,
        "failure_stage": failure and failure.stage,
        "failure_reason": failure and failure.reason,
    }


def _summary(info: ReportInfo) -> dict[str, Any]:
    plans = [_plan_object(info, row) for row in info.rows]
    return {
        "version": SUMMARY_VERSION,
        "title": info.title,
        "created": info.created,
        "command": info.command,
        "seed": info.seed,
        "model": {
            "name": info.model.name,
            "sha256": info.model.sha256,
            "params": info.model.params,
            "macs": info.model.macs,
            "inputs": [asdict(tensor) for tensor in info.model.inputs],
            "outputs": [asdict(tensor) for tensor in info.model.outputs],
            "layers": [{**asdict(f.layer), "params": f.params, "macs": f.macs} for f in info.model.layers],
            "skipped": [{"name": name, "reason": reason} for name, reason in info.model.skipped],
        },
        "target": _target_object(info),
        "data": None if info.data is None else asdict(info.data),
        "budgets": asdict(info.budgets),
        "latency_unit": info.latency_unit,
        "instructions_source": info.instructions_source,
        "loss_kind": info.loss_kind,
        "funnel": [asdict(funnel) for funnel in info.funnel],
        "dense": plans[0],
        "dense_by_kernel": {" and ".join(r.plan.kernels): r.latency for r in info.dense_rows},
        "plans": plans,
        "failed_plans": [{"id": f.id, "stage": f.failure.stage, "reason": f.failure.reason} for f in info.failed_plans],
        "search": asdict(info.search),
        "finetuning": None if info.finetuning is None else asdict(info.finetuning),
        "chosen": info.chosen,
        "chosen_reason": info.chosen_reason,
        "gain_over_quantising": info.gain_over_quantising,
        "spending": asdict(info.spending),
        "warnings": list(info.warnings),
        "origins": dict(info.origins),
        "environment": dict(info.environment),
        "tool_versions": dict(info.tool_versions),
    }


def _target_object(info: ReportInfo) -> dict[str, Any]:
    target = info.target
    return {
        "name": target.name,
        "title": target.title,
        "march": target.isa.march,
        "vlen_bits": target.isa.vlen_bits,
        "has_timing": target.has_timing,
        "figures": {name: figure.model_dump() for name, figure in target_figures(target)},
    }


def _plan_object(info: ReportInfo, row: PlanRow) -> dict[str, Any]:
    plan, data = row.plan, info.data
    known = data is not None and plan.accuracy is not None
    return {
        "id": plan.id,
        "is_dense": plan.is_dense,
        "threads": plan.threads,
        "is_chosen": row.is_chosen,
        "on_front": row.on_front,
        "over_budget": row.over_budget,
        "slower_than_dense": row.slower_than_dense,
        "latency": row.latency,
        **_speed(plan),
        "flash_bytes": plan.flash_bytes,
        "ram_bytes": plan.ram_bytes,
        "weight_error": plan.weight_error,
        "accuracy": plan.accuracy,
        "accuracy_samples": data.validation_samples if data is not None and known else None,
        "drop_points": plan.drop_points,
        "test_accuracy": plan.test_accuracy,
        **_drops(plan),
        "test_samples": data.test_samples if data is not None and plan.test_accuracy is not None else None,
        "speedup": row.speedup,
        "flash_ratio": row.flash_ratio,
        "choices": {
            choice.layer.name: {
                "label": choice.label,
                "out_dims": list(choice.tt_shape.out_dims) if choice.tt_shape else None,
                "in_dims": list(choice.tt_shape.in_dims) if choice.tt_shape else None,
                "ranks": list(choice.tt_shape.ranks) if choice.tt_shape else None,
                "order": choice.order,
                "decomposer": choice.decomposer,
                "kernel": choice.kernel,
                "threads": choice.threads,
                "widened_at_load": choice.layer.name in plan.widened,
            }
            for choice in plan.choices
        },
    }

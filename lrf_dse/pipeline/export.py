"""Export a plan of a finished run: make its model again from the run's own copy, and bundle it."""

from __future__ import annotations

from os.path import relpath
from pathlib import Path
from typing import Any

from lrf_dse.deploy.bundle import BundleRequest, write_bundle
from lrf_dse.jsonform import to_json
from lrf_dse.models.compress import replaced
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.pipeline.kernels import schedules_from_json, with_kernels
from lrf_dse.pipeline.run import Run
from lrf_dse.report.info import ReportInfo
from lrf_dse.schema import Plan


def export(run: Run, pick: str | None, out: Path) -> dict[str, Any]:
    """Write the bundle of the plan that `pick` names into `out`, and return its manifest. Raises an LrfDseError.

    Without `pick` it is what the objective of the run asks for.
    """
    info, plan = run.info, run.plan(pick)
    model, weights = run.model(), run.weights(plan)
    cases = run.golden()
    schedules = schedules_from_json(plan.schedules)
    with_generated = with_kernels(weights.replacements, plan.choices, schedules)
    stored = [one for replacement in weights.replacements.values() for one in replacement.stored or ()]
    request = BundleRequest(
        plan=plan,
        # model.onnx holds plain operators; the module that is compiled has calls of generated kernels in their place.
        model=in_few_bits(replaced(model, weights.replacements, weights.values), stored),
        compiled=replaced(model, with_generated, weights.values),
        kernels={name: str(schedule) for name, schedule in schedules.items()},
        cases=cases,
        cases_source="random inputs" if info.data is None else "samples of the data",
        target=info.target,
        accuracy=_accuracy(info, plan),
        run_facts={"model": info.model.name, "model_sha256": info.model.sha256, "seed": info.seed}
        # A relative path: the bundle says where it came from without naming a machine's folders.
        | {"folder": relpath(run.folder, out)},
    )
    return write_bundle(request, out)


def _accuracy(info: ReportInfo, plan: Plan) -> dict[str, Any]:
    """The metric by part of the data, and what it is; empty when unknown."""
    if plan.accuracy is None or info.data is None:
        return {}
    return {
        "metric": info.data.metric,
        "unit": info.data.unit,
        "validation": plan.accuracy,
        "test": plan.test_accuracy,
        "validation_samples": info.data.validation_samples,
        "test_samples": info.data.test_samples,
        "drop_points": plan.drop_points,
        "test_drop_points": plan.test_drop_points,
        "drop_unit": info.data.drop_unit,
        "confirmation": None if plan.confirmation is None else to_json(plan.confirmation),
    }

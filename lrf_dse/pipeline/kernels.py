"""Generated kernels in an exploration: what a layer's kernel computes, its schedule, and what its timing depends on.

Layers are measured with the schedule that the closed form likes best; the kernels of finalists are tuned.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lrf_dse.codegen import KernelSchedule, KernelSpec, default_schedule, emit
from lrf_dse.farm import Farm, Local, Work, stream
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import KEPT, Replacement
from lrf_dse.pipeline.context import Exploration
from lrf_dse.schema import Candidate, Outcome
from lrf_dse.target import Target
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, Tuned, kernel_key, tune, user_records

_TUNED_DENSE = 2**22
"""Most weights of a dense layer whose schedules are tried: of a larger one, each is a program of 16 MB or more."""

Schedules = Mapping[str, KernelSchedule]
"""By layer: how its generated kernel computes it."""


def kernel_spec(candidate: Candidate) -> KernelSpec:
    """What the kernel of a candidate computes; what a model joins to it changes no schedule."""
    layer, factors = candidate.layer, 1 if candidate.tt_shape is None else candidate.tt_shape.d
    return KernelSpec(
        shape=candidate.tt_shape,
        out_features=layer.out_features,
        in_features=layer.in_features,
        batch=layer.batch,
        has_bias=layer.has_bias,
        threads=candidate.threads,
        storages=() if candidate.storage == "fp32" else (candidate.storage,) * factors,
    )


def default_schedules(choices: Iterable[Candidate], target: Target) -> Schedules:
    """The schedules of the closed form, for the choices with a generated kernel."""
    return {c.layer.name: default_schedule(kernel_spec(c), target) for c in choices if c.kernel == "rvv"}


def tuned_schedules(x: Exploration, plans: Sequence[Sequence[Candidate]]) -> dict[KernelSpec, KernelSchedule]:
    """The fastest schedule that was found of every kernel in `plans`; the closed form's where none was right."""
    specs = list(dict.fromkeys(kernel_spec(c) for choices in plans for c in choices if c.kernel == "rvv"))
    if x.settings.tune == 1:  # nothing to choose from
        return {spec: default_schedule(spec, x.target) for spec in specs}
    here = RunnerMeasure(x.target, x.bench, x.bench.runner_tools)
    # The records of measured schedules are this user's, on this machine, also where workers measure.
    there = _Sent(here.target, here.runner, here.tools, farm=x.farm, resource=x.bench.resource)
    measure = RecordedMeasure(there if x.farm.ships else here, user_records())
    folders = {spec: x.settings.out / "work" / f"tune-{number}" for number, spec in enumerate(specs)}

    def find(spec: KernelSpec) -> KernelSchedule:
        folder = folders[spec]
        # The dense layer is measured, never tuned, where one trial is a program of many megabytes.
        if spec.shape is None and spec.in_features * spec.out_features > _TUNED_DENSE:
            return default_schedule(spec, x.target)
        found = tune(spec, x.target, folder, measure=measure, budget=x.settings.tune)
        if not isinstance(found, Tuned):
            return default_schedule(spec, x.target)
        shutil.rmtree(folder, ignore_errors=True)  # there is none where everything was in the records
        return found.schedule

    def show(done: int) -> None:
        x.progress("tune kernels", done, len(specs))

    # What is measured next depends on what was measured before, so each search is a thread here.
    searches = [Work(folders[spec].name, partial(find, spec), tuple) for spec in specs]
    with Local(x.settings.jobs if not x.farm.ships else max(1, len(specs))) as searching:
        found = stream(searching, searches, finished=show)
    return {spec: found[folder.name] for spec, folder in folders.items()}


@dataclass(frozen=True, kw_only=True)
class _Sent(RunnerMeasure):
    """A measure that lets a worker of a cluster build and run the program, in a folder there."""

    farm: Farm
    resource: str | None

    def __call__(self, spec: KernelSpec, schedule: KernelSchedule, work_dir: Path) -> Outcome:
        here = RunnerMeasure(self.target, self.runner, self.tools)
        key = kernel_key(spec, schedule, self.target, self.tools)
        work = Work(key, _measured_there, lambda: (here, spec, schedule), resource=self.resource)
        return self.farm.submit(work).result()  # type: ignore[no-any-return]


def _measured_there(measure: RunnerMeasure, spec: KernelSpec, schedule: KernelSchedule) -> Outcome:
    with TemporaryDirectory(prefix="lrf-dse-") as folder:
        return measure(spec, schedule, Path(folder))


def schedules_of(choices: Iterable[Candidate], tuned: Mapping[KernelSpec, KernelSchedule]) -> Schedules:
    """The tuned schedules of the choices with a generated kernel."""
    return {c.layer.name: tuned[kernel_spec(c)] for c in choices if c.kernel == "rvv"}


def kernel_sources(choices: Iterable[Candidate], schedules: Schedules, target: Target) -> dict[str, str]:
    """A hash of the C that computes each layer, and of its sizes, by layer: timings depend on it."""
    return {c.layer.name: _source(c, schedules[c.layer.name], target) for c in choices if c.kernel == "rvv"}


def _source(candidate: Candidate, schedule: KernelSchedule, target: Target) -> str:
    code = emit(kernel_spec(candidate), schedule, target, name="kernel")
    # The source alone does not say how large its buffers are.
    sizes = [code.weight_bytes, code.scratch_bytes, *(phase.workgroups for phase in code.phases)]
    # 24 hexadecimal digits, 96 bits: short in records, and far from any collision.
    return hashlib.sha256(f"{sizes}\n{code.source}".encode()).hexdigest()[:24]


def with_kernels(
    replacements: Mapping[str, Replacement], choices: Iterable[Candidate], schedules: Schedules
) -> dict[str, Replacement]:
    """`replacements` with a generated kernel where a choice asks for it."""
    kernels = {c.layer.name: KernelChoice(c.threads, schedules[c.layer.name]) for c in choices if c.kernel == "rvv"}
    named = dict.fromkeys(kernels, KEPT) | dict(replacements)  # a dense layer need not be replaced by anything
    return {name: replace(replacement, kernel=kernels.get(name)) for name, replacement in named.items()}


def without_generated(plans: Iterable[Sequence[Candidate]]) -> list[tuple[Candidate, ...]]:
    """The plans that have generated kernels, with IREE's in their place; there are none for weights in few bits."""
    return [
        tuple(choice.without_generated for choice in choices)
        for choices in plans
        if any(choice.kernel == "rvv" for choice in choices) and all(choice.storage == "fp32" for choice in choices)
    ]


def schedules_to_json(schedules: Schedules) -> dict[str, Any]:
    """What `Plan.schedules` holds."""
    return {name: to_json(schedule) for name, schedule in schedules.items()}


def schedules_from_json(data: Mapping[str, Any]) -> Schedules:
    """Inverse of `schedules_to_json`."""
    return {name: from_json(KernelSchedule, value) for name, value in data.items()}

"""Every number and sentence of a report is decided here, once; the renderers (html, plots, tables) only show them.

The module owns comparisons with the dense reference, which plans are on the front, the units used and where each number
comes from. It measures nothing, formats nothing for one medium, and reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt

import numpy as np

from lrf_dse.front.pareto import non_dominated
from lrf_dse.judged import Confirmation, FineTuning
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.choice import (
    LatencyUnit,
    LossKind,
    Objective,
    latency_of,
    latency_unit,
    loss_kind,
    loss_of,
    plan_objectives,
    slower_than_dense,
)
from lrf_dse.plan.quantised import gain_over_quantising
from lrf_dse.plan.terrain import merged
from lrf_dse.process.spending import Spending
from lrf_dse.report.facts import (
    CandidateResult,
    DataFacts,
    FailedPlan,
    FineTuningFacts,
    LayerFunnel,
    ModelFacts,
    SearchFacts,
)
from lrf_dse.report.spending import SpentRow, spent_rows
from lrf_dse.schema import REFERENCE, Candidate, Plan
from lrf_dse.target import Figure, Target


@dataclass(frozen=True)
class PlanRow:
    """One plan with everything that is derived from it. Ratios are dense / plan, so above 1 is better.

    `same_as` is the plan on the front that this one counts as one with: within 1 % in latency, flash and RAM, and 0.1
    points. `not_tested`: it keeps all limits but that of the drop, which other plans were tested for.
    """

    plan: Plan
    latency: float | None
    loss: float | None
    speedup: float | None
    flash_ratio: float
    on_front: bool
    is_chosen: bool
    over_budget: bool
    slower_than_dense: bool
    not_tested: bool
    same_as: str | None = None

    @property
    def role(self) -> str:
        """ "dense", "chosen", "front" or "dominated": how it is drawn. A chosen dense plan is drawn as chosen."""
        if self.is_chosen:
            return "chosen"
        return "dense" if self.plan.is_reference else "front" if self.on_front else "dominated"


@dataclass(frozen=True)
class ReportInfo:
    """One run, ready to be shown. `created` and `command` are texts that the caller gives, since it owns the clock.

    `plans` hold the reference, the fastest dense plan on one thread; others may be dense by other kernels. `chosen` is
    a plan's id, or None with the reason why not.
    `instructions_source` and `sizes_source` name the tool that counted them. ValueError for plans that do not fit.
    """

    title: str
    created: str
    command: str
    seed: int
    model: ModelFacts
    target: Target
    data: DataFacts | None
    funnel: tuple[LayerFunnel, ...]
    candidates: tuple[CandidateResult, ...]
    plans: tuple[Plan, ...]
    chosen: str | None
    chosen_reason: str
    instructions_source: str
    budgets: Budgets = field(default_factory=Budgets)
    objective: Objective | None = None
    failed_plans: tuple[FailedPlan, ...] = ()
    finetuning: FineTuningFacts | None = None
    search: SearchFacts = field(default_factory=SearchFacts)
    spending: Spending = field(default_factory=Spending)
    warnings: tuple[str, ...] = ()
    sizes_source: str = "weights and code of the linked riscv64 program; buffers and painted stack of its run"
    environment: Mapping[str, str] = field(default_factory=dict)
    tool_versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [plan.id for plan in self.plans]
        if len(set(ids)) < len(ids):
            raise ValueError(f"plan ids must be unique, got {ids}")
        if not any(plan.is_reference and plan.is_dense and plan.threads == 1 for plan in self.plans):
            raise ValueError(f"a report needs a dense plan on one thread named {REFERENCE!r}, the reference")
        if self.chosen is not None and self.chosen not in ids:
            raise ValueError(f"the chosen plan {self.chosen!r} is not among {ids}")

    @property
    def spent(self) -> tuple[SpentRow, ...]:
        """What the exploration took, by purpose."""
        return spent_rows(self.spending)

    @cached_property
    def dense(self) -> Plan:
        """The reference."""
        return next(plan for plan in self.plans if plan.is_reference)

    @property
    def latency_unit(self) -> LatencyUnit:
        """The unit that all plans have."""
        return latency_unit(self.plans)

    @property
    def loss_kind(self) -> LossKind:
        """What stands for quality: the accuracy drop, or the weight error where accuracy is unknown."""
        return loss_kind(self.plans)

    @property
    def accuracy_known(self) -> bool:
        """Whether every plan has an accuracy."""
        return self.loss_kind == "drop_points" and all(plan.accuracy is not None for plan in self.plans)

    @cached_property
    def rows(self) -> tuple[PlanRow, ...]:
        """All plans: the dense one first, then fastest first."""
        front = self._front
        dense_latency = latency_of(self.dense, self.latency_unit)
        rows = [
            PlanRow(
                plan=plan,
                latency=(latency := latency_of(plan, self.latency_unit)),
                loss=loss_of(plan, self.loss_kind),
                speedup=dense_latency / latency if dense_latency and latency else None,
                flash_ratio=self.dense.flash_bytes / max(plan.flash_bytes, 1),
                on_front=front.get(i) == i,
                is_chosen=plan.id == self.chosen,
                over_budget=not self.budgets.admits(plan),
                slower_than_dense=slower_than_dense(plan, self.plans),
                not_tested=self._not_tested(plan),
                # A plan that is on no front is not in the mapping.
                same_as=None if front.get(i, i) == i else self.plans[front[i]].id,
            )
            for i, plan in enumerate(self.plans)
        ]
        return tuple(
            # The id decides last, so that equal runs have equal reports.
            sorted(rows, key=lambda r: (not r.plan.is_reference, r.latency or 0, r.plan.flash_bytes, r.plan.id))
        )

    def _not_tested(self, plan: Plan) -> bool:
        known = plan.confirmation
        untested = known is not None and not known.confirmed and known.order == 0
        return untested and self.budgets.without("max_drop").admits(plan)

    @cached_property
    def _front(self) -> dict[int, int]:
        """The places of the plans on the front, each with the place of the plan that stands for it."""
        members = non_dominated(plan_objectives(self.plans))
        if not self.accuracy_known:
            return {i: i for i in members}
        sizes = [(latency_of(p, self.latency_unit), p.flash_bytes, p.drop_points, p.ram_bytes) for p in self.plans]
        points = np.array([sizes[i] for i in members], dtype=np.float64)
        # Latency, flash and RAM are compared by ratios, the drop by differences (plan.terrain.same). 1e-9 stands for a
        # 0, which has no logarithm.
        points[:, [0, 1, 3]] = np.log(np.maximum(points[:, [0, 1, 3]], 1e-9))
        # The reference and the chosen plan are always shown as themselves.
        shown = [at for at, i in enumerate(members) if self.plans[i].id in (REFERENCE, self.chosen)]
        return {members[at]: members[other] for at, other in enumerate(merged(points, shown))}

    @property
    def dense_rows(self) -> tuple[PlanRow, ...]:
        """The dense model on one thread by every kernel that it was built with, the reference first."""
        return tuple(row for row in self.rows if row.plan.is_dense and row.plan.threads == 1)

    @cached_property
    def chosen_row(self) -> PlanRow | None:
        """The chosen plan's row."""
        return next((row for row in self.rows if row.is_chosen), None)

    @cached_property
    def gain_over_quantising(self) -> str | None:
        """What factorising gained over storing the model's own weights in fewer bits; None where that says nothing."""
        row = self.chosen_row
        return None if row is None else gain_over_quantising(self.plans, row.plan)

    def result_of(self, candidate: Candidate) -> CandidateResult | None:
        """What became of a candidate, None if it is not in the report."""
        return self._results.get(candidate)

    @cached_property
    def _results(self) -> dict[Candidate, CandidateResult]:
        return {result.candidate: result for result in self.candidates}

    def seconds(self, cycles: float | None) -> float | None:
        """Cycles as seconds at the target's clock; None where either is unknown."""
        clock = self.target.core.freq_hz
        return None if cycles is None or clock is None else cycles / clock.value

    @property
    def tunings(self) -> tuple[tuple[str, FineTuning], ...]:
        """(plan, how its training went) in the order of `rows`, the dense control first."""
        if self.finetuning is None:
            return ()
        plans = [(row.plan.id, row.plan.finetuning) for row in self.rows if row.plan.finetuning is not None]
        return (("dense control", self.finetuning.control), *plans)

    @property
    def confirmations(self) -> tuple[tuple[str, Confirmation], ...]:
        """(plan, result) of the plans that were judged on the confirmation part, in the order of the tests.

        Of plans that differ in threads alone the first stands for all.
        """
        found: dict[int, tuple[str, Confirmation]] = {}
        for row in self.rows:
            known = row.plan.confirmation
            if known is not None and known.order:
                found.setdefault(known.order, (row.plan.id, known))
        return tuple(found[order] for order in sorted(found))

    @property
    def noise_points(self) -> float | None:
        """95% half width, in points, of the dense accuracy (normal approximation): smaller differences are noise."""
        if not self.accuracy_known or self.data is None or not self.data.validation_samples or not self.data.in_points:
            return None
        share = (self.dense.accuracy or 0.0) / 100.0
        # 1.96 standard deviations of a binomial share, times 100 points.
        return 196.0 * sqrt(share * (1.0 - share) / self.data.validation_samples)

    @cached_property
    def origins(self) -> tuple[tuple[str, str], ...]:
        """(kind of number, a sentence that says how it came to be) for every kind that the report shows."""
        return (
            ("Latency", self._latency_origin()),
            ("Instructions", f"{self.instructions_source}; the inference only, start-up excluded."),
            ("Flash and RAM", f"{self.sizes_source}."),
            ("Accuracy", self._accuracy_origin()),
            (
                "Weight error",
                "Frobenius norm of the change of the FC layers' weights, relative to the norm of them all.",
            ),
            ("Estimates", self._estimates_origin()),
            ("Seed", f"{self.seed}: splits and every random choice follow from it."),
        )

    def _estimates_origin(self) -> str:
        sources = sorted({r.estimate.source for r in self.candidates if r.estimate.source})
        bound = "no program is faster than the lower bound: peak rates, and every weight read once."
        return "; ".join([*sources, bound]) if self.target.has_timing else "none."

    def _latency_origin(self) -> str:
        if self.latency_unit == "instructions":
            return (
                f"{self.target.title} has no timing model, so latency is the number of executed instructions. "
                "It orders programs roughly; it is not time."
            )
        sources = "; ".join(sorted({plan.latency_source for plan in self.plans}))
        if self.latency_unit == "microseconds":
            return f"{sources}: wall time of one inference, the median of repeats."
        clock = self.target.core.freq_hz
        at = f" Times assume {clock.value / 1e9:g} GHz ({clock.basis})." if clock else ""
        return f"{sources}. Cycles of one inference, not measured on a chip.{at}"

    def _accuracy_origin(self) -> str:
        if self.data is None or not self.accuracy_known:
            return "unknown: no data was given. The relative weight error stands in its place."
        noise = ""
        if self.noise_points is not None:
            noise = f" At this sample size, differences below about {self.noise_points:.2f} points are noise (95%)."
        return (
            f"{self.data.metric} of the rewritten model by onnxruntime on {self.data.validation_samples:,} validation "
            f"samples, which the search uses. A drop budget is confirmed on {self.data.confirmation_samples:,} others: "
            "at most five frozen plans are tested there, the likeliest to keep the budget first, each by its upper "
            "bound of 95%, until one fails. "
            f"Test figures are of {self.data.test_samples:,} samples that nothing else sees. "
            f"Decomposers see {self.data.calibration_samples:,} others. Intervals are 95%, by a paired bootstrap: the "
            f"plan and the dense model are judged on the same samples.{noise}"
        )


def target_figures(target: Target) -> tuple[tuple[str, Figure], ...]:
    """(name, figure) of everything that is known of the target's timing."""
    core = {name: getattr(target.core, name) for name in ("freq_hz", "issue_width", "fma_per_cycle")}
    levels = {f"{level.level} read bytes per cycle": level.read_bytes_per_cycle for level in target.memory}
    return tuple((name, figure) for name, figure in {**core, **levels}.items() if figure is not None)

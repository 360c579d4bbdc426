"""An exploration that builds nothing: the pipeline's own stages, on cycles and sizes that are predicted.

What a benchmark says of selection is then what `explore` does, at the price of the fits and evaluations alone. A layer
takes the cycles of its kernel's closed form and the bytes of its parameters as they are stored, a model the sum of its
FC layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrf_dse.cost.counts import stored_bytes
from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import PruneResult, prune
from lrf_dse.jsonform import from_json
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.layers import measure_layers, narrowed, narrowing_of, time_dense
from lrf_dse.pipeline.plans import choose_plan, measure_plans
from lrf_dse.pipeline.selecting import select_finalists
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.storages import with_bits
from lrf_dse.pipeline.timing import Bench, Task
from lrf_dse.progress import silent
from lrf_dse.schema import Candidate, Failure, FcLayer, Measurement, Outcome, Plan
from lrf_dse.target import Target, load_target
from lrf_dse.tt.spectra import layer_spectra

Spaces = dict[FcLayer, PruneResult]

FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Predictions:
    """What programs would take on `target`. `known` are the layers so far, by name and label."""

    target: Target
    known: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    def __call__(self, _stage: str, tasks: Sequence[Task]) -> dict[str, Outcome]:
        """What each task would take; a Failure for a kernel that nothing predicts."""
        return {task.key: self._predicted(task) for task in tasks}

    def _predicted(self, task: Task) -> Outcome:
        if task.kind == "timing":
            return self._layer(from_json(Candidate, task.context))
        assert isinstance(task.context, dict)
        layers = [self.known.get(item) for item in task.context.items()]
        found = [layer for layer in layers if layer is not None]
        if len(found) < len(layers):
            return Failure("predict", "there is no closed form of this kernel")
        return _measurement(sum(m.cycles or 0.0 for m in found), sum(m.flash_bytes for m in found))

    def _layer(self, candidate: Candidate) -> Outcome:
        expected = estimate(candidate, self.target)
        if expected.cycles is None:
            return Failure("predict", "there is no closed form of this kernel")
        found = _measurement(expected.cycles, stored_bytes(candidate))
        self.known[candidate.layer.name, candidate.label_with_kernel] = found
        return found


def _measurement(cycles: float, flash_bytes: int) -> Measurement:
    return Measurement("closed form", None, {}, flash_bytes, 0, {}, 0.0, 0.0, cycles=cycles)


def predicted(settings: ExploreSettings, errors: FitErrors, accuracies: Accuracies) -> Exploration:
    """The exploration of `settings`, judged by these. Its kernels are `rvv` alone, and nothing is tuned."""
    target = load_target(settings.target)
    return Exploration(
        settings=with_bits(settings, target),
        model=errors.compressor.model,
        bench=Bench(target),
        store=errors.store,
        errors=errors,
        accuracies=accuracies,
        data=next(iter(accuracies.parts.values()), None),
        tools={},
        measure=Predictions(target),
        progress=silent,
    )


def spaces_of(x: Exploration) -> Spaces:
    """The survivors of every layer, ranked by operations: a closed form for all of a front takes a minute a layer."""
    found = {}
    for layer in x.model.fc_layers:
        spectra = layer_spectra(x.model.weights(layer.name)[0], seed=x.settings.seed)
        found[layer] = prune(layer, spectra, x.target, Narrowing(x.settings.top, by_kind=True))
    return found


def narrowed_spaces(x: Exploration) -> Spaces:
    """The survivors of every layer as `explore` narrows it: by predicted cycles, and by predicted errors of outputs."""
    dense, compressor = time_dense(x), x.errors.compressor
    narrowing = narrowing_of(x)
    return {
        layer: narrowed(compressor.part(layer.name), layer, x.target, narrowing, cycles)
        for layer, cycles in dense.items()
    }


def plans_of(x: Exploration, spaces: Spaces) -> tuple[Plan, ...]:
    """The plans that `explore` has before it confirms any."""
    return measure_plans(x, select_finalists(x, measure_layers(x, spaces))[0].finalists)[0]


def chosen_of(x: Exploration, plans: Sequence[Plan]) -> tuple[Plan | None, str]:
    """The plan that `explore` chooses, None where none keeps the budgets, and the reason."""
    chosen, reason = choose_plan(x.settings, plans)
    return next((plan for plan in plans if plan.id == chosen), None), reason

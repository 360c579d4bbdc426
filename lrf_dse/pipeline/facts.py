"""Facts about model, data and spaces in the words of the report."""

from __future__ import annotations

from collections.abc import Mapping

from lrf_dse.cost.prune import PruneResult
from lrf_dse.models.data import Dataset
from lrf_dse.models.inventory import by_reason
from lrf_dse.models.model import Model, TensorSpec
from lrf_dse.models.site import FcSite
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.plan.options import Combination
from lrf_dse.plan.search import Search
from lrf_dse.plan.single import Answer
from lrf_dse.report.facts import (
    DataFacts,
    GapFacts,
    LayerFacts,
    LayerFunnel,
    ModelFacts,
    PredictionFacts,
    SearchFacts,
    SelectionFacts,
    TensorFacts,
)
from lrf_dse.schema import FcLayer


def model_facts(model: Model) -> ModelFacts:
    """The model file and its layers; a bias addition is no multiply-accumulate."""
    return ModelFacts(
        name=model.path.name,
        sha256=model.sha256,
        inputs=_tensors(model.inputs),
        outputs=_tensors(model.outputs),
        layers=tuple(_layer(site) for site in model.sites.values()),
        params=model.total_params,
        macs=model.total_macs,
        skipped=tuple((group.label, group.reason) for group in by_reason(model.skipped)),
        notes=model.notes,
    )


def _layer(site: FcSite) -> LayerFacts:
    return LayerFacts(site.layer, params=site.params, macs=site.macs)


def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[TensorFacts, ...]:
    return tuple(TensorFacts(spec.name, spec.shape, spec.dtype) for spec in specs)


def data_facts(data: Dataset, accuracies: Accuracies) -> DataFacts:
    """The data file and the sizes of its parts; what they are judged by."""
    sizes = {name: part.samples for name, part in accuracies.parts.items()}
    calibration = accuracies.compressor.calibration
    return DataFacts(
        data.path.name,
        data.sha256,
        sizes.get("validation", 0),
        sizes.get("test", 0),
        data.y is not None,
        metric=data.metric.name,
        unit=data.metric.unit,
        drop_unit=data.metric.drop_unit,
        calibration_samples=0 if calibration is None else calibration.samples,
        calibration_name=data.path.name if calibration is None else calibration.path.name,
        confirmation_samples=sizes.get("confirmation", 0),
        grouped=data.groups is not None,
    )


def search_facts(found: Search) -> SearchFacts:
    """How losses were predicted, what they were, and what is proved of the selection."""
    rows = tuple(PredictionFacts(_labels(p.combination), p.summed, p.predicted, p.measured) for p in found.predictions)
    return SearchFacts(
        rows,
        found.rounds,
        found.stable,
        combinations=found.combinations,
        selection=None if found.answer is None else _selection(found.answer),
        gaps=tuple(GapFacts(gap.low, gap.high, gap.tried) for gap in found.gaps),
        between=tuple(
            (c.layer.name, "nothing" if pair.lower is None else pair.lower.candidate.label, c.label)
            for pair in found.asked
            for c in (pair.upper.candidate,)
        ),
    )


def _selection(answer: Answer) -> SelectionFacts:
    """Gaps are finite in a record: without any bound, all of the value."""
    best = answer.combination
    return SelectionFacts(
        answer.objective,
        {} if best is None else _labels(best),
        None if best is None else answer.value,
        min(answer.gap, 1.0),
        answer.proved,
    )


def _labels(member: Combination) -> dict[str, str]:
    return {choice.layer.name: choice.label for choice in member.choices if not choice.is_dense}


def layer_funnels(spaces: Mapping[FcLayer, PruneResult]) -> tuple[LayerFunnel, ...]:
    """The funnel of every layer."""
    return tuple(LayerFunnel(layer.name, space.funnel) for layer, space in spaces.items())

"""The confirmation stage on a small model whose programs are predicted: what is frozen, confirmed and chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from explored import tiny_data, tiny_proto
from models.graphs import saved

from benchmarks.kit.predicted import chosen_of, plans_of, predicted, spaces_of
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import load_data, split
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.confirming import confirm_plans
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.weights import Weights
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.confirm import MOST_FROZEN
from lrf_dse.schema import Plan
from lrf_dse.store import Store


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exploration, tuple[Plan, ...]]:
    """An exploration with a generous drop budget, and its plans before any is confirmed."""
    folder = tmp_path_factory.mktemp("confirming")
    model = read_model(saved(tiny_proto(), folder))
    data = load_data(tiny_data(folder), model)
    parts = split(data, 0)
    compressor = Compressor(model, seed=0, calibration=parts.pop("calibration"))
    store = Store(folder / "run")
    accuracies = Accuracies(Evaluation(Weights(compressor, folder / "run"), parts), store)
    settings = ExploreSettings(
        model.path, "spacemit-k1", folder / "run", data=data.path,
        top=2, evaluations=24, kernels=("rvv",), tune=1, budgets=Budgets(max_drop=20.0),
    )  # fmt: skip
    x = predicted(settings, FitErrors(compressor, store), accuracies)
    return x, plans_of(x, spaces_of(x))


def test_at_most_five_are_judged_and_only_confirmed_plans_are_chosen(
    found: tuple[Exploration, tuple[Plan, ...]],
) -> None:
    x, before = found
    plans = confirm_plans(x, before)
    assert [replace(plan, confirmation=None) for plan in plans] == list(before)
    judged = sorted((p.confirmation.order, p) for p in plans if p.confirmation is not None and p.confirmation.order)
    assert 1 <= len(judged) <= MOST_FROZEN
    assert [order for order, _ in judged] == list(range(1, len(judged) + 1))
    unbroken = True
    for _, plan in judged:
        known = plan.confirmation
        assert known is not None and known.high is not None and known.drop is not None
        assert known.samples == x.accuracies.parts["confirmation"].samples
        assert known.holds == (known.high <= 20.0)
        unbroken = unbroken and known.holds
        assert known.confirmed == unbroken
        assert known.drop < known.high
    chosen, reason = chosen_of(x, plans)
    assert chosen is not None and chosen.confirmation is not None and chosen.confirmation.confirmed
    if not chosen.is_dense:
        assert "confirmed" in reason and "samples that chose nothing" in reason


def test_a_budget_that_so_few_samples_cannot_confirm_leaves_the_dense_model_and_says_why(
    found: tuple[Exploration, tuple[Plan, ...]],
) -> None:
    x, before = found
    strict = replace(x, settings=replace(x.settings, budgets=Budgets(max_drop=0.5)))
    plans = confirm_plans(strict, before)
    chosen, reason = chosen_of(strict, plans)
    assert chosen is not None and chosen.is_dense, "at most 5 points are lost where 50 samples show no difference"
    assert "no factorised plan keeps the budgets; nearest is p" in reason
    assert "would decide" in reason


def test_without_a_drop_budget_nothing_is_confirmed(found: tuple[Exploration, tuple[Plan, ...]]) -> None:
    x, before = found
    free = replace(x, settings=replace(x.settings, budgets=Budgets()))
    assert confirm_plans(free, before) == before


def test_where_nothing_keeps_all_limits_the_nearest_plan_is_found_and_confirmed(
    found: tuple[Exploration, tuple[Plan, ...]],
) -> None:
    """No plan takes ten bytes: the user is told of the smallest that keeps the drop, and not of the dense model."""
    x, _ = found
    tight = replace(x, settings=replace(x.settings, budgets=Budgets(max_drop=20.0, max_flash_bytes=10)))
    plans = confirm_plans(tight, plans_of(tight, spaces_of(tight)))
    chosen, reason = chosen_of(tight, plans)
    assert chosen is None
    confirmed = [plan for plan in plans if plan.confirmation is not None and plan.confirmation.confirmed]
    smallest = min(confirmed, key=lambda plan: (plan.flash_bytes, plan.id))
    assert not smallest.is_dense
    assert "the smallest plan within 20 points takes" in reason
    assert f"({smallest.id})" in reason

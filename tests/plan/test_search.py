"""The loop of predicting and measuring: it learns, it ends, and it keeps to its budget."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_dse.plan.options import Combination, LayerOption
from lrf_dse.plan.search import Search, search
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate


def layers_of(count: int, ranks: int) -> list[list[LayerOption]]:
    """`count` layers, each dense or with a rank: smaller ranks are faster, smaller, and lose more."""
    layers = []
    for k in range(count):
        layer = FcLayer(f"fc{k}", 64, 64, 1, False)
        options = [LayerOption(dense_candidate(layer), 100.0, 1000, 64, 0.0)]
        for r in range(1, ranks + 1):
            shape = TTShape((64, 1), (1, 64), (1, r, 1))
            loss = (1 + 0.1 * k) * 8.0 / r**2
            options.append(LayerOption(Candidate(layer, shape), 10.0 * r + k, 100 * r, 64, loss))
        layers.append(options)
    return layers


def found_by(
    factor: float, *, evaluations: int = 400, max_loss: float | None = 1.0
) -> tuple[Search, list[Combination]]:
    asked: list[Combination] = []

    def measure(member: Combination) -> float:
        asked.append(member)
        return factor * member.loss

    return search(layers_of(3, 9), 12, measure=measure, evaluations=evaluations, max_loss=max_loss), asked


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_it_ends_with_finalists_that_were_all_measured(factor: float) -> None:
    found, asked = found_by(factor)
    assert found.stable
    assert found.finalists[0].is_dense
    assert len(set(map(id, asked))) == len(asked) == len(found.predictions), "nothing was measured twice"
    assert set(found.finalists[1:]) <= set(asked)
    assert not any(member.is_dense for member in asked)


@pytest.mark.parametrize("factor", [0.2, 0.5, 2.0])
def test_predictions_follow_what_was_measured(factor: float) -> None:
    found, _ = found_by(factor)
    assert found.rounds > 1
    last = found.predictions[-4:]
    assert all(abs(p.predicted - p.measured) < 0.5 * abs(p.summed - p.measured) for p in last)


def test_where_whole_models_lose_less_it_finds_the_faster_plans() -> None:
    """What the sum would have refused is found once the correction is known."""
    fastest = {f: min(m.latency for m in found_by(f)[0].finalists if f * m.loss <= 1.0) for f in (0.2, 1.0)}
    assert fastest[0.2] < fastest[1.0]
    every = [Combination((a, b, c)) for a in layers_of(3, 9)[0] for b in layers_of(3, 9)[1] for c in layers_of(3, 9)[2]]
    assert fastest[0.2] == min(m.latency for m in every if 0.2 * m.loss <= 1.0)


@pytest.mark.parametrize("evaluations", [1, 5, 13])
def test_the_budget_is_kept(evaluations: int) -> None:
    found, asked = found_by(0.5, evaluations=evaluations)
    assert len(asked) == evaluations
    assert not found.stable
    assert len(found.finalists) >= 12


def test_it_is_the_same_every_time_and_copes_with_noise() -> None:
    def noisy() -> Search:
        random = np.random.default_rng(0)
        return search(
            layers_of(4, 6),
            8,
            measure=lambda member: max(0.0, member.loss + float(random.normal(0, 0.3))),
            evaluations=200,
        )

    assert noisy() == noisy()
    assert noisy().stable

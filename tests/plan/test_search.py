"""The loop of predicting and measuring: it learns, it ends, and it keeps to its budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.plan.options import Combination, LayerOption, Limits
from lrf_dse.plan.search import Search, search
from lrf_dse.plan.terrain import GAP, SAME_RATIO, Terrain
from lrf_dse.plan.volume import hypervolume
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
            layers_of(3, 6),
            8,
            measure=lambda member: max(0.0, member.loss + float(random.normal(0, 0.3))),
            evaluations=80,
        )

    assert noisy() == noisy()
    assert noisy().stable


def recorded(seed: int, *, ranks: int = 6) -> tuple[list[list[LayerOption]], dict[tuple[int, ...], float]]:
    """Layers, and the losses of all their combinations as if they had been recorded: sums that meet, and noise."""
    rng = np.random.default_rng(seed)
    layers = []
    for k in range(2):
        layer = FcLayer(f"fc{k}", 64, 64, 1, False)
        options = [LayerOption(dense_candidate(layer), 1000.0, 4000, 64, 0.0)]
        for r in range(1, ranks + 1):
            shape = TTShape((64, 1), (1, 64), (1, 2 * r, 1))
            share = (r / (ranks + 1)) ** float(rng.uniform(0.8, 2.0))
            options.append(
                LayerOption(
                    Candidate(layer, shape),
                    1000.0 * share * float(rng.lognormal(0, 0.1)),
                    4000 * share * float(rng.lognormal(0, 0.1)),
                    64,
                    4 * (1 - share) ** 2 * float(rng.lognormal(0, 0.3)),
                )
            )
        layers.append(options)
    losses = {}
    for a, b in itertools.product(*layers):
        met = float(np.hypot(a.loss, b.loss)) * float(rng.uniform(0.3, 1.6))
        losses[id(a), id(b)] = max(0.0, met + float(rng.normal(0, 0.1)) * (not (a.loss == b.loss == 0)))
    return layers, losses


TERRAIN = Terrain(2000.0, 8000.0)


def dominated(rows: list[tuple[Combination, float]]) -> float:
    numbers = np.array([(m.latency, m.flash_bytes, m.ram_bytes, loss) for m, loss in rows]).reshape(-1, 4)
    return hypervolume(TERRAIN.points(numbers, [True] * len(rows)), TERRAIN.reference)


@given(st.integers(0, 10**6), st.integers(2, 9))
@settings(max_examples=5, deadline=None)
def test_more_evaluations_never_give_a_worse_front(seed: int, count: int) -> None:
    """Of everything that was judged, and of the finalists alone, by what they really lose."""
    layers, losses = recorded(seed)

    def loss_of(member: Combination) -> float:
        return losses[id(member.options[0]), id(member.options[1])]

    before = kept_before = 0.0
    asked: list[Combination] = []
    for evaluations in (0, 1, 3, 6, 10, 11, 16, 22, 30, 60):
        found = search(layers, count, measure=loss_of, evaluations=evaluations)
        judged = [p.combination for p in found.predictions]
        assert judged[: len(asked)] == asked, "what is judged next does not depend on the budget"
        asked = judged
        whole = dominated([(m, loss_of(m)) for m in judged])
        kept = dominated([(m, loss_of(m)) for m in found.finalists])
        assert whole >= before and kept >= kept_before - 1e-12
        before, kept_before = whole, kept
    assert found.stable


def test_half_of_all_models_dominate_nearly_what_all_do() -> None:
    shares, judged = [], []
    for seed in range(6):
        layers, losses = recorded(seed)
        found = search(layers, 8, measure=lambda m: losses[id(m.options[0]), id(m.options[1])], evaluations=24)  # noqa: B023
        every = [(Combination(pair), losses[id(pair[0]), id(pair[1])]) for pair in itertools.product(*layers)]
        shares.append(dominated([(p.combination, p.measured) for p in found.predictions]) / dominated(every))
        judged.append(len(found.predictions))
    assert max(judged) <= 24 < 49 / 2
    assert np.mean(shares) > 0.95


@given(st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_where_neighbours_are_far_apart_something_between_them_was_judged(seed: int) -> None:
    layers, losses = recorded(seed)
    found = search(layers, 8, measure=lambda m: losses[id(m.options[0]), id(m.options[1])], evaluations=400)
    every = [Combination(pair) for pair in itertools.product(*layers)]
    for gap in found.gaps:
        between = [m for m in every if gap.low * SAME_RATIO < m.latency < gap.high / SAME_RATIO]
        assert gap.ratio > GAP
        assert gap.tried or not between


@pytest.mark.parametrize(("limit", "factor"), [(40.0, 1.0), (40.0, 3.0), (60.0, 0.5), (80.0, 2.0)])
def test_under_a_tight_limit_the_least_loss_is_found_however_large_it_is(limit: float, factor: float) -> None:
    """Everything that is fast enough loses more than the worst that counts, and the budget allows all losses."""
    layers = layers_of(3, 9)
    within = Limits(latency=limit)
    found = search(layers, 8, measure=lambda m: factor * m.loss, evaluations=400, within=within, objective="accuracy")
    best = min(m.loss for m in map(Combination, itertools.product(*layers)) if within.admits(m))
    assert factor * best > 1.5
    assert min(m.loss for m in found.finalists if within.admits(m)) == best


def test_ranks_between_options_that_no_model_of_the_front_has_are_asked_for() -> None:
    """Both ends of a family are beaten by others, a rank between them is not."""
    layer = FcLayer("fc", 64, 64, 1, False)

    def option(dims: tuple[tuple[int, ...], tuple[int, ...]], rank: int, latency: float, loss: float) -> LayerOption:
        return LayerOption(Candidate(layer, TTShape(*dims, (1, rank, 1))), latency, int(10 * latency), 64, loss)

    low_rank, family = ((64, 1), (1, 64)), ((8, 8), (8, 8))
    ends = [option(family, 2, 100.0, 4.0), option(family, 16, 400.0, 0.2)]
    others = [option(low_rank, 3, 95.0, 3.9), option(((4, 16), (16, 4)), 9, 380.0, 0.1)]
    layers = [[LayerOption(dense_candidate(layer), 1000.0, 10_000, 64, 0.0), *ends, *others]]
    asked = []

    def refine(wanted):
        asked.extend((b.lower, b.upper) for b in wanted)
        return [option(family, 6, 180.0, 0.3) for b in wanted if (b.lower, b.upper) == tuple(ends)]

    found = search(layers, 8, measure=lambda m: m.loss, evaluations=60, refine=refine)
    assert tuple(ends) in asked
    assert any(m.latency == 180.0 for m in found.finalists)


def test_ranks_are_asked_for_where_the_front_bends() -> None:
    """A layer that loses nothing at rank 16 and everything at rank 2 has its knee between: it is found."""
    layer = FcLayer("fc", 64, 64, 1, False)

    def at(rank: int) -> LayerOption:
        shape = TTShape((64, 1), (1, 64), (1, rank, 1))
        return LayerOption(Candidate(layer, shape), 50.0 * rank, 200.0 * rank, 64, 0.1 if rank >= 9 else 4.5)

    layers = [[LayerOption(dense_candidate(layer), 1000.0, 4000, 64, 0.0), at(2), at(16)]]
    asked: list[tuple[int, int]] = []

    def refine(wanted):
        ranks = [[option and option.candidate.tt_shape.ranks[1] for option in (b.lower, b.upper)] for b in wanted]
        asked.extend((a or 0, b) for a, b in ranks)
        return [at(((a or 0) + b) // 2) for a, b in ranks]

    found = search(layers, 8, measure=lambda m: m.loss, evaluations=60, refine=refine)
    assert found.stable
    assert (2, 16) in asked
    assert min(m.latency for m in found.finalists if m.loss < 1) == at(9).latency
    assert len(asked) == len(set(asked)) == len(found.asked)

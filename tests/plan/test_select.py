"""Whole-model composition against brute force; choices under budgets against their definitions."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.errors import BudgetError, UsageError
from lrf_dse.plan.choice import (
    Budgets,
    choose,
    latency_unit,
    loss_kind,
    over_budget,
    plan_objectives,
    slower_than_dense,
    why_dense,
)
from lrf_dse.plan.front import non_dominated
from lrf_dse.plan.select import Combination, LayerOption, compose, finalists
from lrf_dse.schema import Candidate, FcLayer, Plan, TTShape, dense_candidate

LAYER = FcLayer("fc", 64, 64, 1, True)


def option(rank: int, latency: float, flash: int, ram: int, loss: float) -> LayerOption:
    """Rank 0 is the dense layer; other ranks only tell the candidates apart."""
    shape = TTShape((64, 1), (1, 64), (1, rank, 1)) if rank else None
    candidate = dense_candidate(LAYER) if shape is None else Candidate(LAYER, shape)
    return LayerOption(candidate, latency, flash, ram, loss)


NUMBERS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(-1, 5))
LAYERS = st.lists(st.lists(NUMBERS, min_size=1, max_size=3), min_size=1, max_size=4).map(
    lambda layers: [[option(rank, *numbers) for rank, numbers in enumerate(rows)] for rows in layers]
)


def numbers(member: Combination) -> tuple[float, ...]:
    return member.latency, member.flash_bytes, member.ram_bytes, member.loss


def everything(layers: list[list[LayerOption]]) -> list[Combination]:
    return [Combination(options) for options in itertools.product(*layers)]


@given(LAYERS)
def test_compose_is_the_exact_front(layers: list[list[LayerOption]]) -> None:
    whole = everything(layers)
    expected = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    found = compose(layers)
    assert [numbers(member) for member in found] == sorted(expected)
    assert all(choice in options for m in found for choice, options in zip(m.options, layers, strict=True))


@given(LAYERS)
def test_a_capped_front_keeps_its_ends_and_invents_nothing(layers: list[list[LayerOption]]) -> None:
    whole = [numbers(member) for member in everything(layers)]
    found = [numbers(member) for member in compose(layers, cap=8)]
    assert len(found) <= 8
    assert set(found) <= set(whole)
    for k in range(4):
        assert min(row[k] for row in found) == min(row[k] for row in whole)


def test_a_capped_front_stays_near_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    layers = [
        [option(r, *rng.integers(1, 1000, 2).tolist(), 1, float(rng.random())) for r in range(6)] for _ in range(5)
    ]
    exact = np.array([numbers(member) for member in compose(layers, cap=100_000)])
    capped = np.array([numbers(member) for member in compose(layers, cap=60)])
    assert len(capped) <= 60 < len(exact)
    span = np.ptp(exact, axis=0) + 1e-9
    worst = max(((capped - row) / span).max(axis=1).min() for row in exact)
    assert worst < 0.25


def test_a_hundred_layers_of_ten_options_take_seconds() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 10**6, (100, 10, 3)).tolist()
    losses = rng.random((100, 10)).tolist()
    layers = [[option(r, *sizes[k][r], losses[k][r]) for r in range(10)] for k in range(100)]
    start = time.process_time()  # not the wall's: others may be at work on this machine
    found = finalists(layers, 8)
    assert time.process_time() - start < 30
    assert len(found) == 8


@given(LAYERS, st.integers(1, 12), st.none() | st.integers(-1, 8))
@settings(max_examples=60)
def test_finalists_hold_the_reference_and_the_ends(
    layers: list[list[LayerOption]], count: int, max_loss: int | None
) -> None:
    whole = everything(layers)
    found = finalists(layers, count, max_loss=max_loss)
    assert found[0] == whole[0]  # option 0 of every layer is dense
    assert found[0].is_dense
    rest = [numbers(member) for member in found[1:]]
    assert len(set(rest)) == len(rest)
    compressed = [member for member in whole if not member.is_dense]
    if not compressed:
        assert len(found) == 1
        return
    assert min(row[3] for row in rest) == min(member.loss for member in compressed)
    front = {numbers(whole[i]) for i in non_dominated([numbers(member) for member in whole])}
    if ends := [numbers(member) for member in compressed if numbers(member) in front - {numbers(whole[0])}]:
        assert min(row[0] for row in rest) <= min(row[0] for row in ends)
        assert min(row[1] for row in rest) <= min(row[1] for row in ends)
    assert len(found) <= max(count, 6)
    if max_loss is not None and count > 6:
        assert sum(row[3] > max_loss for row in rest) <= 3


def test_finalists_spread_within_the_loss_that_matters() -> None:
    layers = [[option(r, 100.0 - r, 1000 - 9 * r, 64, 0.01 * r**2) for r in range(60)]]
    wide = finalists(layers, 8)
    narrow = finalists(layers, 8, max_loss=1.0)
    assert sum(m.loss <= 1.0 for m in wide) < sum(m.loss <= 1.0 for m in narrow) == 7
    assert [m.latency for m in narrow[1:]] == sorted(m.latency for m in narrow[1:])


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="dense option"):
        finalists([[option(3, 1, 1, 1, 1)]], 4)
    with pytest.raises(ValueError, match="at least one option"):
        compose([[]])
    with pytest.raises(ValueError, match="finite"):
        compose([[option(0, float("nan"), 1, 1, 1)]])
    with pytest.raises(ValueError, match="cap"):
        compose([[option(0, 1, 1, 1, 1)]], cap=3)


def plan(name: str, cycles: float | None, flash: int, ram: int, drop: float | None) -> Plan:
    choices = (dense_candidate(LAYER),) if name == "dense" else (option(8, 0, 0, 0, 0).candidate,)
    return Plan(name, choices, cycles, "roofline estimate, k1", 1000 + flash, flash, ram, 0.1, None, drop)


PLANS = [
    plan("dense", 1000, 1_000_000, 500, 0.0),
    plan("p1", 400, 300_000, 500, 0.3),
    plan("p2", 250, 200_000, 400, 1.5),
    plan("p3", 240, 100_000, 300, 20.0),
]


@pytest.mark.parametrize(
    ("pick", "budgets", "expected"),
    [
        ("fastest", Budgets(), "p3"),
        ("smallest", Budgets(max_drop=1.0), "p1"),
        ("fastest", Budgets(max_drop=0.0), "dense"),
        ("fastest", Budgets(max_drop=2.0, max_ram_bytes=450), "p2"),
        ("knee", Budgets(), "p2"),
        ("knee", Budgets(max_drop=1.0), "p1"),
        ("p3", Budgets(max_flash_bytes=100_000), "p3"),
    ],
)
def test_choose(pick: str, budgets: Budgets, expected: str) -> None:
    assert choose(PLANS, pick, budgets).id == expected
    assert choose(PLANS[::-1], pick, budgets).id == expected


def test_of_equally_fast_plans_the_smallest_is_taken() -> None:
    fastest, beside, behind = (plan(name, cycles, flash, 500, 0.0) for name, cycles, flash in (
        ("p1", 200, 300_000), ("p2", 201.9, 200_000), ("p3", 202.1, 100_000),
    ))  # fmt: skip
    assert choose([PLANS[0], fastest, beside, behind], "fastest", Budgets()) == beside
    assert choose([PLANS[0], fastest, behind], "fastest", Budgets()) == fastest


@pytest.mark.parametrize(
    ("pick", "budgets", "words"),
    [
        ("knee", Budgets(max_flash_bytes=50_000), ("p3", "max_flash_bytes is 50,000", "100,000")),
        ("fastest", Budgets(max_drop=0.1, max_ram_bytes=450), ("dense", "max_ram_bytes is 450", "500")),
        ("p3", Budgets(max_drop=1.0), ("p3", "max_drop is 1", "20")),
    ],
)
def test_no_plan_within_the_budgets(pick: str, budgets: Budgets, words: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError) as caught:
        choose(PLANS, pick, budgets)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plans", "budgets", "words"),
    [
        (PLANS[:1], Budgets(max_drop=1.0), "no factorised plan came of the search"),
        (PLANS, Budgets(max_drop=0.1), "nearest is p1: max_drop is 0.1, the plan has 0.3"),
        (
            [PLANS[0], replace(PLANS[1], drop_points=6.527777778)],
            Budgets(max_drop=1.0),
            "nearest is p1: max_drop is 1, the plan has 6.528",
        ),
        (PLANS, Budgets(max_drop=1.0), "such as p1, are not faster"),
    ],
)
def test_why_the_dense_model_was_chosen(plans: list[Plan], budgets: Budgets, words: str) -> None:
    assert words in why_dense(plans, budgets)


def test_an_unknown_accuracy_keeps_no_drop_budget() -> None:
    unknown = [replace(p, drop_points=None) for p in PLANS]
    assert loss_kind(unknown) == "weight_error"
    assert choose(unknown, "fastest", Budgets()).id == "p3"
    with pytest.raises(BudgetError, match="an unknown one: give --data"):
        choose(unknown, "fastest", Budgets(max_drop=1.0))


def test_an_unknown_pick_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="fastest, smallest, knee, or a plan: dense, p1, p2, p3"):
        choose(PLANS, "best", Budgets())


def test_without_cycles_instructions_are_compared() -> None:
    plans = [PLANS[0], replace(PLANS[1], cycles=None)]
    assert latency_unit(plans) == "instructions"
    assert [row[0] for row in plan_objectives(plans)] == [1_001_000, 301_000]
    assert choose(plans, "fastest", Budgets()).id == "p1"


def test_a_plan_slower_than_dense_is_only_taken_by_name() -> None:
    """Compressed but slower: neither the fastest within budgets nor the knee, however small and accurate it is."""
    slow = plan("p4", 1001, 1_000, 10, 0.0)
    plans = [PLANS[0], slow]
    assert choose(plans, "knee", Budgets()).id == choose(plans, "fastest", Budgets()).id == "dense"
    with pytest.raises(BudgetError, match="every plan within the budgets is slower than dense: .* take plan p4 by"):
        choose(plans, "fastest", Budgets(max_flash_bytes=5_000))
    assert choose(plans, "p4", Budgets()).id == choose(plans, "smallest", Budgets()).id == "p4"


def test_dense_on_more_threads_makes_no_plan_slow() -> None:
    """What has two threads is compared with dense on two and on one, what has one only with that."""
    two = replace(PLANS[0], id="dense-2", cycles=600, choices=(replace(PLANS[0].choices[0], threads=2),))
    one = plan("p1", 900, 1_000, 10, 0.0)
    more = replace(one, id="p2", choices=(replace(one.choices[0], threads=2),))
    plans = [PLANS[0], two, one, more]
    assert [slower_than_dense(p, plans) for p in plans] == [False, False, False, True]


def test_a_plan_over_budget_says_what_it_exceeds_most() -> None:
    fast = PLANS[2]
    assert over_budget(fast, Budgets()) is None
    assert over_budget(fast, Budgets(max_drop=1.5)) is None
    excess = over_budget(fast, Budgets(max_drop=1.0, max_flash_bytes=199_999))
    assert excess == "max_drop is 1, the plan has 1.5"

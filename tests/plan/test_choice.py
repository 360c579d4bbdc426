"""The choice of one plan under budgets, against its definition and against brute force."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.errors import BudgetError, UsageError
from lrf_dse.plan.budgets import Budgets, over_budget, why_dense
from lrf_dse.plan.choice import (
    OBJECTIVES,
    SAME_LATENCY,
    choose,
    default_pick,
    latency_unit,
    loss_kind,
    plan_objectives,
    slower_than_dense,
)
from lrf_dse.schema import Candidate, FcLayer, Plan, TTShape, dense_candidate

LAYER = FcLayer("fc", 64, 64, 1, True)
LOW_RANK = Candidate(LAYER, TTShape((64, 1), (1, 64), (1, 8, 1)))


def plan(name: str, cycles: float | None, flash: int, ram: int, drop: float | None) -> Plan:
    choices = (dense_candidate(LAYER),) if name == "dense" else (LOW_RANK,)
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
        ("fastest", Budgets(max_cycles=250, max_drop=2.0), "p2"),
        ("least-ram", Budgets(max_drop=2.0), "p2"),
        ("most-accurate", Budgets(), "dense"),
        ("most-accurate", Budgets(max_flash_bytes=250_000), "p2"),
        ("smallest", Budgets(max_drop=2.0, max_cycles=300, max_ram_bytes=450, max_flash_bytes=250_000), "p2"),
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
        ("knee", Budgets(max_flash_bytes=50_000), ("the smallest plan takes 98 KiB of flash (p3)",)),
        (
            "fastest",
            Budgets(max_drop=0.1, max_ram_bytes=450),
            (
                "the most accurate plan within 450 bytes of RAM loses 1.5 points (p2)",
                "the plan of the least RAM within 0.1 points takes 500 bytes of RAM (dense)",
            ),
        ),
        ("smallest", Budgets(max_cycles=100), ("the fastest plan takes 240 cycles (p3)",)),
        ("fastest", Budgets(max_seconds=0.1), ("closest is plan dense: an unknown value",)),
        ("fastest", Budgets(max_drop=0.1, max_ram_bytes=10, max_cycles=10), ("closest is plan ",)),
        ("p3", Budgets(max_drop=1.0), ("p3", "the limit is 1 points", "20 points")),
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
        (PLANS, Budgets(max_drop=0.1), "nearest is p1: 0.3 points, the limit is 0.1 points"),
        (
            [PLANS[0], replace(PLANS[1], drop_points=6.527777778)],
            Budgets(max_drop=1.0),
            "nearest is p1: 6.528 points, the limit is 1 points",
        ),
        (PLANS, Budgets(max_drop=1.0), "such as p1, are not better"),
    ],
)
def test_why_the_dense_model_was_chosen(plans: list[Plan], budgets: Budgets, words: str) -> None:
    assert words in why_dense(plans, budgets)


def test_an_unknown_accuracy_keeps_no_drop_budget() -> None:
    unknown = [replace(p, drop_points=None) for p in PLANS]
    assert loss_kind(unknown) == "weight_error"
    assert choose(unknown, "fastest", Budgets()).id == "p3"
    with pytest.raises(BudgetError, match="an unknown value .give --data., the limit is 1 points"):
        choose(unknown, "fastest", Budgets(max_drop=1.0))


def test_an_unknown_pick_lists_the_valid_ones() -> None:
    with pytest.raises(
        UsageError, match="fastest, smallest, least-ram, most-accurate, knee, or a plan: dense, p1, p2, p3"
    ):
        choose(PLANS, "best", Budgets())


def test_without_cycles_instructions_are_compared() -> None:
    plans = [PLANS[0], replace(PLANS[1], cycles=None)]
    assert latency_unit(plans) == "instructions"
    assert [row[0] for row in plan_objectives(plans)] == [1_001_000, 301_000]
    assert choose(plans, "fastest", Budgets()).id == "p1"


def test_a_plan_slower_than_dense_is_taken_where_dense_does_not_fit() -> None:
    """Compressed but slower: neither the fastest nor the knee while the dense model keeps the budgets."""
    slow = plan("p4", 1001, 1_000, 10, 0.0)
    plans = [PLANS[0], slow]
    assert choose(plans, "knee", Budgets()).id == choose(plans, "fastest", Budgets()).id == "dense"
    for small in (Budgets(max_flash_bytes=5_000), Budgets(max_ram_bytes=400, max_drop=1.0)):
        assert choose(plans, "fastest", small).id == choose(plans, "knee", small).id == "p4"
    assert choose(plans, "p4", Budgets()).id == choose(plans, "smallest", Budgets()).id == "p4"


SMALL = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(-1, 5))
LIMIT = st.none() | st.integers(0, 6)


def wanted(row: Plan, pick: str) -> tuple[float, ...]:
    """What `pick` wants least of."""
    cycles = row.cycles or inf
    drop = max(row.drop_points or 0.0, 0.0)
    return {
        "fastest": (cycles,), "smallest": (row.flash_bytes,), "least-ram": (row.ram_bytes,),
        "most-accurate": (drop, cycles),
    }[pick]  # fmt: skip


@given(st.lists(SMALL, min_size=1, max_size=7), st.tuples(LIMIT, LIMIT, LIMIT, LIMIT))
def test_any_mix_of_limits_against_brute_force(
    rows: list[tuple[int, ...]], limits: tuple[int | None, int | None, int | None, int | None]
) -> None:
    names = ["dense", *(f"p{n}" for n in range(1, len(rows)))]
    plans = [plan(name, *row[:3], float(row[3])) for name, row in zip(names, rows, strict=True)]
    cycles, flash, ram, drop = limits
    budgets = Budgets(drop, flash, ram, cycles)
    keeping = [
        p for p, row in zip(plans, rows, strict=True)
        if all(limit is None or value <= limit for value, limit in zip(row, limits, strict=True))
    ]  # fmt: skip
    assert [p.id for p in keeping] == [p.id for p in plans if budgets.admits(p)]
    for pick in OBJECTIVES.values():
        if not keeping:
            with pytest.raises(BudgetError, match="no plan satisfies the budgets"):
                choose(plans, pick, budgets)
            continue
        chosen = choose(plans, pick, budgets)
        least = min(wanted(p, pick) for p in keeping)
        assert chosen in keeping
        assert wanted(chosen, pick) == least or (
            pick == "fastest" and (chosen.cycles or inf) <= SAME_LATENCY * least[0]
        )
    if keeping:
        dense = [p for p in keeping if p.is_dense]
        assert not dense or not slower_than_dense(choose(plans, "knee", budgets), dense)


def test_what_is_picked_where_nobody_says() -> None:
    assert default_pick(None, Budgets()) == "knee"
    assert default_pick(None, Budgets(max_seconds=1.0)) == "fastest"
    assert default_pick("bytes", Budgets()) == default_pick("bytes", Budgets(max_drop=1.0)) == "smallest"


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
    assert excess == "1.5 points, the limit is 1 points"

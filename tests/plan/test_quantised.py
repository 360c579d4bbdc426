"""What factorising gains over fewer bits alone."""

from __future__ import annotations

from dataclasses import replace

from lrf_dse.plan.quantised import gain_over_quantising, is_factorised, storage_of
from lrf_dse.schema import Candidate, FcLayer, Plan, Storage, TTShape, dense_candidate

LAYER = FcLayer("fc", 64, 64, 1, True)


def plan(name: str, storage: Storage, *, rank: int | None, flash: int, cycles: float, drop: float) -> Plan:
    shape = None if rank is None else TTShape((64, 1), (1, 64), (1, rank, 1))
    choice = replace(dense_candidate(LAYER, "rvv"), tt_shape=shape, storage=storage)
    return Plan(name, (choice,), cycles, "modelled", 1000, flash, 1, 0.1, None, drop)


DENSE = plan("dense", "fp32", rank=None, flash=100_000, cycles=1000, drop=0.0)
INT8 = plan("p1", "int8", rank=None, flash=30_000, cycles=600, drop=0.1)
INT4 = plan("p2", "int4", rank=None, flash=20_000, cycles=800, drop=2.0)


def test_the_smallest_that_loses_no_more_is_what_counts() -> None:
    chosen = plan("p3", "int4", rank=8, flash=15_000, cycles=300, drop=0.5)
    sentence = gain_over_quantising([DENSE, INT8, INT4, chosen], chosen)
    assert sentence is not None and sentence.startswith("Factorising gained over")
    assert "(int8)" in sentence and "30,000 B" in sentence and "2.00 times as much" in sentence


def test_no_gain_is_said() -> None:
    chosen = plan("p3", "fp32", rank=8, flash=40_000, cycles=900, drop=3.0)
    sentence = gain_over_quantising([DENSE, INT8, INT4, chosen], chosen)
    assert sentence is not None and "gained nothing" in sentence and "(int4)" in sentence


def test_dense_counts_where_fewer_bits_lose_more() -> None:
    chosen = plan("p3", "int8", rank=8, flash=40_000, cycles=900, drop=0.0)
    sentence = gain_over_quantising([DENSE, INT8, chosen], chosen)
    assert sentence is not None and "(fp32)" in sentence


def test_nothing_is_said_of_plans_that_are_not_factorised_or_of_fp32_alone() -> None:
    low_rank = plan("p3", "fp32", rank=8, flash=40_000, cycles=900, drop=0.0)
    assert gain_over_quantising([DENSE, INT8], INT8) is None
    assert gain_over_quantising([DENSE, low_rank], low_rank) is None


def test_storages_of_a_plan() -> None:
    mixed = replace(INT4, choices=(*INT4.choices, Candidate(LAYER, None, kernel="rvv")))
    assert storage_of(mixed) == "fp32 and int4"
    assert not is_factorised(mixed)

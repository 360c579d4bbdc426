"""Ranks between two options: inside them, as the kernel's estimate says, and none where they do not pay."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.quiet import library_lines_hidden
from lrf_dse.pipeline.refining import rank_between
from lrf_dse.plan.options import LayerOption
from lrf_dse.plan.refine import Between
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.target import load_target

LAYER = FcLayer("fc", 784, 300, 1, True)
TARGET = load_target("spacemit-k1")


def pair(low: int, high: int, storage: str = "fp32", *, d: int = 2) -> Between:
    dims = ((300, 1), (1, 784)) if d == 2 else ((20, 5, 3), (4, 14, 14))

    def option(rank: int) -> LayerOption:
        shape = TTShape(*dims, (1, *[rank] * (d - 1), 1))
        return LayerOption(Candidate(LAYER, shape, kernel="rvv", storage=storage), 1.0, 1.0, 1.0, 1.0)

    return Between(option(low), option(high))


@given(st.integers(1, 40), st.integers(2, 40), st.sampled_from(["fp32", "int8", "int4"]), st.sampled_from([2, 3]))
@settings(max_examples=15, deadline=None)
def test_a_rank_between_is_smaller_than_the_larger_and_no_slower(low: int, more: int, storage: str, d: int) -> None:
    wanted = pair(low, low + more, storage, d=d)
    found = rank_between(wanted, TARGET)
    if found is None:
        return
    assert all(low <= rank <= low + more for rank in found.tt_shape.ranks[1:-1])
    assert found not in (wanted.lower.candidate, wanted.upper.candidate)
    assert estimate(found, TARGET).cycles <= estimate(wanted.upper.candidate, TARGET).cycles
    assert (found.storage, found.kernel) == (storage, "rvv")


def test_every_rank_counts_where_the_kernel_is_as_fast_for_it() -> None:
    assert rank_between(pair(8, 16), TARGET).tt_shape.ranks == (1, 12, 1)
    assert rank_between(pair(15, 16), TARGET) is None
    assert rank_between(replace(pair(4, 8), lower=None), TARGET).tt_shape.ranks == (1, 4, 1)
    assert rank_between(replace(pair(1, 1), lower=None), TARGET) is None


def test_what_a_library_prints_is_hidden_and_python_s_own_lines_stay(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before\n")
    with library_lines_hidden():
        ctypes.CDLL(None).puts(b"noise of a library")
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "before\nafter\n"

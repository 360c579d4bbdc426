"""Agreement of two runners: the figures against brute force and scipy, and one comparison for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from builders.zoo import fully_connected, two_inputs_two_outputs_with_copies
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulators.rvsim import RvsimRunner
from benchmarks.simulators.second_opinion import Disagreement, Entry, disagreements, second_opinion, spearman
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure
from lrf_dse.target import load_target

PAIRS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=12)


@given(PAIRS)
def test_the_rank_correlation_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    sides = list(zip(*pairs, strict=True))
    found = spearman([(float(a), float(b)) for a, b in pairs])
    if min(len(set(side)) for side in sides) == 1:
        assert found is None
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(*sides).statistic)


@given(PAIRS)
def test_exactly_the_pairs_in_opposite_order_disagree(pairs: list[tuple[int, int]]) -> None:
    entries = [Entry(str(number), float(a), float(b)) for number, (a, b) in enumerate(pairs)]
    found = disagreements(entries)
    wanted = {
        (one.name, other.name)
        for one in entries
        for other in entries
        if one.reference_cycles < other.reference_cycles and one.opinion_cycles > other.opinion_cycles
    }
    assert {(pair.faster, pair.slower) for pair in found} == wanted
    strength = [pair.reference * pair.opinion for pair in found]
    assert strength == sorted(strength, reverse=True)


def test_one_pair_in_opposite_order() -> None:
    entries = [Entry("a", 100, 300), Entry("b", 200, 100), Entry("c", 400, 400)]
    assert disagreements(entries) == (Disagreement("a", "b", 2.0, 3.0),)
    assert entries[1].ratio == 0.5


class _Refuses:
    def run(self, job: Job) -> Failure:
        return Failure("run", f"not {job.target.name}")


def test_the_timing_model_against_rvsim(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sizes = {fully_connected: [(3, 40)], two_inputs_two_outputs_with_copies: [(3, 16), (3, 8)]}
    kernels = {
        maker.__name__: lambda maker=maker, shapes=shapes: (
            maker(),
            [random.standard_normal(shape).astype(np.float32) for shape in shapes],
        )
        for maker, shapes in sizes.items()
    }
    target = load_target("spacemit-k1")
    found = second_opinion(kernels, target, tmp_path, reference=QemuRunner(), opinion=RvsimRunner())
    assert [entry.name for entry in found.entries] == list(kernels)
    assert found.left_out == {}
    assert found.spearman == 1.0
    assert found.disagreements == ()
    assert found.reference_source == "modelled cycles, spacemit-k1"
    assert "a second opinion" in found.opinion_source
    for entry in found.entries:
        assert 0.3 < entry.ratio < 3


def test_what_one_of_them_refuses_is_left_out_with_the_reason(tmp_path: Path) -> None:
    kernels = {"fc": lambda: (fully_connected(), [np.ones((3, 40), np.float32)])}
    target = load_target("spacemit-k1")
    found = second_opinion(kernels, target, tmp_path, reference=_Refuses(), opinion=_Refuses())
    assert (found.entries, found.spearman) == ((), None)
    assert found.left_out == {"fc": "reference, run: not spacemit-k1"}

"""Estimates and lower bounds against measurements: a small sample here, more with the `soak` marker."""

from __future__ import annotations

import runpy
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.simulators.estimates import KINDS, Compared, agreement, compare_iree, compare_ours, draw_kernels
from lrf_dse.codegen import KernelSpec
from lrf_dse.cost.counts import dense_parameters, parameters
from lrf_dse.schema import Failure, FcLayer
from lrf_dse.target import Target, load_target, target_names
from lrf_dse.tune import FileRecords, RunnerMeasure

TARGETS = [target for target in map(load_target, target_names()) if target.timing is not None]
BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "estimates.py"))


def small_kernels(seed: int, count: int) -> list[tuple[str, KernelSpec]]:
    """Drawn kernels that a simulator runs in no time."""
    drawn = islice(draw_kernels(seed), 40 * count)
    return [each for each in drawn if each[1].out_features * each[1].in_features * each[1].batch < 4e5][:count]


def assert_bounded(kernels: list[tuple[str, KernelSpec]], target: Target, folder: Path, *, iree: int) -> list[Compared]:
    """No program is faster than its lower bound; our kernels' comparisons."""
    ours = list(compare_ours(kernels, target, folder / "ours", measure=RunnerMeasure(target)))
    others = list(compare_iree(kernels[:iree], target, folder / "iree", records=FileRecords(folder / "records")))
    compared = [each for each in (*ours, *others) if isinstance(each, Compared)]
    assert [each for each in (*ours, *others) if isinstance(each, Failure)] == []
    assert [each for each in compared if each.breaks_bound] == []
    return [each for each in ours if isinstance(each, Compared)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_program_is_faster_than_its_lower_bound(target: Target, tmp_path: Path) -> None:
    kernels = small_kernels(TARGETS.index(target), len(KINDS))[1 + TARGETS.index(target) % 3 :][:2]
    assert_bounded(kernels, target, tmp_path, iree=1)


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_lower_bounds_and_estimates_of_many_programs(target: Target, tmp_path: Path) -> None:
    ours = assert_bounded(small_kernels(7, 60), target, tmp_path, iree=20)
    assert agreement(ours).median < BENCHMARK["Row"](target, ours, [], []).goal


def test_kernels_are_drawn_again_and_are_of_every_kind() -> None:
    drawn = list(islice(draw_kernels(3), 50))
    assert drawn == list(islice(draw_kernels(3), 50)) != list(islice(draw_kernels(4), 50))
    assert {kind for kind, _ in drawn} == set(KINDS)
    assert {spec.batch for _, spec in drawn} == {1, 4, 16}
    for kind, spec in drawn:
        assert (spec.shape is None) == (kind == "dense")
        if spec.shape is not None:
            layer = FcLayer("fc", spec.in_features, spec.out_features, spec.batch, spec.has_bias)
            assert parameters(spec.shape) < dense_parameters(layer)
            assert kind == ("low rank" if spec.shape.is_low_rank else f"TT d={spec.shape.d}")


def compared(estimate: float | None, measured: float) -> Compared:
    return Compared("dense", KernelSpec(None, 8, 8), None, estimate, 90.0, measured)


def test_agreement_of_estimates() -> None:
    found = agreement([compared(110, 100), compared(150, 200), compared(300, 300), compared(440, 400)])
    assert (found.count, found.worst) == (4, 0.25)
    assert (found.median, found.ninety, found.spearman) == (pytest.approx(0.1), 0.25, 1.0)
    with pytest.raises(ValueError, match="two kernels or more"):
        agreement([compared(1, 1)])
    with pytest.raises(ValueError, match="nothing estimates"):
        _ = compared(None, 1).error


def test_a_program_below_its_bound_breaks_it_and_the_benchmark_counts_it() -> None:
    rows = [compared(100, 95), compared(100, 89), compared(200, 190)]
    assert [each.breaks_bound for each in rows] == [False, True, False]
    row = BENCHMARK["Row"](load_target("spacemit-k1"), rows, [compared(None, 80)], [])
    assert row.goal == 0.10 and len(row.below_bound) == 2
    assert BENCHMARK["table"]([row]).splitlines()[-1].endswith("| 10.0 % | 4 | 2 |")
    assert sum("BROKEN" in line for line in BENCHMARK["listing"](row)) == 2

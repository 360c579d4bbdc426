"""Every equivalent form of a TT layer computes the same: contractions, graphs; and what the report makes of figures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.against.against_dense import break_even_rank, dense_bound
from benchmarks.against.contractions import Contraction, contractions
from benchmarks.against.graphs import T3F_FORMS, dense_model, t3f_model, transpose_free_model
from benchmarks.against.kernel_report import geomean, ratio, slower_than, spans, summary
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.kernels import KernelRow
from benchmarks.against.stage_cycles import StageFigures, marked, peak_fraction
from benchmarks.against.trials import ColumnResult, Trial
from benchmarks.against.variants import LayerData
from lrf_dse.codegen import KernelSpec, contraction_orders, default_schedule, emit
from lrf_dse.cost.counts import StageCount
from lrf_dse.models.evaluate import run_once
from lrf_dse.schema import Failure, Measurement, TTShape
from lrf_dse.target import load_target

SHAPE = TTShape((4, 3, 2), (2, 3, 5), (1, 3, 2, 1))


@pytest.mark.parametrize("batch", [1, 3])
def test_all_graphs_compute_the_layer(batch: int) -> None:
    data = LayerData(KernelCase(SHAPE, batch))
    for merges in ((1, 1, 1), (2, 1), (1, 2)):
        for order in contraction_orders(len(merges)):
            way = Contraction(SHAPE, merges, order, batch)
            models = [transpose_free_model(way, data.cores)]
            models += [t3f_model(way, data.cores, form) for form in T3F_FORMS if way.from_an_end]
            for model in models:
                np.testing.assert_allclose(run_once(model, [data.x])[0], data.y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transposed", [True, False])
def test_dense_graphs_compute_the_dense_layer(transposed: bool) -> None:
    data = LayerData(KernelCase(SHAPE, 3), dense=True)
    y = run_once(dense_model(data.weight, 3, transposed=transposed), [data.x])[0]
    np.testing.assert_allclose(y, data.y, rtol=1e-4, atol=1e-5)


def test_t3f_has_no_contraction_from_the_middle() -> None:
    way = Contraction(SHAPE, (1, 1, 1), (1, 0, 2), 1)
    with pytest.raises(ValueError, match="t3f contracts from an end"):
        t3f_model(way, LayerData(KernelCase(SHAPE)).cores, "state")


def test_contractions_hold_the_cheapest_and_the_cores_as_they_are() -> None:
    shape = TTShape((5, 5, 4, 3), (4, 4, 7, 7), (1, 8, 8, 8, 1))
    found = contractions(shape, 1)
    assert found[0].merges == (2, 2)
    assert any(way.merges == (1, 1, 1, 1) and way.order == (3, 2, 1, 0) for way in found)
    every = [Contraction(shape, (2, 2), order, 1).flops for order in contraction_orders(2)]
    assert found[0].flops == min(every)
    # The low-rank pair is cheapest as it is; all cores merged would be the dense layer.
    assert [way.merges for way in contractions(TTShape((30, 1), (1, 40), (1, 4, 1)), 1)] == [(1, 1)]


def test_marks_follow_the_calls_of_stages() -> None:
    source = (
        "void k(void)\n{\n  stage_1(x);\n  for (size_t s = 0; s < 2; s++) {\n    stage_2(x);\n    stage_3(y);\n  }\n}\n"
    )
    text, calls = marked(source)
    assert calls == [1, 2, 3, 2, 3]
    assert text.count("NEXT_STAGE;\n") == 3
    target = load_target("spacemit-k1")
    spec = KernelSpec(SHAPE, 24, 30)
    schedule = default_schedule(spec, target)
    kernel = emit(spec, schedule, target, name="kernel")
    assert marked(kernel.source)[1] == [*range(1, len(schedule.stages) + 1)]


def result(*cycles: float | None) -> ColumnResult:
    return ColumnResult(tuple(Trial(f"v{n}", _outcome(c), {} if c is None else {"m": c}) for n, c in enumerate(cycles)))


def _outcome(cycles: float | None) -> Measurement | Failure:
    if cycles is None:
        return Failure("build", "refused")
    return Measurement("test", 1, {}, 1, 1, {}, 0.0, 0.0, cycles=cycles)


def test_a_ratio_takes_the_best_of_its_columns_and_leaves_out_what_failed() -> None:
    columns = {"ours": result(4, 2), "c_literal": result(None, 9), "c_hand": result(6), "polly": result(None)}
    row = KernelRow(KernelCase(SHAPE), {**columns, "dense_iree": result(1)})
    assert ratio(row, "c") == 3
    assert ratio(row, "polly") is None
    assert ratio(row, "c", "m") == 3
    assert slower_than(row) == ["dense_iree"]
    means = summary([row, row], None)
    assert means["geomean"]["c"] == pytest.approx(3)
    assert means["geomean"]["polly"] is None
    assert {name: rows for name, rows in means["geomean_rows"].items() if rows} == {"c": 2, "dense_iree": 2}
    failure = columns["polly"].failure
    assert failure is not None
    assert failure.reason == "refused"


def test_a_mean_has_its_least_and_its_most_over_the_switches() -> None:
    def swept(cycles: float, **sweep: float) -> ColumnResult:
        return ColumnResult((Trial("v", _outcome(cycles), {"default": cycles, **sweep}),))

    row = KernelRow(KernelCase(SHAPE), {"ours": swept(2, slow=8, fast=1), "c_hand": swept(6, slow=16, fast=4)})
    found = spans([row], ("default", "slow", "fast"))
    assert found["c"] == (pytest.approx(2), pytest.approx(4))
    assert found["polly"] is None


def test_the_peak_fraction_weighs_large_near_stages_by_flops() -> None:
    def stage(rows: int, cycles: float, *, fits: bool = True) -> StageFigures:
        count = StageCount(1, rows, 1000, 100)
        return StageFigures(count, count.flops / 16, 1.0, fits, {"default": cycles})

    large, twice = stage(10, 250_000.0), stage(20, 250_000.0)
    assert peak_fraction([large], "default") == pytest.approx(0.5)
    assert peak_fraction([large, twice], "default") == pytest.approx((0.5 + 2 * 1.0) / 3)
    assert peak_fraction([stage(1, 1.0), stage(10, 1.0, fits=False)], "default") is None
    assert geomean([]) is None


def test_the_break_even_rank_is_the_largest_that_fits() -> None:
    target = load_target("spacemit-k1")
    shape = TTShape((64, 64), (64, 64), (1, 8, 1))
    case = KernelCase(shape)
    # 8 multiply-adds a cycle: rank r costs at least r * 2 * 64^3 / 8 cycles while the cores stay in the L2.
    cycles = 8 * 2 * 64**3 / 8
    assert break_even_rank(case, target, measured=cycles, limit=2.01 * cycles) == 16
    assert break_even_rank(case, target, measured=2 * cycles, limit=2.01 * cycles) == 8
    assert break_even_rank(case, target, measured=cycles, limit=cycles / 100) == 0
    assert break_even_rank(case, target, measured=cycles, limit=1e12) == 1024  # the largest that is explored
    assert break_even_rank(case, load_target("qemu-rv64gcv"), measured=cycles, limit=cycles) is None


def test_a_dense_layer_is_bound_by_multiply_adds_loads_or_memory() -> None:
    target = load_target("spacemit-k1")
    small = KernelCase(TTShape((8, 8), (8, 8), (1, 8, 1)))
    assert dense_bound(small, target) == 64 * 64 * 4 / 16  # bytes from the first cache; multiply-adds take half of that
    assert dense_bound(KernelCase(small.shape, 16), target) == 16 * 64 * 64 / 8
    assert target.timing is not None
    large = KernelCase(TTShape((64, 64), (64, 64), (1, 8, 1)))
    rate = target.timing.dram.bytes_per_cycle.value
    assert dense_bound(large, target) == (4096 * 4096 * 4 - 32768 - 524288) / rate
    assert dense_bound(small, load_target("qemu-rv64gcv")) is None

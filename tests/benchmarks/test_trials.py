"""Which variants large rows try: those that were best on the small rows of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.against import kernels
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.trials import ColumnResult, Trial, ranked_variants
from lrf_dse.schema import Failure, Measurement, TTShape


def outcome(cycles: float | None) -> Measurement | Failure:
    """What a run of so many cycles leaves; None: it was wrong."""
    if cycles is None:
        return Failure("run", "wrong")
    return Measurement("qemu", None, {}, 0, 0, {}, max_abs_error=0.0, max_rel_error=0.0, cycles=cycles)


def column(**cycles: float | None) -> ColumnResult:
    """Trials by "group__variant"."""
    return ColumnResult(tuple(Trial(name.replace("__", ": "), outcome(figure)) for name, figure in cycles.items()))


def test_a_variant_counts_by_its_best_group() -> None:
    results = [column(g1__a=100, g2__a=400, g1__b=90, g2__b=200, g1__c=95), column(g1__a=50, g1__b=60, g1__c=None)]
    assert ranked_variants(results) == ("a", "b", "c")


def test_what_wins_elsewhere_comes_before_another_of_the_same_kind() -> None:
    results = [column(g__a=100, g__like_a=101, g__other=300), column(g__a=200, g__like_a=201, g__other=100)]
    assert ranked_variants(results) == ("a", "other", "like_a")


def test_nothing_is_ranked_where_all_failed() -> None:
    assert ranked_variants([column(g__a=None)]) == ()


class Recorder:
    """Stands in for KernelRuns: every column has the variants slow and fast; remembers what was called likely."""

    target = None

    def __init__(self) -> None:
        self.likely: dict[str, Sequence[str]] = {}

    def column(self, name: str, groups: Any, data: Any, folder: Path, *, likely: Sequence[str]) -> ColumnResult:
        del groups, folder
        if name == "iree_t3f":
            self.likely[data.case.name] = likely
        return column(g__slow=200, g__fast=100)

    def stages(self, kernel: Any, folder: Path) -> tuple[()]:
        del kernel, folder
        return ()


class Kernel:
    """Stands in for OurKernel."""

    schedule, roofline_cycles = "any", 50.0


def test_large_rows_try_what_was_best_on_the_smallest_of_their_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (KernelCase(TTShape((4, n), (4, 8), (1, 4, 1))) for n in (4, 16))
    other = KernelCase(TTShape((4, 2, 2), (4, 4, 2), (1, 4, 4, 1)))
    monkeypatch.setattr(kernels, "best_kernel", lambda *_: Kernel())
    runs = Recorder()
    rows = kernels.run_kernels([large, other, small], runs, tmp_path, jobs=1, progress=lambda *_: None)  # type: ignore[arg-type]
    assert [row.case for row in rows] == [large, other, small]
    assert set(rows[0].columns) == {*kernels.COLUMNS, *kernels.DENSE_COLUMNS}
    assert rows[0].rooflines == dict.fromkeys(kernels.STORAGE_COLUMNS, 50.0)
    assert runs.likely == {small.name: (), other.name: (), large.name: ("fast", "slow")}


def test_after_the_last_moment_no_row_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest dense layer and the smallest row come first; the row has the columns of that layer, which is its."""
    small, large = (KernelCase(TTShape((4, n), (4, 8), (1, 4, 1))) for n in (4, 16))
    clock = iter([1.0, 1.0, 11.0, 11.0])
    monkeypatch.setattr(kernels, "monotonic", lambda: next(clock))
    monkeypatch.setattr(kernels, "best_kernel", lambda *_: Kernel())
    rows = kernels.run_kernels(
        [large, small],
        Recorder(),
        tmp_path,
        jobs=1,
        progress=lambda *_: None,
        until=10.0,  # type: ignore[arg-type]
    )
    assert [row.case for row in rows] == [small]
    assert set(rows[0].columns) == {*kernels.COLUMNS, *kernels.DENSE_COLUMNS}

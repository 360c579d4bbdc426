"""One tiny kernel through every column: built, verified, measured, recorded; and what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.against import benchmark, c_columns, iree_columns, kernel_runs, our_columns
from benchmarks.against.kernel_page import write_pages
from benchmarks.against.kernel_report import COLUMN_ORDER, RATIOS
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.kernel_table import dense_table, failures, kernel_table, kind_table, stage_table, summary_table
from benchmarks.against.plain_loops import emit_loops
from benchmarks.against.polyhedral import TunedMachine, compile_with_pluto, compile_with_polly
from benchmarks.against.variants import LayerData
from lrf_dse.errors import BuildError, ToolError, UsageError
from lrf_dse.schema import TTShape
from lrf_dse.target import Target, load_target

CASE = KernelCase(TTShape((4, 4), (4, 8), (1, 4, 1)))
MODELS = {"default", "perfect memory", "no prefetcher", "in-order write-back", "decoupled vector queue"}


@pytest.fixture(scope="module")
def k1() -> Target:
    return load_target("spacemit-k1")


@pytest.fixture(scope="module")
def few_variants() -> Any:
    """One or two variants of each column: what the many have in common is tested, not each of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iree_columns, "FLAG_SETS", (iree_columns.FLAG_SETS[0], iree_columns.FLAG_SETS[3]))
        patch.setattr(iree_columns, "T3F_FORMS", ("state",))
        patch.setattr(c_columns, "POLLY_SETS", {"default": ()})
        patch.setattr(c_columns, "POLYHEDRAL_FORMS", ("einsum", "i-k-j"))
        patch.setattr(c_columns, "_MATHS", {"fast-math": ("-ffast-math",)})
        patch.setattr(our_columns, "BUDGET", 1)
        patch.setattr(our_columns, "DENSE_BUDGET", 1)
        yield


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def report(few_variants: None, k1: Target, records: Path) -> dict[str, Any]:
    return json.loads(json.dumps(benchmark.run_benchmark([CASE], k1, records, jobs=2).to_json()))


def test_every_column_is_verified_and_measured(report: dict[str, Any]) -> None:
    (row,) = report["rows"]
    assert set(row["columns"]) == set(COLUMN_ORDER)
    assert failures(report) == []
    for column in row["columns"].values():
        assert column["cycles"] > 0
        assert column["max_rel_error"] <= 1e-4
        assert set(column["sweep"]) == MODELS
        assert column["sweep"]["default"] == column["cycles"]
    assert row["measured_in"] == "IREE module"
    assert len(row["stages"]) == 2
    assert all(0 < stage["bound"] < stage["cycles"]["default"] for stage in row["stages"])


def test_the_json_has_the_means_under_every_model(report: dict[str, Any]) -> None:
    assert set(report["geomean"]) == set(RATIOS)
    assert set(report["switches"]) == MODELS
    assert report["switches"]["default"]["geomean"] == report["geomean"]
    assert report["kinds"]["d=2"]["geomean"] == report["geomean"]
    (row,) = report["rows"]
    best_c = min(row["columns"][name]["cycles"] for name in ("c_literal", "c_hand"))
    assert row["ratios"]["c"] == report["geomean"]["c"] == pytest.approx(best_c / row["columns"]["ours"]["cycles"])
    assert report["peak_fraction"] is None  # no stage is large
    ours, dense = (row["columns"][name] for name in ("ours", "dense_iree"))
    assert row["against_dense"]["warm"] == dense["cycles"] / ours["cycles"]
    assert row["against_dense"]["cold"] == dense["cold_cycles"] / ours["cold_cycles"]
    assert 0 < row["dense_bound"] < dense["cycles"]
    assert row["slower_than_dense"] == (row["ratios"]["dense"] < 1)


def test_a_second_run_answers_from_the_records(
    report: dict[str, Any], k1: Target, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(kernel_runs.KernelRuns, "build", refuse)
    assert benchmark.run_benchmark([CASE], k1, records).to_json() == report


def test_tables_and_pages_show_every_row(report: dict[str, Any], k1: Target, tmp_path: Path) -> None:
    head, rows = kernel_table(report)
    assert len(head) == len(rows[0])
    assert ">Polly 22" in head
    bytes_of = report["rows"][0]["columns"]["ours"]["bytes"]
    assert rows[0][head.index(">L1 KiB")] == f"{bytes_of['l1'] / 1024:.0f}"
    assert rows[0][0] == CASE.name
    assert [row[0] for row in summary_table(report)[1]] == [
        "as it is",
        *sorted(MODELS - {"default"}, key=list(report["switches"]).index),
    ]
    assert [row[0] for row in kind_table(report)[1]] == ["d=2"]
    assert len(stage_table(report)[1]) == 2
    (against,) = dense_table(report)[1]
    assert against[0] == CASE.name
    write_pages(report, k1, tmp_path / "out")
    assert (tmp_path / "out" / "roofline.png").read_bytes().startswith(b"\x89PNG")
    assert CASE.name in (tmp_path / "out" / "kernels.html").read_text()
    write_pages(report, k1, tmp_path / "out")
    for name in ("kernels.html", "roofline.png"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text("mine")
        with pytest.raises(UsageError, match=f"{name}: is there already and no earlier output"):
            write_pages(report, k1, tmp_path / "mine")
        assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]
        (tmp_path / "mine" / name).unlink()


def test_polly_must_change_the_loops(k1: Target, tmp_path: Path) -> None:
    """A loop without a static control part, and one that Polly finds not worth its while, are no figure of Polly's."""
    machine = TunedMachine(k1.cc.tune)
    source = tmp_path / "loops.c"
    source.write_text("void f(float *x, int *p) { for (int i = 0; p[i]; i++) x[p[i]] += 1; }")
    with pytest.raises(BuildError, match="no static control part"):
        compile_with_polly(source, k1, machine, ())
    source.write_text("void f(float *x) { x[0] = 1; ")
    with pytest.raises(BuildError, match="clang-22 failed: .*expected"):
        compile_with_polly(source, k1, machine, ())


def test_pluto_transforms_a_marked_nest(k1: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for polycc that changes nothing but words, and one that changes what is computed."""
    data = LayerData(CASE)
    way = next(iter(c_columns.contractions(CASE.shape, 1)))
    source = tmp_path / "loops.c"
    source.write_text(emit_loops(way, data.cores, "i-k-j", scop=True).source)
    assert source.read_text().count("#pragma scop") == source.read_text().count("#pragma endscop") == 2
    with pytest.raises(ToolError, match="polycc not found"):
        compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    polycc = tmp_path / "polycc"
    polycc.write_text('#!/bin/sh\nsed "s/= 0;/= 0 * l;/" "$1" >"$3"\n')
    polycc.chmod(0o755)
    with pytest.raises(BuildError, match="Pluto left the loops as they are"):
        compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ())
    polycc.write_text('#!/bin/sh\nsed "s/= 0;/= 1;/" "$1" >"$3"\n')
    assert compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ()).name == "pluto.o"


def test_of_baselines_only_what_is_recorded_counts(report: dict[str, Any], k1: Target, tmp_path: Path) -> None:
    ours = benchmark.run_benchmark([CASE], k1, tmp_path, ours_only=True).to_json()
    (row,), (full,) = ours["rows"], report["rows"]
    assert row["columns"]["ours"]["cycles"] == full["columns"]["ours"]["cycles"]
    assert set(row["columns"]) == {"ours", "dense_packed"}
    assert ours["geomean"]["iree_t3f"] is None

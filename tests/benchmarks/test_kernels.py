"""One tiny kernel through every column: built, verified, measured, recorded; and what is shown of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.against import benchmark, c_columns, iree_columns, kernel_runs, our_columns
from benchmarks.against.kernel_csv import before_table, csv_text, read_cycles
from benchmarks.against.kernel_page import write_pages
from benchmarks.against.kernel_report import COLUMN_ORDER, RATIOS
from benchmarks.against.kernel_set import KernelCase
from benchmarks.against.kernel_table import (
    dense_table,
    failures,
    headline_table,
    kernel_table,
    kind_table,
    stage_table,
    storage_table,
    summary_table,
)
from benchmarks.against.kernels import STORAGE_COLUMNS
from benchmarks.against.our_columns import FEW_BITS
from benchmarks.against.plain_loops import emit_loops
from benchmarks.against.polyhedral import TunedMachine, compile_with_pluto, compile_with_polly, pluto_version
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
        patch.setattr(c_columns, "POLLY_FORMS", ("einsum", "i-k-j"))
        patch.setattr(c_columns, "PLUTO_FORMS", ("sum in memory",))
        patch.setattr(c_columns, "PLUTO_SETS", {"default": ()})
        patch.setattr(c_columns, "_MATHS", {"fast-math": ("-ffast-math",)})
        patch.setattr(our_columns, "BUDGET", 1)
        patch.setattr(our_columns, "STORAGE_BUDGET", 1)
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
    assert set(row["columns"]) == set(COLUMN_ORDER) - {"pluto", "pluto_default"}  # which is not installed
    assert failures(report) == []
    for name, column in row["columns"].items():
        assert column["cycles"] > 0
        assert column["max_rel_error"] <= (2e-3 if name.removeprefix("ours_") in FEW_BITS else 1e-4)
        assert set(column["sweep"]) == MODELS
        assert column["sweep"]["default"] == column["cycles"]
    assert all(trial.startswith("IREE module: ") for trial in row["columns"]["ours_int8"]["trials"])
    assert all(0 < row["columns"][name]["percent_of_roofline"] < 100 for name in STORAGE_COLUMNS)
    assert len(row["stages"]) == 2
    assert all(0 < stage["bound"] < stage["cycles"]["default"] for stage in row["stages"])


def test_the_json_has_the_means_under_every_model(report: dict[str, Any]) -> None:
    assert set(report["geomean"]) == set(RATIOS)
    assert set(report["switches"]) == MODELS
    assert report["switches"]["default"]["geomean"] == report["geomean"]
    assert report["kinds"]["tiny"]["geomean"] == report["geomean"]
    (row,) = report["rows"]
    best_c = min(row["columns"][name]["cycles"] for name in ("c_literal", "c_hand"))
    assert row["ratios"]["c"] == report["geomean"]["c"] == pytest.approx(best_c / row["columns"]["ours"]["cycles"])
    assert report["peak_fraction"] is None  # no stage is large
    ours, dense = (row["columns"][name] for name in ("ours", "dense_iree"))
    assert row["against_dense"]["warm"] == dense["cycles"] / ours["cycles"]
    assert row["against_dense"]["cold"] == dense["cold_cycles"] / ours["cold_cycles"]
    assert 0 < row["dense_bound"] < dense["cycles"]
    assert ("dense_iree" in row["slower_than"]) == (row["ratios"]["dense_iree"] < 1)
    graphs = [row["columns"][name]["cycles"] for name in ("iree_t3f", "iree_transpose_free")]
    assert row["ratios"]["iree"] * ours["cycles"] == pytest.approx(min(graphs))
    least, most = report["spans"]["iree"]
    assert least <= report["geomean"]["iree"] <= most


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
    assert any(name.startswith(">Polly 22") for name in head)
    assert not any("Pluto" in name for name in head)
    assert rows[0][head.index(">ours, cycles")] == f"{report['rows'][0]['columns']['ours']['cycles']:,.0f}"
    assert rows[0][0] == CASE.name
    assert [row[0] for row in headline_table(report)[1]] == [name.lstrip(">") for name in head[4:-1]]
    assert [row[0] for row in storage_table(report)[1]] == ["tiny", "all"]
    assert [row[0] for row in summary_table(report)[1]] == [
        "as it is",
        *sorted(MODELS - {"default"}, key=list(report["switches"]).index),
    ]
    assert [row[0] for row in kind_table(report)[1]] == ["tiny", "all"]
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


STAND_IN = """#!{python}
import re, sys
if "--version" in sys.argv:
    print("PLUTO version 0.12.0 - An automatic parallelizer and locality optimizer")
    sys.exit(1)
source, out = sys.argv[-3], sys.argv[-1]
text = open(source).read()
if text.count("#pragma scop") != 1:
    sys.exit("error: more than one scop")
head, rest = text.split("#pragma scop")
nest, tail = rest.split("#pragma endscop")
if "float" in nest:
    sys.exit("[Clan] Error: syntax error at a declaration")
halves = r"for (int h = 0; h <= 1; h++) for (int k = ceild(\\1*h,2); k <= floord(\\1*(h+1)-1,2); k++)"
nest = {change}
macros = "".join("#define %sd(n,d) %s(((double)(n))/((double)(d)))\\n" % (name, name) for name in ("ceil", "floor"))
open(out, "w").write("#include <omp.h>\\n#include <math.h>\\n" + macros + head + nest + tail)
"""
"""Acts as polycc 0.12 does: one nest a file, no declaration in it, headers and macros that a bare target has not."""

TILED, UNCHANGED, WRONG = (
    r're.sub(r"for \(int k = 0; k < (\d+); k\+\+\)", halves, nest)',
    "nest",
    'nest.replace("= 0;", "= 1;")',
)


@pytest.fixture
def polycc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for polycc, first on PATH."""
    path = tmp_path / "bin" / "polycc"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    return path


def write_stand_in(path: Path, change: str) -> None:
    path.write_text(STAND_IN.replace("{python}", sys.executable).replace("{change}", change))
    path.chmod(0o755)


def test_pluto_gets_one_nest_at_a_time(k1: Target, tmp_path: Path, polycc: Path) -> None:
    data = LayerData(CASE)
    way = next(iter(c_columns.contractions(CASE.shape, 1)))
    source = tmp_path / "loops.c"
    source.write_text(emit_loops(way, data.cores, "i-k-j", scop=True).source)
    assert source.read_text().count("#pragma scop") == source.read_text().count("#pragma endscop") == 2
    assert pluto_version() is None
    with pytest.raises(ToolError, match="polycc not found"):
        compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ())
    write_stand_in(polycc, UNCHANGED)
    assert pluto_version() == "0.12.0"
    with pytest.raises(BuildError, match="Pluto left the loops as they are"):
        compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ())
    write_stand_in(polycc, TILED)
    assert compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ()).name == "pluto.o"
    transformed = (tmp_path / "pluto" / "loops.c").read_text()
    assert transformed.count("ceild(") == 2 + 2  # the macro of each text, and both nests
    assert "scop" not in transformed
    source.write_text(emit_loops(way, data.cores, "einsum", scop=True).source)
    with pytest.raises(BuildError, match="polycc failed: .*declaration"):
        compile_with_pluto(source, k1, TunedMachine(k1.cc.tune), ())
    polycc.write_text("#!/bin/sh\necho no number\n")
    assert str(pluto_version()).startswith("script ")


def test_pluto_columns_count_what_is_right_and_touch_no_other_record(
    report: dict[str, Any], k1: Target, records: Path, polycc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = kernel_runs.KernelRuns.build

    def count(self: Any, variant: Any, folder: Path) -> Any:
        built.append(variant.facts.get("tool", "another"))
        return build(self, variant, folder)

    monkeypatch.setattr(kernel_runs.KernelRuns, "build", count)
    write_stand_in(polycc, WRONG)
    found = benchmark.run_benchmark([CASE], k1, records).to_json()
    assert set(built) == {"Pluto"}
    assert "failure" in found["rows"][0]["columns"]["pluto"]
    assert found["titles"].keys() == {"polly"}
    monkeypatch.setattr(kernel_runs.KernelRuns, "build", build)
    write_stand_in(polycc, TILED)
    polycc.write_text(polycc.read_text().replace("0.12.0", "0.12.1"))
    found = benchmark.run_benchmark([CASE], k1, records).to_json()
    column = found["rows"][0]["columns"]["pluto_default"]
    assert column["max_rel_error"] <= 1e-4
    assert found["titles"]["pluto_default"] == "Pluto 0.12.1, default"
    assert found["geomean_rows"]["pluto"] == 1
    others = {name: value for name, value in found["rows"][0]["columns"].items() if "pluto" not in name}
    assert others == report["rows"][0]["columns"]


def test_the_csv_is_compared_with_an_earlier_one(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "earlier.csv"
    path.write_text(csv_text(report))
    cycles = read_cycles(path)
    assert cycles[CASE.name, "ours"] == report["rows"][0]["columns"]["ours"]["cycles"]
    slower = {key: value * (2 if key[1] == "ours" else 1) for key, value in cycles.items()}
    rows = {row[0]: row[1:] for row in before_table(report, slower)[1]}
    now = report["geomean"]["iree"]
    assert rows["IREE, best"] == ("1", f"{now / 2:.2f}", f"{now:.2f}")
    assert rows["our cycles, now over before"] == ("1", "1", "0.50")
    path.write_text("kernel,cycles\n")
    with pytest.raises(UsageError, match="has no column 'column'"):
        read_cycles(path)
    with pytest.raises(UsageError, match="not a readable CSV"):
        read_cycles(tmp_path / "missing.csv")


def test_of_baselines_only_what_is_recorded_counts(report: dict[str, Any], k1: Target, tmp_path: Path) -> None:
    ours = benchmark.run_benchmark([CASE], k1, tmp_path, ours_only=True).to_json()
    (row,), (full,) = ours["rows"], report["rows"]
    assert row["columns"]["ours"]["cycles"] == full["columns"]["ours"]["cycles"]
    assert set(row["columns"]) == {*STORAGE_COLUMNS, "dense_packed"}
    assert ours["geomean"]["iree_t3f"] is None

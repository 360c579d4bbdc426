"""The timing model against published figures: the goals on boards, and how errors are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf_dse.calibrate.entries import TimingEntry, TimingReport, geomean_error, run_timing, worst
from lrf_dse.calibrate.published import Kind, published
from lrf_dse.calibrate.silicon import Level
from lrf_dse.errors import UsageError
from lrf_dse.target import load_target

CHIPS = ("spacemit-k1", "canaan-k230", "spacemit-k3")
NEAR: tuple[Level, ...] = ("compute", "L1")
FAR: tuple[Level, ...] = ("L2", "DRAM")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TimingReport]:
    return {name: run_timing(load_target(name), tmp_path_factory.mktemp(name)) for name in CHIPS}


@pytest.mark.parametrize("name", CHIPS)
def test_boards_confirm_the_model(name: str, reports: dict[str, TimingReport]) -> None:
    """Whole loops that set nothing: 15 a chip, 10% in the core and in L1, 20% beyond, none off by more than 1.35."""
    silicon = reports[name].of_kind("silicon")
    assert len(silicon) >= 15
    for levels, goal in ((NEAR, 0.10), (FAR, 0.20)):
        part = [entry for entry in silicon if entry.level in levels]
        assert part and geomean_error(part) <= goal
    assert {entry.name: entry.factor for entry in silicon if entry.factor > 1.35} == {}


@pytest.mark.parametrize("name", CHIPS)
def test_what_set_a_cost_is_fitted_and_says_what(name: str, reports: dict[str, TimingReport]) -> None:
    """A board's figure is validation only if it set nothing; one that did is not counted as such."""
    loops = [entry for entry in reports[name].entries if entry.level is not None]
    assert all((entry.kind == "fitted") == bool(entry.sets) for entry in loops)
    assert {entry.factor for entry in loops if entry.sets and entry.factor > 1.3} == set()


def test_every_fitted_cost_of_k1_is_within_5_percent(reports: dict[str, TimingReport]) -> None:
    """Each is in the model: what is checked is that loops show it. Both ends of every LMUL are among them."""
    costs = [entry for entry in reports["spacemit-k1"].of_kind("fitted") if entry.level is None]
    assert len(costs) >= 110
    assert {entry.name: entry.error for entry in costs if abs(entry.error) > 0.05} == {}
    assert {"vfmacc.vf m1", "vfmacc.vf m8", "vrgather.vv m8", "vse32.v m4", "ld to ld, DRAM"} <= {e.name for e in costs}
    assert {"vfwmacc.vf e16 m4", "vwmacc.vv e8 mf2", "vle8ff.v e8 m8", "vlseg2e8.v e8 m1"} <= {e.name for e in costs}


def test_other_simulators_are_a_cross_check_of_their_own(reports: dict[str, TimingReport]) -> None:
    """llvm-mca's loops agree within 20% where nothing is stored: it knows of no load that waits behind a store."""
    simulated = reports["spacemit-k1"].of_kind("simulated")
    assert len(simulated) == 8 and all("llvm-mca" in entry.source for entry in simulated)
    assert {entry.name: entry.error for entry in simulated if abs(entry.error) > 0.2 and "y +=" not in entry.name} == {}
    assert not any("mca" in entry.source for report in reports.values() for entry in report.of_kind("silicon"))


def test_the_report_counts_kinds_and_levels(reports: dict[str, TimingReport]) -> None:
    report = reports["spacemit-k1"]
    data = report.to_json()
    silicon = report.of_kind("silicon")
    assert data["silicon"] == {
        "entries": len(silicon),
        "geomean_error": geomean_error(silicon),
        "worst": worst(silicon),
    }
    assert sum(data[kind]["entries"] for kind in ("fitted", "simulated", "silicon")) == len(data["entries"])
    assert list(data["silicon_by_level"]) == ["compute", "L1", "L2", "DRAM"]
    assert set(data["entries"][0]) >= {"name", "modelled", "published", "kind", "source", "level", "sets", "error"}


@pytest.mark.parametrize("target", ["qemu-rv64gcv", "starfive-jh7110"])
def test_a_target_of_which_nothing_is_published_says_so(target: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"target {target}: no published measurement"):
        run_timing(load_target(target), tmp_path)


def entry(modelled: float, low: float, high: float, kind: Kind = "silicon") -> TimingEntry:
    return TimingEntry(f"{modelled}", "cycles", modelled, (low, high), kind, "none")


def test_inside_a_published_range_is_no_error() -> None:
    assert [entry(m, 2, 4).error for m in (1, 2, 3, 4, 5)] == [-0.5, 0, 0, 0, 0.25]
    assert [entry(m, 2, 4).factor for m in (1, 3, 5)] == pytest.approx([2, 1, 1.25])


def test_half_and_twice_are_the_same_error() -> None:
    assert geomean_error([entry(1, 2, 2), entry(4, 2, 2)]) == pytest.approx(1)
    assert geomean_error([entry(3, 3, 3)]) == geomean_error([]) == 0
    assert worst([entry(1, 2, 2), entry(3, 2, 2)]) == {"name": "1", "error": -0.5}
    assert worst([]) is None


@pytest.mark.parametrize("name", CHIPS)
def test_names_are_unique_and_sources_are_given(name: str) -> None:
    entries = published(load_target(name))
    assert len({item.micro.name for item in entries}) == len(entries)
    assert all(item.source and 0 < item.low <= item.high for item in entries)

"""A copy of a target's files, with what a board measured in the place of what was known."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from lrf_dse.calibrate.calibration import (
    Calibration,
    MeasuredCost,
    calibrated_files,
    figure_at,
    with_measured_costs,
    with_measured_figures,
    write_calibration,
)
from lrf_dse.errors import StoreError, UsageError
from lrf_dse.target import load_target, target_names

K1 = load_target("spacemit-k1")
COSTS = {
    "v_float_fma": MeasuredCost(busy=(1.03, 2.06, 4.1, 8.2), latency=(5, 5, 5, 8)),
    "int_mul": MeasuredCost(latency=(6.5, 6.5, 6.5, 6.5)),
    "int_alu": MeasuredCost(busy=(0.5, 0.5, 0.5, 0.5)),
    "v_load_strided": MeasuredCost(per_element=1.25),
}
FIGURES = {"timing mispredict_cycles": 8.7, "timing barrier_cycles": 1234.5, "cache 2 latency_cycles": 41.25}
FIGURES["dram latency_cycles"] = 402.0
FOUND = Calibration("spacemit-k1", "me@k1", "2026-11-21", "rdcycle", "0123456789abcdef" * 4, None, COSTS, FIGURES)
SAID = "measured on me@k1, 2026-11-21: rdcycle; program sha256 0123456789abcdef"


def test_measured_costs_take_the_place_of_published_ones(tmp_path: Path) -> None:
    out = tmp_path / "mine" / "my-k1.toml"
    table = write_calibration("spacemit-k1", FOUND, out)
    assert sorted(path.name for path in (tmp_path / "mine").rglob("*")) == ["costs", "my-k1.toml", "my-k1.toml"]
    target = load_target(str(out))
    assert table == tmp_path / "mine" / "costs" / "my-k1.toml"
    assert (target.name, target.title) == ("spacemit-k1", "SpacemiT K1 (X60), calibrated 2026-11-21")
    assert target.timing is not None and K1.timing is not None
    new, old = target.timing.costs, K1.timing.costs
    fma = new.cost["v_float_fma"]
    assert (fma.busy, fma.latency) == ((1.03, 2.06, 4.1, 8.2), (5, 5, 5, 8))
    assert (fma.pipes, fma.masked) == (old.cost["v_float_fma"].pipes, old.cost["v_float_fma"].masked)
    assert new.cost["int_mul"].latency == (6.5,) * 4 and new.cost["int_mul"].busy == old.cost["int_mul"].busy
    assert new.cost["int_alu"].busy == (0.5,) * 4 and new.cost["int_alu"].latency == old.cost["int_alu"].latency
    assert new.cost["v_load_strided"].per_element == 1.25
    unmeasured = set(old.cost) - set(COSTS)
    assert {name: new.cost[name] for name in unmeasured} == {name: old.cost[name] for name in unmeasured}


def test_every_measured_figure_says_so(tmp_path: Path) -> None:
    write_calibration("spacemit-k1", FOUND, tmp_path / "my-k1.toml")
    timing = load_target(str(tmp_path / "my-k1.toml")).timing
    assert timing is not None
    said = {name: timing.costs.sources[timing.costs.cost[name].known] for name in COSTS}
    assert {known.basis for known in said.values()} == {"measured"}
    assert said["v_float_fma"].source == SAID
    assert said["int_mul"].source.startswith(f"latency {SAID}; throughput: LLVM 22.1")
    assert said["int_alu"].source.startswith(f"throughput {SAID}; latency: LLVM 22.1")
    for place, value in FIGURES.items():
        figure = figure_at(timing, place)
        assert (figure.value, figure.basis, figure.source) == (pytest.approx(value, rel=1e-3), "measured", SAID)
    assert timing.cache[0] == K1.timing.cache[0] if K1.timing else False


@pytest.mark.parametrize("name", [name for name in target_names() if name != "qemu-rv64gcv"])
def test_every_target_can_be_calibrated(name: str, tmp_path: Path) -> None:
    costs = {"int_alu": COSTS["int_alu"]}
    found = dataclasses.replace(FOUND, costs=costs, figures={"timing barrier_cycles": 77.0, "dram latency_cycles": 999})
    write_calibration(name, found, tmp_path / "mine.toml")
    timing = load_target(str(tmp_path / "mine.toml")).timing
    assert timing is not None and timing.costs.cost["int_alu"].busy == (0.5,) * 4
    assert (timing.barrier_cycles.value, timing.dram.latency_cycles.value) == (77.0, 999.0)


def test_a_calibrated_target_can_be_calibrated_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    write_calibration("spacemit-k1", FOUND, first)
    later = dataclasses.replace(FOUND, date="2026-12-01", costs={name: COSTS[name] for name in ("int_mul", "int_alu")})
    write_calibration(str(first), later, second)
    timing = load_target(str(second)).timing
    assert timing is not None
    sources, cost = timing.costs.sources, timing.costs.cost
    assert "2026-12-01" in sources[cost["int_mul"].known].source
    assert sources[cost["int_mul"].known].source.endswith("throughput from an earlier calibration")
    assert sources[cost["v_float_fma"].known].source == SAID
    write_calibration("spacemit-k1", later, first)
    assert "2026-12-01" in first.read_text(), "an older calibration is replaced"


def test_figures_of_an_emulator_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="times of an emulator are no chip's costs"):
        write_calibration("spacemit-k1", dataclasses.replace(FOUND, emulator="qemu-riscv64"), tmp_path / "k1.toml")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "k1.toml"
    with pytest.raises(UsageError, match="target 'qemu-rv64gcv' has no table of costs"):
        write_calibration("qemu-rv64gcv", FOUND, out)
    with pytest.raises(UsageError, match=r"give a name that ends in \.toml"):
        write_calibration("spacemit-k1", FOUND, tmp_path / "k1")
    with pytest.raises(UsageError, match="has no operation 'v_magic'"):
        with_measured_costs("[cost]\n", {"v_magic": MeasuredCost()}, source="s")
    with pytest.raises(UsageError, match="has no figure 'cache 9 latency_cycles'"):
        with_measured_figures("[timing]\n", {"cache 9 latency_cycles": 1.0}, source="s")
    with pytest.raises(UsageError, match=r"not written, what was measured makes no target \(.*must grow from level"):
        write_calibration("spacemit-k1", dataclasses.replace(FOUND, figures={"cache 2 latency_cycles": 2.0}), out)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    write_calibration("spacemit-k1", FOUND, out)
    with pytest.raises(UsageError, match="would replace the target that is calibrated"):
        write_calibration(str(out), FOUND, out)
    with pytest.raises(StoreError, match="cannot write the calibrated target"):
        calibrated_files("spacemit-k1", out / "inside-a-file" / "k1.toml")


def test_a_hostile_source_stays_a_text() -> None:
    table = '[cost]\nint_alu = { pipes = "alu0", latency = 1, known = "llvm" }\n'
    cost = MeasuredCost(busy=(1, 1, 1, 1), latency=(2, 2, 2, 2))
    parsed = tomllib.loads(with_measured_costs(table, {"int_alu": cost}, source='a "\\1" b'))
    assert parsed["sources"]["board"]["source"] == 'a "\\1" b'
    assert parsed["cost"]["int_alu"] == {"pipes": "alu0", "latency": [2] * 4, "busy": [1] * 4, "known": "board"}


@pytest.mark.parametrize("name", ["k1.toml", "costs/k1.toml"])
def test_a_file_of_the_user_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "costs").mkdir()
    (tmp_path / name).write_text('title = "mine"\n')
    with pytest.raises(UsageError, match=f"{name} is there already, and no calibration wrote it"):
        write_calibration("spacemit-k1", FOUND, tmp_path / "k1.toml")
    assert [path.read_text() for path in tmp_path.rglob("*.toml")] == ['title = "mine"\n']

"""Calibration: the loops give the model's own costs back, and run on a board through the real command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from explored import Done, command
from runners.loopback import Sshd

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate import measuring
from lrf_dse.calibrate.calibration import figure_at
from lrf_dse.calibrate.measuring import BARRIER, Loops, costs_of, figures_of, loops_of
from lrf_dse.calibrate.micro import program_text, regions_of
from lrf_dse.calibrate.probes import PROBES, measurable
from lrf_dse.errors import UsageError
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.target import Target, load_target, operations

QUICK = RepeatPolicy(min_repeats=2, max_repeats=2, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)


def modelled(loops: Loops, target: Target, work: Path) -> dict[str, float]:
    """Cycles of every loop under the timing model, as if a board had said them."""
    (work / "loops.S").write_text(program_text(loops.micros), encoding="utf-8")
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
    zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "loops.S", "-o", "loops"], cwd=work)
    passes: Iterator[int] = (figures.cycles for figures in run_timed(work / "loops", target, work))
    cycles: dict[str, float] = {}
    for micro in loops.micros:
        mine = [next(passes) for _ in range(regions_of(micro))]
        cycles[micro.name] = mine[micro.passes - 1]
        if micro.baseline is not None:
            cycles[f"{micro.name}, less"] = mine[-1]
    return cycles


@pytest.mark.parametrize("name", ["spacemit-k1", "spacemit-k3", "sifive-x280", "starfive-jh7110"])
def test_a_model_is_calibrated_to_itself(name: str, tmp_path: Path) -> None:
    """What the loops measure is what the costs mean: in order and out of order, one pipe and several."""
    target = load_target(name)
    assert target.timing is not None
    loops = loops_of(target)
    cycles = modelled(loops, target, tmp_path) | {BARRIER: 50 * 600.0}
    failures: dict[str, str] = {}
    costs = costs_of(loops.cases, cycles, target, failures)
    assert failures == {} and set(costs) == set(measurable(target))
    for operation, found in costs.items():
        cost = target.timing.costs.cost[operation]
        if found.per_element is not None:
            assert found.per_element == pytest.approx(cost.per_element, rel=0.02), operation
        else:
            assert found.busy == pytest.approx(cost.busy, rel=0.02), operation
        if found.latency is not None:  # what its pipe is busy with for longer shows as latency in a chain
            both = [max(pair) for pair in zip(cost.latency, cost.busy, strict=True)]
            assert found.latency == pytest.approx(both, rel=0.02), operation
    figures = figures_of(loops, cycles, failures)
    assert failures == {} and {"dram latency_cycles", "cache 1 latency_cycles", BARRIER} <= set(figures)
    assert figures.pop(BARRIER) == 600.0
    for place, value in figures.items():
        assert value == pytest.approx(figure_at(target.timing, place).value, rel=0.02), place


def test_every_probe_is_of_an_operation() -> None:
    assert set(PROBES) <= set(operations())
    assert not any(name.startswith("v_") for name in measurable(load_target("eic7700x")))


def test_a_loop_lost_in_the_noise_is_told() -> None:
    target = load_target("spacemit-k1")
    loops = loops_of(target, ["v_float_add"])
    cycles = {micro.name: 2560.0 for micro in loops.micros} | {"call": 10.0, "v_float_add busy m4": 9.0}
    failures: dict[str, str] = {}
    cost = costs_of(loops.cases, cycles, target, failures)["v_float_add"]
    assert cost.busy is None, "a cost is known at every LMUL or not at all"
    assert cost.latency == pytest.approx((2550 / 2560,) * 4)
    assert failures == {"v_float_add busy m4": "not longer than an empty loop"}


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="--only 'v_magic': use one of int_alu, .*dram latency_cycles"):
        loops_of(load_target("spacemit-k1"), ["v_magic"])
    with pytest.raises(UsageError, match="qemu-rv64gcv has no timing model: there is nothing to calibrate"):
        loops_of(load_target("qemu-rv64gcv"))
    assert BARRIER not in loops_of(load_target("canaan-k230")).figures, "one core"
    assert loops_of(load_target("canaan-k230")).barrier_threads is None


@pytest.fixture
def calibrated(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Arguments of a calibration of the board on loopback, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measuring, "calibrate", _quick(measuring.calibrate))
    cpu = load_target("spacemit-k1").qemu.cpu
    chip = (data_dir("targets") / "spacemit-k1.toml").read_text(encoding="utf-8").replace("count = 8", "count = 2")
    prefix = f'\n[board]\nrunner_prefix = ["qemu-riscv64", "-cpu", "{cpu}"]\n'
    (tmp_path / "k1.toml").write_text(chip + prefix, encoding="utf-8")
    config = sshd.config(**sshd.options)
    board = ["--board", "board", "--dir", sshd.home / "d", "--ssh-config", config]
    only = [word for name in ("v_slide", BARRIER) for word in ("--only", name)]
    yield ["calibrate", *board, "--target", "k1.toml", *only]
    assert sshd.leftovers() in ([], ["d"])


def _quick(real: object) -> object:
    return lambda *arguments, **options: real(*arguments, **options, policy=QUICK)  # type: ignore[operator]


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.toml") if path.name != "k1.toml")


def test_a_dry_run_shows_and_writes_nothing(calibrated: list[object], tmp_path: Path) -> None:
    done = command(*calibrated, "--dry-run", "--json")
    assert done.code == 0
    assert re.fullmatch(r"\d+\.\d min: measure loops: \d+ of \d+\n", done.err), "progress, no terminal to draw bars on"
    found = json.loads(done.out)
    assert (found["target"], found["emulator"], found["file"]) == ("spacemit-k1", "qemu-riscv64", None)
    assert set(found["costs"]) == {"v_slide"} and set(found["figures"]) == {BARRIER}
    assert all(value > 0 for value in found["costs"]["v_slide"]["busy"])
    assert written(tmp_path) == []


def test_an_emulator_is_never_taken_for_a_chip(calibrated: list[object], tmp_path: Path) -> None:
    done = command(*calibrated, "-o", "mine.toml")
    assert done == Done(2, "", "error: board board: qemu-riscv64 runs its programs: it has no times of its own\n")
    assert written(tmp_path) == []


def test_a_board_that_is_none_of_an_emulator_is_written(
    calibrated: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board on loopback, taken for a chip: the figures mean nothing, the way to the file is the real one."""
    monkeypatch.setattr("lrf_dse.runners.board._emulator", lambda *_: None)
    calibrated[1:3] = ["--board", "root@board"]  # another board than the one that is known by now
    done = command(*calibrated, "-o", "mine.toml", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "written: mine.toml and costs/mine.toml" in done.out
    assert written(tmp_path) == ["mine.toml", "mine.toml"]
    target = load_target("mine.toml")
    assert target.timing is not None
    cost = target.timing.costs.cost["v_slide"]
    known = target.timing.costs.sources[cost.known]
    assert known.basis == "measured" and known.source.startswith("measured on root@board, 20")
    assert command("targets", "mine.toml").out.count("measured on root@board") == 2  # the cost, and the barrier


def test_what_is_wrong_is_said_before_anything_runs(calibrated: list[object]) -> None:
    done = command(*calibrated, "--only", "v_magic")
    assert done.code == 2 and done.err.startswith("error: --only 'v_magic': use one of int_alu, ")
    done = command(*calibrated[:-6], "--target", "qemu-rv64gcv")
    assert done.code == 2 and "has no timing model" in done.err

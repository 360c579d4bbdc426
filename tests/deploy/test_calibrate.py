"""Calibration: programs timed on a board, and measured costs in a copy of a target's files."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from runners.boards import PROGRAMS
from runners.loopback import Sshd

from lrf_dse.builders.linking import FIXED_SOURCES
from lrf_dse.builders.zig import zig_cc
from lrf_dse.deploy.calibrate import MeasuredCost, cycles_of, time_programs, with_measured_costs, write_calibration
from lrf_dse.errors import RunError, UsageError
from lrf_dse.resources import data_dir
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import load_target

QUICK = RepeatPolicy(min_repeats=4, max_repeats=8, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)
K1 = load_target("spacemit-k1")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two programs without inputs and outputs: one sleeps for a millisecond, one crashes."""
    folder, host = tmp_path_factory.mktemp("programs"), data_dir("toolchain") / "host"
    machine = ["-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-std=gnu11", "-O1", "-static", "-s"]
    for name, action in (("sleeps", "usleep(1000)"), ("crashes", "*(volatile int *)8 = 1")):
        sources = [*(str(host / file) for file in FIXED_SOURCES), str(PROGRAMS / "no_ports.c")]
        zig_cc([*machine, "-fno-sanitize=all", f"-DACTION={action}", "-I", str(host), *sources, "-o", name], cwd=folder)
    return {"it sleeps": folder / "sleeps", "it crashes": folder / "crashes"}


def test_programs_are_timed_one_by_one(sshd: Sshd, programs: dict[str, Path], tmp_path: Path) -> None:
    outcomes = time_programs(programs, sshd.board(), K1.isa, work=tmp_path, policy=QUICK)
    assert list(outcomes) == list(programs)
    slept, crashed = outcomes.values()
    assert isinstance(slept, Measurement) and slept.seconds is not None and 0.001 <= slept.seconds < 0.1
    assert isinstance(crashed, Failure) and crashed.reason == "killed by SIGSEGV"
    assert sshd.leftovers() == ["d"]


def test_a_board_that_is_away_ends_it(own_sshd: Sshd, programs: dict[str, Path], tmp_path: Path) -> None:
    own_sshd.stop()
    with pytest.raises(RunError, match="cannot be reached"):
        time_programs(programs, own_sshd.board(), K1.isa, work=tmp_path, policy=QUICK)


def test_cycles_are_rdcycles_or_seconds_at_a_known_frequency(sshd: Sshd, board_job: Callable[..., object]) -> None:
    emulated = SshRunner(sshd.board(), policy=QUICK).run(board_job("slow"))  # type: ignore[arg-type]
    assert isinstance(emulated, Measurement) and emulated.board is not None
    with pytest.raises(UsageError, match="not the time of a real board"):
        cycles_of(emulated, K1)
    board = dataclasses.replace(emulated.board, emulator=None)
    real = dataclasses.replace(emulated, board=board, seconds=0.5)
    assert cycles_of(real, K1) == (0.8e9, "seconds at 1.6 GHz, as target spacemit-k1 says")
    known = dataclasses.replace(real, board=dataclasses.replace(board, freq_hz_before=6e8, freq_hz_after=1.2e9))
    assert cycles_of(known, K1) == (0.6e9, "seconds at 1.2 GHz, as the board says")
    assert cycles_of(dataclasses.replace(known, cycles=7.0), K1) == (7.0, "rdcycle")
    with pytest.raises(UsageError, match="tells neither cycles nor its frequency"):
        cycles_of(real, load_target("qemu-rv64gcv"))


COSTS = {
    "v_float_fma": MeasuredCost(busy=(1.03, 2.06, 4.1, 8.2), latency=(5, 5, 5, 8)),
    "int_mul": MeasuredCost(latency=(6.5, 6.5, 6.5, 6.5)),
    "int_alu": MeasuredCost(busy=(0.5, 0.5, 0.5, 0.5)),
}


def test_measured_costs_take_the_place_of_published_ones(tmp_path: Path) -> None:
    written = write_calibration(
        "spacemit-k1", COSTS, tmp_path / "out", host="me@k1", date=datetime(2026, 11, 21, tzinfo=UTC), how="rdcycle"
    )
    target = load_target(str(written))
    assert target.timing is not None and K1.timing is not None
    new, old = target.timing.costs, K1.timing.costs
    fma = new.cost["v_float_fma"]
    assert (fma.busy, fma.latency) == ((1.03, 2.06, 4.1, 8.2), (5, 5, 5, 8))
    assert (fma.pipes, fma.masked) == (old.cost["v_float_fma"].pipes, old.cost["v_float_fma"].masked)
    assert new.cost["int_mul"].latency == (6.5,) * 4 and new.cost["int_mul"].busy == old.cost["int_mul"].busy
    assert new.cost["int_alu"].busy == (0.5,) * 4 and new.cost["int_alu"].latency == old.cost["int_alu"].latency
    for name in COSTS:
        source = new.sources[new.cost[name].known]
        assert (source.basis, source.source) == ("measured", "measured on me@k1, 2026-11-21: rdcycle")
    assert {name: cost for name, cost in new.cost.items() if name not in COSTS} == {
        name: cost for name, cost in old.cost.items() if name not in COSTS
    }


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    date = datetime(2026, 11, 21, tzinfo=UTC)
    with pytest.raises(UsageError, match="target 'qemu-rv64gcv' has no table of costs"):
        write_calibration("qemu-rv64gcv", COSTS, tmp_path, host="k1", date=date, how="rdcycle")
    with pytest.raises(UsageError, match="has no operation 'v_magic'"):
        with_measured_costs("[cost]\n", {"v_magic": MeasuredCost()}, source="s")


def test_a_hostile_source_stays_a_text() -> None:
    table = '[cost]\nint_alu = { pipes = "alu0", latency = 1, known = "llvm" }\n'
    text = with_measured_costs(table, {"int_alu": MeasuredCost(latency=(2, 2, 2, 2))}, source='a "\\1" b')
    parsed = tomllib.loads(text)
    assert parsed["sources"]["board"]["source"] == 'a "\\1" b'
    assert parsed["cost"]["int_alu"] == {"pipes": "alu0", "latency": [2, 2, 2, 2], "known": "board"}

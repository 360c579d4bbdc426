"""Cases of a program, timed on a board; and what is known of cycles there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from runners.boards import PROGRAMS
from runners.loopback import Sshd

from lrf_dse.builders.linking import link_static
from lrf_dse.calibrate.board_cases import BoardCase, cycles_of, time_cases
from lrf_dse.errors import RunError, UsageError
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import load_target

QUICK = RepeatPolicy(min_repeats=4, max_repeats=8, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)
K1 = load_target("spacemit-k1")
CASES = {"it sleeps": BoardCase(b"s"), "it crashes": BoardCase(b"c"), "too wide": BoardCase(b"s", threads=64)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its input decides whether it sleeps for a millisecond or crashes."""
    folder = tmp_path_factory.mktemp("program")
    return link_static((str(PROGRAMS / "cases.c"),), folder, name="cases")


def test_cases_are_timed_one_by_one(sshd: Sshd, program: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    outcomes = time_cases(
        program,
        CASES,
        sshd.board(),
        K1.isa,
        work=tmp_path,
        allow_emulator=True,
        policy=QUICK,
        progress=lambda _, now, total: done.append((now, total)),
    )
    assert list(outcomes) == list(CASES)
    slept, crashed, wide = outcomes.values()
    assert isinstance(slept, Measurement) and slept.seconds is not None and 0.001 <= slept.seconds < 0.1
    assert isinstance(crashed, Failure) and crashed.reason == "killed by SIGSEGV"
    assert isinstance(wide, Failure) and wide.reason.startswith("needs 64 cores, programs may use ")
    assert done == [(number, 3) for number in range(4)]
    assert sshd.leftovers() == ["d"]


def test_an_emulated_board_has_no_times_of_its_own(sshd: Sshd, program: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="board board: qemu-riscv64 runs its programs: it has no times of its own"):
        time_cases(program, CASES, sshd.board(), K1.isa, work=tmp_path)
    assert set(sshd.leftovers()) <= {"d"}, "nothing was sent; the folder itself is there if another test made it"


def test_a_board_that_is_away_ends_it(own_sshd: Sshd, program: Path, tmp_path: Path) -> None:
    own_sshd.stop()
    with pytest.raises(RunError, match="cannot be reached"):
        time_cases(program, CASES, own_sshd.board(), K1.isa, work=tmp_path, policy=QUICK)


def test_cycles_are_rdcycles_or_seconds_at_a_known_frequency(sshd: Sshd, board_job: Callable[..., object]) -> None:
    emulated = SshRunner(sshd.board(), policy=QUICK).run(board_job("slow"))  # type: ignore[arg-type]
    assert isinstance(emulated, Measurement) and emulated.board is not None
    board = dataclasses.replace(emulated.board, freq_hz_before=None, freq_hz_after=None)
    real = dataclasses.replace(emulated, board=board, seconds=0.5)
    assert cycles_of(real, K1) == (0.8e9, "seconds at 1.6 GHz, as target spacemit-k1 says")
    known = dataclasses.replace(real, board=dataclasses.replace(board, freq_hz_before=6e8, freq_hz_after=1.2e9))
    assert cycles_of(known, K1) == (0.6e9, "seconds at 1.2 GHz, as the board says")
    assert cycles_of(dataclasses.replace(known, cycles=7.0), K1) == (7.0, "rdcycle")
    with pytest.raises(UsageError, match="lets no program read cycles and tells no frequency, and target qemu-rv64gcv"):
        cycles_of(real, load_target("qemu-rv64gcv"))

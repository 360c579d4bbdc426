"""An exploration on a real board (sshd on loopback) that goes away half way: ended while it is away, then resumed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from explored import command, figures, tiny_data, tiny_model
from runners.boards import own_sshd
from runners.loopback import Sshd

from lrf_dse.pipeline.timing import Bench
from lrf_dse.resources import data_dir
from lrf_dse.runners.job import Job
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import load_target

__all__ = ["own_sshd"]

QUICK = RepeatPolicy(min_repeats=2, max_repeats=2, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)


def board_arguments(folder: Path, sshd: Sshd) -> list[object]:
    """Explore the tiny model on the board, one program at a time."""
    tiny_model(folder)
    tiny_data(folder)
    chip = (data_dir("targets") / "spacemit-k1.toml").read_text(encoding="utf-8")
    cpu = load_target("spacemit-k1").qemu.cpu
    (folder / "k1.toml").write_text(f'{chip}\n[board]\nrunner_prefix = ["qemu-riscv64", "-cpu", "{cpu}"]\n')
    model = [folder / "tiny.onnx", "--data", folder / "tiny.npz", "--target", folder / "k1.toml"]
    board = ["--board", "board", "--ssh-config", sshd.config(), "--ssh-option", "LogLevel=ERROR"]
    few = ["--top", 1, "--tune", 1, "--bits", "fp32", "--jobs", 1]
    return ["explore", *model, *board, *few, "-o", folder / "run", "--quiet"]


def measured(run: Path) -> dict[str, str]:
    """Timings by key; a failure of the board is none."""
    rows = ((kind, key, value) for _, kind, key, value in figures(run))
    return {key: value for kind, key, value in rows if "timing" in kind and "seconds" in json.loads(value)}


def test_a_run_that_is_ended_while_the_board_is_away_goes_on(
    own_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Measurement | Failure] = []
    ran: Counter[str] = Counter()

    def run(bench: Bench, job: Job) -> Measurement | Failure:
        assert bench.board is not None
        if len(outcomes) == 2:
            own_sshd.stop()  # after the first layer's programs
        if len(outcomes) == 5:
            raise KeyboardInterrupt
        outcomes.append(SshRunner(bench.board, policy=QUICK).run(job))
        return outcomes[-1]

    monkeypatch.setattr(Bench, "run", run)
    arguments = board_arguments(tmp_path, own_sshd)
    done = command(*arguments)
    assert (done.code, done.err) == (130, "error: interrupted; what was measured is kept, the same command goes on\n")
    away = outcomes[2:]
    assert [type(outcome) for outcome in outcomes] == [Measurement] * 2 + [Failure] * 3
    assert all(isinstance(one, Failure) and one.stage == "board" and "cannot be reached" in one.reason for one in away)
    kept = measured(tmp_path / "run")
    assert len(kept) == 1, "one layer, the faster of two programs"

    def run_again(bench: Bench, job: Job) -> Measurement | Failure:
        assert bench.board is not None
        ran[str(job.work.parents[1])] += 1
        return SshRunner(bench.board, policy=QUICK).run(job)

    own_sshd.start()
    monkeypatch.setattr(Bench, "run", run_again)
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")
    everything = measured(tmp_path / "run")
    assert kept.items() <= everything.items() and len(everything) > len(kept)
    assert not any(key in folder for key in kept for folder in ran), "what was measured is not measured again"
    assert "report.html" in done.out

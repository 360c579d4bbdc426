"""One model or bundle, measured by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from explored import tiny_model as tiny_onnx
from runners.boards import BundleOf, board_job, bundle_of, own_sshd, session_sshd, sshd, tiny_model
from runners.loopback import Sshd

from lrf_dse.errors import ModelError, RunError, UsageError
from lrf_dse.pipeline.profile import profile_program, profile_rows
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.target import load_target

__all__ = ["board_job", "bundle_of", "own_sshd", "session_sshd", "sshd", "tiny_model"]

K1 = load_target("spacemit-k1")
QUICK = RepeatPolicy(min_repeats=4, max_repeats=8, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)


def test_a_model_is_compiled_as_it_is(tmp_path: Path) -> None:
    profile = profile_program(tiny_onnx(tmp_path), K1)
    assert profile.measurement.instructions is not None and profile.measurement.instructions > 1000
    rows = dict(profile_rows(profile))
    assert rows["instructions"] == f"{profile.measurement.instructions:,}"
    assert "seconds (median)" not in rows and rows["source"] == profile.measurement.source


def test_a_bundle_on_a_board(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of("slow")
    for subject in (folder, folder / "model-riscv64"):
        profile = profile_program(subject, K1, board=sshd.board(), policy=QUICK)
        rows = dict(profile_rows(profile))
        assert float(rows["seconds (median)"]) >= 0.002
        assert rows["source"] == "board seconds, board (programs run by qemu-riscv64)"
        assert (rows["vector registers"], rows["emulator"]) == ("256 bits", "qemu-riscv64")
        assert "instructions" not in rows and "peak resident bytes" not in rows


def test_what_goes_wrong_is_one_line(sshd: Sshd, bundle_of: BundleOf, tmp_path: Path) -> None:
    wrong = bundle_of("wrong")
    with pytest.raises(RunError, match="fails at stage verify: output 0: element 2 is 8.5, expected 8"):
        profile_program(wrong, K1, board=sshd.board(), policy=QUICK)
    with pytest.raises(ModelError, match="no such file"):
        profile_program(tmp_path / "none.onnx", K1)
    alone = tmp_path / "alone"
    alone.write_bytes((wrong / "model-riscv64").read_bytes())
    with pytest.raises(UsageError, match="a program without a bundle has no golden output"):
        profile_program(alone, K1)

"""The target files that we ship, and what is refused in others."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.micro import Micro, program_text
from lrf_dse.errors import TargetError
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.timing import timing_model_text
from lrf_dse.target import load_target, operations, target_names, timing_figures

TIMED = [name for name in target_names() if name != "qemu-rv64gcv"]
VLEN = {
    "canaan-k230": 128,
    "eic7700x": None,
    "qemu-rv64gcv": 128,
    "sifive-x280": 512,
    "sophgo-sg2044": 128,
    "spacemit-k1": 256,
    "spacemit-k3": 256,
    "starfive-jh7110": None,
}


def test_all_targets_are_there() -> None:
    assert {name: load_target(name).isa.vlen_bits for name in target_names()} == VLEN


@pytest.mark.parametrize("name", sorted(VLEN))
def test_flags_agree_with_the_vector_unit(name: str) -> None:
    """No compiler may emit vectors for a chip that has none, or longer ones than it has."""
    target = load_target(name)
    assert target.name == name
    vlen = target.isa.vlen_bits
    flags = (target.isa.march, target.iree.cpu_features, target.cc.mcpu)
    if vlen is None:
        assert target.fp32_lanes == 1 and "v=false" in target.qemu.cpu
        assert not any(re.search(r"\+v|zvl|gcv", text) for text in flags)
    else:
        assert target.fp32_lanes == vlen // 32
        assert all(f"zvl{vlen}b" in text for text in flags)
        assert f"v=true,vlen={vlen}," in target.qemu.cpu


@pytest.mark.parametrize("name", TIMED)
def test_every_timing_figure_says_how_it_is_known(name: str) -> None:
    target = load_target(name)
    assert target.has_timing and target.timing is not None
    figures = timing_figures(target.timing)
    assert all(text and known.source for _, text, known in figures)
    assert {known.basis for *_, known in figures} <= {"published", "derived", "assumed"}
    costs = {label.removeprefix("cost of ") for label, *_ in figures if label.startswith("cost of ")}
    wanted = {op for op in operations() if op != "unknown" and (VLEN[name] or not op.startswith("v_"))}
    assert wanted <= costs


@pytest.mark.parametrize("name", TIMED)
def test_a_peak_loop_runs_at_the_targets_peak(name: str, tmp_path: Path) -> None:
    """core.fma_per_cycle, which the roofline uses, and the costs of the timing model are the same chip."""
    target = load_target(name)
    assert target.core.fma_per_cycle is not None
    if target.isa.vlen_bits is None:
        lines = [f"fmadd.s ft{i}, fa0, fa1, ft{i}" for i in range(8)]
        fmas, setup = 8, ""
    else:
        lines = [f"vfmacc.vf v{i}, fa0, v0" for i in (8, 12, 16, 20, 24, 28)]
        fmas, setup = 6 * 4 * target.fp32_lanes, "vsetvli t0, x0, e32, m4, ta, ma"
    micro = Micro("peak", "\n".join(lines * 2), 1, setup=setup)
    (tmp_path / "peak.S").write_text(program_text([micro]))
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
    zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "peak.S", "-o", "peak"], cwd=tmp_path)
    last = run_timed(tmp_path / "peak", target, tmp_path)[-1]
    rate = 2 * fmas * micro.iterations / last.cycles
    assert rate == pytest.approx(target.core.fma_per_cycle.value, rel=0.12)
    assert rate <= target.core.fma_per_cycle.value


def test_a_target_without_timing_has_no_model() -> None:
    generic = load_target("qemu-rv64gcv")
    assert generic.timing is None and not generic.has_timing
    with pytest.raises(ValueError, match="qemu-rv64gcv has no timing model"):
        timing_model_text(generic)


def test_threads_share_caches_and_memory() -> None:
    """K1: four cores have one L2, all eight one memory of 6.66 bytes a cycle."""
    k1 = load_target("spacemit-k1")
    sets = {n: re.search(r"^cache 1 sets (\d+)", timing_model_text(k1, threads=n), re.M) for n in (1, 2, 3, 4, 8)}
    assert {n: int(found[1]) for n, found in sets.items() if found} == {1: 512, 2: 256, 3: 128, 4: 128, 8: 128}
    rates = {n: re.search(r"^dram_rate (\d+)", timing_model_text(k1, threads=n), re.M) for n in (1, 2, 8)}
    assert {n: int(found[1]) for n, found in rates.items() if found} == {1: 1178, 2: 852, 8: 213}
    assert timing_model_text(k1, threads=1).count("cache 0 sets 128 ways 4") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(data_dir("targets"), tmp_path / "targets")
    return tmp_path / "targets"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("spacemit-k1.toml", 'costs = "x60"', 'costs = "z80"', "no table 'z80' in costs/: use one of c920, p550, u74"),
        ("spacemit-k1.toml", "streams = 64", "streams = -1", r"key timing\.prefetch\.streams: .*greater"),
        ("spacemit-k1.toml", "[timing.predictor]", "[timing.oracle]", r"key timing\.predictor: Field required"),
        ("spacemit-k1.toml", "size_bytes = 32_768\nways = 4", "size_bytes = 32_768\nways = 3", "a power of two"),
        ("spacemit-k1.toml", "value = 385,", "value = 10,", "latency_cycles must grow from level to level"),
        ("costs/x60.toml", 'pipes = "fp", latency = 5', 'pipes = "fpu", latency = 5', "cost.float_fma: pipes must be"),
        ("costs/x60.toml", "v_gather  ", "v_gatherer", r"cost\.v_gatherer: no such operation"),
        ("costs/x60.toml", "v_gather  ", "# v_gather", r"timing\.costs has no cost of v_gather"),
        ("costs/x60.toml", 'known = "element"', 'known = "hearsay"', "known must be one of llvm, rvv-bench"),
        ("costs/x60.toml", "busy = [3, 5, 9, 17]", "busy = [3, 5]", r"key timing\.costs\.cost\.v_slide\.busy"),
    ],
)
def test_a_bad_timing_part_names_file_and_key(file: str, old: str, new: str, message: str, folder: Path) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(TargetError, match=f"spacemit-k1.toml: key timing.*{message}|spacemit-k1.toml: .*{message}"):
        load_target("spacemit-k1", folder)


def test_a_users_file_may_name_our_cost_tables(tmp_path: Path) -> None:
    text = (data_dir("targets") / "spacemit-k1.toml").read_text()
    (tmp_path / "board.toml").write_text(text.replace('name = "spacemit-k1"', 'name = "my-board"'))
    mine = load_target(str(tmp_path / "board.toml"))
    assert mine.timing == load_target("spacemit-k1").timing

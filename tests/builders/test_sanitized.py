"""The host's C built for this machine under AddressSanitizer and UndefinedBehaviorSanitizer: right, wrong and damaged.

What is RISC-V in it (markers, counters, cache flushes) is left out there; the rest is the text that is shipped.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from damage.damages import REFUSED, SILENT, TAKEN, Tally, damage, seeded
from runners.boards import X, seal_bundle

from lrf_dse.builders.linking import FIXED_SOURCES
from lrf_dse.builders.program import BuiltProgram
from lrf_dse.resources import data_dir

HOST = data_dir("toolchain") / "host"
PROGRAMS = Path(__file__).resolve().parents[1] / "runners" / "programs"
FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
LIMITS = ("-fno-sanitize-recover=all", "-DREQUIRED_VLEN_BITS=0", f"-I{HOST}")
SAID_BY_A_SANITIZER = ("Sanitizer", "runtime error")


def built(folder: Path, name: str, *sources: Path) -> Path:
    line = ["gcc", *FLAGS, *LIMITS, *map(str, sources), "-o", str(folder / name), "-lm", "-lpthread"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program around tiny_model.c, in a bundle of its own."""
    folder = tmp_path_factory.mktemp("sanitized")
    built(folder, "model-riscv64", *(HOST / name for name in FIXED_SOURCES), PROGRAMS / "tiny_model.c")
    (folder / "golden").mkdir()
    (folder / "golden" / "input0.bin").write_bytes(bytes(16))
    (folder / "golden" / "input1.bin").write_bytes(X.tobytes())
    (folder / "golden" / "output0.bin").write_bytes((2 * X + 1).tobytes())
    seal_bundle(folder, {"plan": "p1"})
    return folder


def run(host: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [str(host / "model-riscv64"), *map(str, arguments)]
    done = subprocess.run(line, cwd=host, capture_output=True, text=True, timeout=60, check=False)
    assert not any(word in done.stderr for word in SAID_BY_A_SANITIZER), done.stderr
    return done


IN = ("golden/input0.bin", "golden/input1.bin")


def test_it_is_right(host: Path, tmp_path: Path) -> None:
    for options in ((), ("--threads", "3"), ("--passes", "4"), ("--stats", tmp_path / "stats.json")):
        assert run(host, *options, *IN, tmp_path / "out.bin").returncode == 0
        assert np.array_equal(np.fromfile(tmp_path / "out.bin", "<f4"), 2 * X + 1)
    assert run(host, "--board", tmp_path / "board.json", "20", "1", "100", *IN, tmp_path / "out.bin").returncode == 0
    done = run(host, "--check", *IN, "golden/output0.bin")
    assert (done.returncode, done.stdout) == (0, "ok: largest error 0.0e+00 of max |y|, limit 1e-04\n")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0])
def test_wrong_outputs_are_wrong(host: Path, tmp_path: Path, value: float) -> None:
    expected = (2 * X + 1).astype("<f4")
    expected[1] = value
    expected.tofile(tmp_path / "expected.bin")
    assert run(host, "--check", *IN, tmp_path / "expected.bin").returncode == 5


@pytest.mark.parametrize("size", [0, 1, 15, 17, 4096])
def test_files_of_other_sizes_are_refused(host: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "odd.bin").write_bytes(bytes(size))
    for arguments in ((tmp_path / "odd.bin", IN[1]), (IN[0], tmp_path / "odd.bin")):
        done = run(host, *arguments, tmp_path / "out.bin")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert run(host, "--check", *IN, tmp_path / "odd.bin").returncode == 1


@pytest.mark.parametrize("options", [("--threads", "0"), ("--threads", "x"), ("--passes", "-1"), ("--check",), ()])
def test_arguments_that_make_no_sense_are_refused(host: Path, options: tuple[str, ...]) -> None:
    done = run(host, *options)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.soak)])
def test_damaged_bundles_are_refused(host: Path, count: int) -> None:
    tally, names = Tally(), ["manifest.json", "SHA256SUMS", *IN, "golden/output0.bin"]
    whole = {name: (host / name).read_bytes() for name in names}
    for source in seeded(count, seed=11):
        name = source.choice(names)
        kind, left = damage(whole[name], {k: v for k, v in whole.items() if v != whole[name]}, source)
        (host / name).unlink()
        if left is not None:
            (host / name).write_bytes(left)

        def judge(name: str = name, left: bytes | None = left) -> str:
            done = run(host, "--check", *IN, "golden/output0.bin")
            if left == whole[name]:
                return TAKEN if done.returncode == 0 else SILENT
            return REFUSED if done.returncode == 4 and done.stderr.count("\n") == 1 else SILENT

        tally.add(kind, judge)
        (host / name).write_bytes(whole[name])
    assert not tally.faults, tally.faults


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.soak)])
def test_damaged_kernel_images_stay_within_their_memory(
    tmp_path: Path, count: int, fully_connected_program: BuiltProgram
) -> None:
    program = built(tmp_path, "place", HOST / "image.c", HOST / "fail.c", PROGRAMS / "place_image.c")
    (whole,) = fully_connected_program.schedule.executables.values()
    path, tally = tmp_path / "image.elf", Tally()

    def place() -> str:
        done = subprocess.run([program, path], capture_output=True, text=True, timeout=60, check=False)
        assert not any(word in done.stderr for word in SAID_BY_A_SANITIZER), done.stderr
        assert done.returncode == 0 or (done.returncode == 4 and done.stderr.count("\n") == 1), done.stderr
        return TAKEN if done.returncode == 0 else REFUSED

    path.write_bytes(whole)
    assert place() == TAKEN
    for source in seeded(count, seed=12):
        # The headers and tables are a small part of the file, and the one that is followed.
        kind, left = damage(whole[:1024], {}, source) if source.random() < 0.6 else damage(whole, {}, source)
        left = left or b""
        path.write_bytes(left + whole[1024:] if kind != "truncated" and len(left) == 1024 else left)
        tally.add(kind, place)
    assert not tally.faults, tally.faults
    assert tally.by_outcome()[REFUSED] > count / 4

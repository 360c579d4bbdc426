"""The counting plugin against programs whose executed instructions are known exactly."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrf_dse.builders.zig import zig_cc
from lrf_dse.resources import data_dir
from lrf_dse.runners.plugin import instruction_classes, plugin_path
from lrf_dse.runners.qemu import QEMU
from lrf_dse.schema import Failure, Measurement

VECTOR_ARITHMETIC = {"vector_config": 1, "vector_arithmetic": 15}
MIXES: dict[str, dict[str, int]] = {
    "scalar": {"scalar": 10},
    "near_markers": {"scalar": 5},
    "scalar_memory": {"scalar_memory": 19},
    "scalar_float": {"scalar_float": 13},
    "branches": {"scalar": 12, "branch": 20},
    "compressed": {"scalar": 16, "scalar_memory": 9, "branch": 7},
    "vector_config": {"scalar": 1, "vector_config": 4},
    "vector_arithmetic_mf2": VECTOR_ARITHMETIC,
    "vector_arithmetic_m1": VECTOR_ARITHMETIC,
    "vector_arithmetic_m2": VECTOR_ARITHMETIC,
    "vector_arithmetic_m4": VECTOR_ARITHMETIC,
    "vector_arithmetic_m8": VECTOR_ARITHMETIC,
    "vector_memory": {"scalar": 1, "vector_config": 1, "vector_arithmetic": 4, "vector_memory": 27},
    "vector_loop": {
        "scalar": 101,
        "scalar_memory": 100,
        "branch": 100,
        "vector_config": 100,
        "vector_arithmetic": 200,
        "vector_memory": 100,
    },
    "mid_block": {"scalar": 3},
    "empty": {},
    "repeated_markers": {"scalar": 2},
    "shared_blocks": {"scalar": 20, "branch": 15},
    "page_crossing": {"scalar": 3002},
    "other_thread": {"scalar": 3000002, "branch": 3000000},
}


@pytest.mark.parametrize("target", ["spacemit-k1", "qemu-rv64gcv"])
@pytest.mark.parametrize("case", MIXES)
def test_counts_are_exact(case: str, target: str, run_case: Callable[..., Measurement | Failure]) -> None:
    result = run_case(case, target=target)
    assert isinstance(result, Measurement), result
    assert list(result.counts) == list(instruction_classes())
    assert {name: n for name, n in result.counts.items() if n} == MIXES[case]
    assert result.instructions == sum(MIXES[case].values())


def test_an_opcode_that_the_decoder_does_not_know_is_counted(run_case: Callable[..., Measurement | Failure]) -> None:
    result = run_case("unknown", cpu_suffix=",xventanacondops=true")
    assert isinstance(result, Measurement), result
    assert result.counts["unknown"] == 2
    assert result.instructions == 3


def test_same_program_same_counts(run_case: Callable[..., Measurement | Failure], tmp_path: Path) -> None:
    first = run_case("compiled", work=tmp_path / "a")
    second = run_case("compiled", work=tmp_path / "another folder, with a comma")
    assert isinstance(first, Measurement), first
    assert first == second
    assert first.counts["scalar"] > 1000 and first.counts["unknown"] == 0


def test_counts_do_not_depend_on_how_blocks_are_cut(probe: Path, tmp_path: Path) -> None:
    """With -singlestep every block is one instruction: nothing is left of the sums per block."""
    (tmp_path / "case.bin").write_bytes(b"compiled")
    (tmp_path / "x.bin").write_bytes(np.zeros(4, np.float32).tobytes())
    counts = []
    for name, options in (("blocks.json", []), ("steps.json", ["-singlestep"])):
        plugin = ["-plugin", f"{plugin_path()},out={name}"]
        command = [
            QEMU,
            "-cpu",
            "rv64,v=true,vext_spec=v1.0",
            *options,
            *plugin,
            str(probe),
            "case.bin",
            "x.bin",
            "y.bin",
        ]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        counts.append(json.loads((tmp_path / name).read_text()))
    assert counts[0] == counts[1]
    assert counts[0]["regions"] == 1


def test_markers_are_the_documented_four_bytes(tmp_path: Path) -> None:
    """With compression on, and in the order of the source, also around loads and stores."""
    source = "void f(int *p) { *p = 1; LRF_REGION_BEGIN; *p = 2; LRF_REGION_END; *p = 3; }"
    (tmp_path / "f.c").write_text(f'#include "region.h"\n{source}\n')
    include = str(data_dir("toolchain") / "host")
    zig_cc(["-target", "riscv64-linux-musl", "-O3", "-I", include, "-c", "f.c", "-o", "f.o"], cwd=tmp_path)
    code = (tmp_path / "f.o").read_bytes()
    begin, end = (word.to_bytes(4, "little") for word in (0x5A103013, 0x5A203013))
    assert (code.count(begin), code.count(end)) == (1, 1)
    between = code[code.index(begin) + 4 : code.index(end)]
    # At least the second store (c.sw, 2 bytes), at most with its constant: it was neither dropped nor moved out.
    assert len(between) in (2, 4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "needs exactly one argument"),
        (",out=a,more=b", "needs exactly one argument"),
        (",out=/no/x", "cannot create"),
    ],
)
def test_plugin_refuses_bad_arguments(arguments: str, message: str, probe: Path) -> None:
    command = [QEMU, "-plugin", f"{plugin_path()}{arguments}", str(probe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert message in done.stderr


def test_plugin_refuses_another_guest(tmp_path: Path) -> None:
    other = shutil.which("qemu-riscv32")
    assert other is not None, "qemu-user installs it beside qemu-riscv64"
    command = [other, "-plugin", f"{plugin_path()},out={tmp_path / 'o'}", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "riscv64 only, not riscv32" in done.stderr

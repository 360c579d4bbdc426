"""How much the timing plugin slows QEMU down.

Goals: at most 2x on RVV kernels, at least 15 million instructions a second on scalar code.

    python benchmarks/plugin_speed.py [--json FILE] [--target NAME ...]

Start-up is in both times, and is nothing against loops of a second. The best of three runs counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.micro import Micro, lines_of, program_text, vector_setup
from lrf_dse.resources import data_dir
from lrf_dse.runners.emulator import QEMU
from lrf_dse.runners.plugin import plugin_path
from lrf_dse.runners.timing import timing_model_text
from lrf_dse.target import Target, load_target

SLOWDOWN_GOAL = 2.0
SCALAR_RATE_GOAL = 15e6
REPEATS = 3

_MIXED = """lw t1, 0(a0)
        add t1, t1, t2
        slli t3, t1, 3
        xor t4, t3, t1
        sw t4, 4(a0)
        ld t5, 8(a0)
        mul t5, t5, t4
        addi t2, t2, 1
        beqz t5, 3f
        addi t2, t2, 1
    3:  fadd.s ft0, ft1, ft2
        flw ft3, 16(a0)"""
_ROWS = [f"flw ft{row}, {4 * row}(a0)\n        vfmacc.vf v{8 + 4 * row}, ft{row}, v4" for row in range(6)]
_FMAS = [f"vfmacc.vf v{8 + row}, fa{row % 8}, v4" for row in range(12)]
LOOPS = {
    "scalar": Micro("scalar", _MIXED, 1, iterations=2_000_000, passes=1),
    "rvv kernel, m4": Micro(
        "kernel", lines_of(["vle32.v v4, (a0)", *_ROWS]), 1, setup=vector_setup(4), iterations=300_000, passes=1
    ),
    "rvv loads, m4": Micro(
        "loads",
        "vle32.v v4, (a0)\n        vle32.v v8, (a0)\n        vfmacc.vv v12, v4, v8\n        vse32.v v12, (a0)",
        1,
        setup=vector_setup(4),
        iterations=200_000,
        passes=1,
    ),
    "rvv FMAs, m1": Micro("fmas", lines_of(_FMAS), 1, setup=vector_setup(1), iterations=400_000, passes=1),
}


def main() -> int:
    """Measure, print a table, write JSON; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--target", nargs="+", default=["spacemit-k1", "spacemit-k3"])
    chosen = parser.parse_args()
    rows = [measure(name, micro, load_target(target)) for target in chosen.target for name, micro in LOOPS.items()]
    for row in rows:
        print(
            f"{row['target']:12} {row['loop']:16} {row['plain_s']:6.2f} s plain {row['timed_s']:6.2f} s timed "
            f"{row['slowdown']:6.2f} x {row['rate'] / 1e6:6.1f} million instructions/s "
            + ("ok" if row["ok"] else "MISSED")
        )
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


def measure(name: str, micro: Micro, target: Target) -> dict[str, Any]:
    """One loop, plain and under the plugin."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "loop.S").write_text(program_text([micro]))
        machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
        zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "loop.S", "-o", "loop"], cwd=work)
        (work / "model.txt").write_text(timing_model_text(target))
        plugin = ["-plugin", f"{plugin_path('timing')},out=figures.json,model=model.txt"]
        command = [QEMU, "-cpu", target.qemu.cpu]
        plain_s, timed_s = (best_time([*command, *extra, "./loop"], work) for extra in ([], plugin))
        instructions = json.loads((work / "figures.json").read_text())["passes"][0]["instructions"]
    rate, slowdown = instructions / timed_s, timed_s / plain_s
    good = rate >= SCALAR_RATE_GOAL if name == "scalar" else slowdown <= SLOWDOWN_GOAL
    times = {"plain_s": plain_s, "timed_s": timed_s, "slowdown": slowdown, "rate": rate}
    return {"target": target.name, "loop": name, "instructions": instructions, **times, "ok": good}


def best_time(command: Sequence[str], work: Path) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, cwd=work, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    raise SystemExit(main())

"""Time and peak memory of every decomposer on two large layers; each runs in a process of its own.

    .venv/bin/python benchmarks/decomposers.py [--layers 4096x4096 ...] [--methods als ...] [--limit S] [--json FILE]

Processor seconds of one fit on one thread, which other work on the machine hardly changes, and how far the resident
memory rose above that of the weights and calibration data it was given. Random Gaussian weights, 1,024 calibration rows
whose variances fall off, 256 more held out. What takes more processor time than --limit is ended and said so. The plain
SVDs make the error of the weights small, the others that of the outputs: both are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.moment import moment_of
from lrf_dse.tt.output_error import held_out_error
from lrf_dse.tt.svd import DECOMPOSERS, get_decomposer

SHAPES = {
    "4096x4096": {
        "low rank 32": TTShape((4096, 1), (1, 4096), (1, 32, 1)),
        "TT d=2 r=16": TTShape((64, 64), (64, 64), (1, 16, 1)),
        "TT d=3 r=16": TTShape((16, 16, 16), (16, 16, 16), (1, 16, 16, 1)),
    },
    "25088x4096": {
        "low rank 32": TTShape((4096, 1), (1, 25088), (1, 32, 1)),
        "TT d=2 r=16": TTShape((64, 64), (128, 196), (1, 16, 1)),
        "TT d=3 r=16": TTShape((16, 16, 16), (28, 28, 32), (1, 16, 16, 1)),
    },
}
"""Layers [in x out] and the shapes they are fitted in."""

METHODS = {"low rank 32": ("t3f", "tt_svd", "whitened"), "TT d=2 r=16": ("t3f", "tt_svd", "whitened", "als")}
METHODS["TT d=3 r=16"] = METHODS["TT d=2 r=16"]
ROWS, HELD_OUT = 1024, 256

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)
"""The environment of a process that fits: threads that wait for each other would count as work."""


def measure(layer: str, shape: str, method: str, limit: float) -> dict[str, Any]:
    """One fit, in this process, which ends where it takes more than `limit` seconds."""
    tt = SHAPES[layer][shape]
    random = np.random.default_rng(0)
    weight = random.standard_normal((tt.out_features, tt.in_features), dtype=np.float32)
    weight /= np.float32(np.sqrt(tt.in_features))
    rows = random.standard_normal((ROWS + HELD_OUT, tt.in_features), dtype=np.float32)
    rows /= np.sqrt(1 + np.arange(tt.in_features, dtype=np.float32) / 64)
    moment = moment_of(rows[:ROWS], held_out=rows[ROWS:])
    decomposer = get_decomposer(method)
    if method == "t3f":  # TensorFlow itself is no memory of the fit
        decomposer.decompose(np.eye(4, dtype=np.float32), TTShape((2, 2), (2, 2), (1, 2, 1)))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew (proc(5))
    before, start = _resident_bytes("VmRSS"), time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(start + limit) + 1, resource.RLIM_INFINITY))
    cores = decomposer.decompose(weight, tt, moment)
    facts: dict[str, Any] = {"seconds": time.process_time() - start, "bytes": _resident_bytes("VmHWM") - before}
    matrix = to_matrix(cores)
    return facts | {
        "weight_error": float(np.linalg.norm(weight - matrix) / np.linalg.norm(weight)),
        "output_error": held_out_error(moment, weight, matrix),
    }


def _resident_bytes(key: str) -> int:
    """Resident memory of this process: VmRSS is what it has now, VmHWM the peak."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(status[key].removesuffix("kB")) * 1024


def measured_apart(layer: str, shape: str, method: str, *, limit: float) -> dict[str, Any]:
    """`measure` in a process of its own, so that the peak is its own; or why there is no figure."""
    command = [sys.executable, __file__, "--limit", str(limit), "--one", layer, shape, method]
    facts: dict[str, Any] = {"layer": layer, "shape": shape, "method": method}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD, check=False)
    if done.returncode == -signal.SIGXCPU:
        return facts | {"failed": f"more than {limit:g} s"}
    if done.returncode != 0:
        return facts | {"failed": "out of memory" if done.returncode < 0 else done.stderr.strip().splitlines()[-1]}
    figures: dict[str, Any] = json.loads(done.stdout)
    return facts | figures


def line(row: dict[str, Any]) -> str:
    """One row as text."""
    head = f"{row['layer']:<11} {row['shape']:<12} {row['method']:<9}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    errors = f"weights {row['weight_error']:.4f} outputs {row['output_error']:.4f}"
    return f"{head} {row['seconds']:8.2f} s {row['bytes'] / 2**20:8.0f} MB   {errors}"


def main() -> None:
    """Measure and print every case, or the one that a parent process asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--methods", nargs="+", choices=DECOMPOSERS, default=list(DECOMPOSERS))
    parser.add_argument("--limit", type=float, default=600.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        layer, shape, method = arguments.one
        print(json.dumps(measure(layer, shape, method, arguments.limit)))
        return
    rows = []
    for layer in arguments.layers:
        for shape in SHAPES[layer]:
            for method in (name for name in METHODS[shape] if name in arguments.methods):
                rows.append(measured_apart(layer, shape, method, limit=arguments.limit))
                print(line(rows[-1]), flush=True)
                if arguments.json:  # what was measured stays, whatever comes next
                    arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

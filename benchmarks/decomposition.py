"""How long one layer's mathematics takes: spectra, pruning and decomposition, against their goals.

    .venv/bin/python benchmarks/decomposition.py [--json FILE]

Wall seconds on this machine, best of two; random Gaussian weights (the slowest case: no spectrum decays).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import prune
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.spectra import layer_spectra
from lrf_dse.tt.svd import get_decomposer

SQUARE = (64, 64)
CUBE = (16, 16, 16)


def seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    large = random.standard_normal((4096, 4096), dtype=np.float32)
    lenet = random.standard_normal((300, 784), dtype=np.float32)
    target = load_target("spacemit-k1")
    decomposer = get_decomposer("tt_svd", seed=0)
    layer = FcLayer("fc1", 784, 300, 1, True)
    spectra = layer_spectra(lenet, seed=0)
    cases: list[tuple[str, float, Callable[[], object]]] = [
        ("TT-SVD 4096x4096 d=2 r=64", 2.0, lambda: decomposer.decompose(large, TTShape(SQUARE, SQUARE, (1, 64, 1)))),
        ("TT-SVD 4096x4096 d=3 r=32", 2.0, lambda: decomposer.decompose(large, TTShape(CUBE, CUBE, (1, 32, 32, 1)))),
        ("spectra of 784x300", 1.0, lambda: layer_spectra(lenet, seed=0)),
        ("enumerate and prune 784x300", 0.2, lambda: prune(layer, spectra, target, Narrowing(8))),
    ]
    rows = []
    for name, goal_s, work in cases:
        taken = seconds(work)
        rows.append({"name": name, "seconds": taken, "goal_s": goal_s, "met": taken <= goal_s})
        print(f"{name:<32} {taken:7.3f} s   goal {goal_s:g} s   {'met' if taken <= goal_s else 'MISSED'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

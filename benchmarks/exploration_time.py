"""Where an exploration's processor time goes, by stage, on four models: docs/exploration-time.md.

    .venv/bin/python -m benchmarks.exploration_time [--cases demo fp32 patches head convolution] [--column after]

Every case is one `lrf-dse explore` with the tools built and no measurement cached (a cache folder of its own, with the
tools of the user's), whose time is what the system says of it and all its children. Stages are those of `explore
--timings`. Figures of a column stand in docs/exploration-time.json; a case that is run again replaces its own.

head         3264 -> 128 -> 10 with 650 samples of correlated features: a classifier on another network's features
convolution  a classifier of 3 MB whose 3x3 convolution takes 10^9 modelled cycles, which no plan changes
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.builders.cache import cache_dir
from lrf_dse.report.spending import PURPOSES

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
TOOLS = ("zig", "zig-libraries.json", "host", "plugins")
"""What a cache folder holds once the tools are built."""

TARGET = "spacemit-k1"
START = "from lrf_dse.cli import main; main()"
GOALS = {"demo": 150, "fp32": 100, "patches": 480, "head": 240, "convolution": 900}
"""Processor seconds."""

HEAD_INPUTS, HEAD_UNITS, HEAD_SAMPLES = 3264, 128, 650
CHANNELS, SIDE = 48, 128
"""48 channels to 48 over 128 x 128: 3.4e8 multiply-adds, which IREE's code takes about 10^9 modelled cycles for."""


@dataclass(frozen=True)
class Figures:
    """What one exploration took: processor seconds in all and by stage, seconds on the clock, and what it chose."""

    cpu_s: float
    wall_s: float
    stages: Mapping[str, float]
    chosen: str
    cycles: float | None
    drop: float | None


def correlated(samples: int, features: int, *, rank: int, seed: int) -> NDArray[np.float32]:
    """Features as a trained network gives them: few directions vary much, all are at least 0."""
    random = np.random.default_rng(seed)
    directions = random.standard_normal((rank, features)) * (1 + np.arange(rank))[:, None] ** -0.7
    values = random.standard_normal((samples, rank)) @ directions + 0.3 * random.standard_normal((samples, features))
    return np.maximum(values, 0).astype(np.float32)


def layers(sizes: Sequence[int], *, seed: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Fully connected layers h0 -> h1 -> ..., with Relu between them; spectra fall as those of trained layers do."""
    random = np.random.default_rng(seed)
    nodes, weights = [], []
    for k, (n, m) in enumerate(pairwise(sizes)):
        u, _, v = np.linalg.svd(random.standard_normal((n, m)), full_matrices=False)
        falling = (1 + np.arange(min(n, m))) ** -0.8
        weight = ((u * falling) @ v * np.sqrt(2 * m / float(falling @ falling) / n)).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{k}"), numpy_helper.from_array(np.zeros(m, np.float32), f"b{k}")]
        nodes += [helper.make_node("Gemm", [f"h{k}", f"w{k}", f"b{k}"], [f"g{k}"], f"fc{k + 1}")]
        last = k == len(sizes) - 2
        nodes += [helper.make_node("Identity" if last else "Relu", [f"g{k}"], ["y" if last else f"h{k + 1}"])]
    return nodes, weights


def saved(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    shape: Sequence[int],
    outputs: int,
) -> Path:
    """The model x `shape` -> y [1, outputs] as a file."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])
    graph = helper.make_graph(list(nodes), "made", [x], [y], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def head(folder: Path) -> list[str]:
    """The words of the exploration of the wide head."""
    nodes, weights = layers((HEAD_INPUTS, HEAD_UNITS, 10), seed=0)
    nodes.insert(0, helper.make_node("Identity", ["x"], ["h0"]))
    model = saved(folder, nodes, weights, [1, HEAD_INPUTS], 10)
    np.savez(folder / "data.npz", x=correlated(HEAD_SAMPLES, HEAD_INPUTS, rank=200, seed=1))
    return [str(model), "--data", str(folder / "data.npz"), "--max-drop", "2"]


def convolution(folder: Path) -> list[str]:
    """The words of the exploration of the classifier with the large convolution."""
    random = np.random.default_rng(0)
    kernel = (random.standard_normal((CHANNELS, CHANNELS, 3, 3)) / np.sqrt(9 * CHANNELS)).astype(np.float32)
    first = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Flatten", ["p"], ["h0"]),
    ]
    features = CHANNELS * (SIDE // 32) ** 2
    nodes, weights = layers((features, 640, 256, 16), seed=2)
    weights = [numpy_helper.from_array(kernel, "kernel"), *weights]
    model = saved(folder, [*first, *nodes], weights, [1, CHANNELS, SIDE, SIDE], 16)
    low = random.standard_normal((120, CHANNELS, SIDE // 16, SIDE // 16)).astype(np.float32)
    x = np.repeat(np.repeat(low, 16, axis=2), 16, axis=3)
    np.savez(folder / "data.npz", x=x)
    return [str(model), "--data", str(folder / "data.npz"), "--max-drop", "5"]


def example(name: str, *options: str) -> list[str]:
    """The words of the exploration of an example."""
    folder = EXAMPLES / name
    data = ["--data", str(folder / "validation.npz"), "--calibration", str(folder / "calibration.npz")]
    return [str(folder / "model.onnx"), *data, "--max-drop", "1.0", *options]


def words_of(case: str, folder: Path) -> list[str]:
    """What is explored in a case."""
    if case in ("demo", "fp32"):
        return example("lenet300", *(["--bits", "fp32"] if case == "fp32" else []))
    return {"patches": lambda: example("patches"), "head": lambda: head(folder)}.get(
        case, lambda: convolution(folder)
    )()


def explored(case: str, tree: Path) -> Figures:
    """One exploration by the checkout `tree`, in folders that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lrf-dse-time-") as scratch:
        folder, cache = Path(scratch), Path(scratch) / "cache"
        cache.mkdir()
        for tool in TOOLS:
            if (cache_dir() / tool).is_dir():
                shutil.copytree(cache_dir() / tool, cache / tool, symlinks=True)
            elif (cache_dir() / tool).exists():
                shutil.copy(cache_dir() / tool, cache / tool)
        words = ["explore", *words_of(case, folder), "--target", TARGET, "-o", str(folder / "run"), "--quiet"]
        before, began = _children_s(), os.times().elapsed
        environment = os.environ | {"LRF_DSE_CACHE": str(cache), "PYTHONPATH": str(tree)}
        subprocess.run([sys.executable, "-c", START, *words], check=True, env=environment, stdout=subprocess.DEVNULL)
        cpu_s, wall_s = _children_s() - before, os.times().elapsed - began
        summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    return _figures(summary, cpu_s, wall_s)


def _figures(summary: Mapping[str, Any], cpu_s: float, wall_s: float) -> Figures:
    plans: list[dict[str, Any]] = [plan for plan in summary["plans"] if plan["id"] == summary["chosen"]]
    plan, stages = (plans or [{}])[0], dict(summary.get("spending", {}).get("cpu_s", {}))
    if stages:  # a release before it counted has none
        stages["rest"] = stages.get("rest", 0.0) + cpu_s - sum(stages.values())  # Python's start, the report
    return Figures(cpu_s, wall_s, stages, str(summary["chosen"]), plan.get("cycles"), plan.get("drop_points"))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def page(kept: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """docs/exploration-time.md: the seconds of all cases, then the stages of each; a column for each time it ran."""
    columns = list(dict.fromkeys(column for cases in kept.values() for column in cases))
    lines = [
        "# Where an exploration's time goes",
        "",
        "Processor seconds of one `lrf-dse explore` with all the programs that it starts; tools built, no measurement",
        "cached. `.venv/bin/python -m benchmarks.exploration_time` writes this page and the JSON file beside it. On a",
        "machine with other work the same exploration takes up to half as much again: its caches are shared.",
        "",
        f"| case | goal | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for case, cases in kept.items():
        cells = [f"{cases[column]['cpu_s']:,.0f}" if column in cases else "-" for column in columns]
        lines.append(f"| {case} | {GOALS[case]} | {' | '.join(cells)} |")
    for case, cases in kept.items():
        lines += ["", f"## {case}", "", f"| stage | {' | '.join(cases)} |", f"|---|{'---|' * len(cases)}"]
        for stage in PURPOSES:
            values = [figures["stages"].get(stage) for figures in cases.values()]
            if any(values):
                cells = ["-" if value is None else f"{value:,.1f}" for value in values]
                lines.append(f"| {stage} | {' | '.join(cells)} |")
        chosen = [
            f"{figures['cycles'] or 0:,.0f} cycles, drop {figures['drop'] or 0:.2f}" for figures in cases.values()
        ]
        lines.append(f"| chosen plan | {' | '.join(chosen)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=GOALS, default=list(GOALS))
    parser.add_argument("--column", default="after")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout, to measure it before a change")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    file = arguments.out / "exploration-time.json"
    kept: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for case in arguments.cases:
        kept.setdefault(case, {})[arguments.column] = vars(explored(case, arguments.tree.resolve()))
        ordered = {name: kept[name] for name in GOALS if name in kept}
        file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        (arguments.out / "exploration-time.md").write_text(page(ordered), encoding="utf-8")
        print(f"{case}: {kept[case][arguments.column]['cpu_s']:,.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()

"""Every target at work: what single operations cost under its model, and three layers, dense and factorised.

    python benchmarks/targets.py [--target NAME ...] [--json FILE] [--docs]

Modelled cycles; executed instructions for a target without a timing model. Each layer is compiled with the target's own
flags, verified against onnxruntime under its QEMU, and the faster of all builders counts. --docs writes the tables of
docs/targets.md. Exit code 1 if a program fails.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.kit.page import with_section
from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.measuring import Loops, costs_of, figures_of, loops_of
from lrf_dse.calibrate.micro import program_text, regions_of
from lrf_dse.pipeline.timing import Bench, build_and_run, layer_program
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.schema import Candidate, FcLayer, Measurement, TTShape, dense_candidate
from lrf_dse.target import Target, load_target, target_names

PAGE = Path(__file__).resolve().parents[1] / "docs" / "targets.md"


def _layer(in_features: int, out_features: int) -> FcLayer:
    return FcLayer(f"{in_features}x{out_features}", in_features, out_features, 1, has_bias=True)


LAYERS: Mapping[FcLayer, TTShape] = {
    _layer(784, 300): TTShape((300, 1), (1, 784), (1, 32, 1)),
    _layer(512, 512): TTShape((64, 8), (8, 64), (1, 16, 1)),
    _layer(2048, 1000): TTShape((250, 2, 2), (2, 4, 256), (1, 16, 16, 1)),
}
SHOWN = ("v_float_fma", "v_load", "v_store", "v_load_strided", "v_gather", "v_reduce_float", "v_slide", "float_fma")


def main() -> int:
    """Measure, print both tables, write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", default=target_names())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    targets = [load_target(name) for name in chosen.target]
    layers = {target.name: layer_cycles(target) for target in targets}
    costs = {target.name: operation_cycles(target) for target in targets if target.timing is not None}
    text = f"{layer_table(layers)}\n\n{operation_table(costs)}\n"
    print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps({"layers": layers, "operations": costs}, indent=2) + "\n")
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), "cycles", text.rstrip()), encoding="utf-8")
    return 0 if all(isinstance(value, float) for row in layers.values() for value in row.values()) else 1


def layer_cycles(target: Target) -> dict[str, float | str]:
    """Cycles (or instructions) of every layer, dense and factorised; the reason where a program fails."""
    found: dict[str, float | str] = {}
    for layer, shape in LAYERS.items():
        for kind, candidate in (("dense", dense_candidate(layer)), ("factorised", Candidate(layer, shape))):
            with tempfile.TemporaryDirectory() as scratch:
                model, inputs = layer_program(candidate, seed=0)
                outcome = build_and_run(model, inputs, Bench(target), Path(scratch))
            if isinstance(outcome, Measurement):
                figure = outcome.instructions if outcome.cycles is None else outcome.cycles
                found[f"{layer.name} {kind}"] = float(figure or 0)
            else:
                found[f"{layer.name} {kind}"] = f"{outcome.stage}: {outcome.reason}"
    return found


def operation_cycles(target: Target) -> dict[str, Sequence[float]]:
    """Busy cycles at M1, M2, M4 and M8 of what the calibration measures, and latencies of its memory levels."""
    loops = loops_of(target)
    with tempfile.TemporaryDirectory() as scratch:
        cycles = _modelled(loops, target, Path(scratch))
    failures: dict[str, str] = {}
    assert target.timing is not None
    found: dict[str, Sequence[float]] = {}
    for name, cost in costs_of(loops.cases, cycles, target, failures).items():
        lanes = target.fp32_lanes
        busy = cost.busy or [lanes * lmul * (cost.per_element or 0) for lmul in (1, 2, 4, 8)]
        found[name] = [value / len(target.timing.costs.cost[name].pipes) for value in busy]
    found |= {place: (value,) for place, value in figures_of(loops, cycles, failures).items()}
    return found


def _modelled(loops: Loops, target: Target, work: Path) -> dict[str, float]:
    (work / "loops.S").write_text(program_text(loops.micros), encoding="utf-8")
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
    zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "loops.S", "-o", "loops"], cwd=work)
    passes = iter(run_timed(work / "loops", target, work))
    cycles: dict[str, float] = {}
    for micro in loops.micros:
        mine = [next(passes).cycles for _ in range(regions_of(micro))]
        cycles[micro.name] = mine[micro.passes - 1]
        if micro.baseline is not None:
            cycles[f"{micro.name}, less"] = mine[-1]
    return cycles


def layer_table(layers: Mapping[str, Mapping[str, float | str]]) -> str:
    """One row a target: cycles of each layer dense and factorised, and how many times fewer."""
    heads = [f"{layer.name} dense | {shape} | fewer" for layer, shape in LAYERS.items()]
    lines = [f"| target | {' | '.join(heads)} |", "|---" + "|--:" * 3 * len(LAYERS) + "|"]
    for name, row in layers.items():
        cells = []
        for layer in LAYERS:
            dense, factorised = row[f"{layer.name} dense"], row[f"{layer.name} factorised"]
            both = isinstance(dense, float) and isinstance(factorised, float)
            cells += [_number(dense), _number(factorised), f"{dense / factorised:.1f} x" if both else "-"]  # type: ignore[operator]
        unit = "" if load_target(name).timing else " (instructions)"
        lines.append(f"| {name}{unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def operation_table(costs: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """One row an operation: cycles for one at M1, M2, M4, M8 on each target; latencies of memory levels below."""
    places = dict.fromkeys(place for row in costs.values() for place in row if place.endswith("latency_cycles"))
    lines = [f"| cycles | {' | '.join(costs)} |", "|---" + "|--:" * len(costs) + "|"]
    for name in (*SHOWN, *places):
        cells = [_spread(row.get(name)) for row in costs.values()]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}"


def _spread(values: Sequence[float] | None) -> str:
    words = ["-"] if values is None else [f"{value:.3g}" for value in values]
    return words[0] if len(set(words)) == 1 else " ".join(words)


if __name__ == "__main__":
    raise SystemExit(main())

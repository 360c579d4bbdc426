"""How good the front of a default exploration is, against what twenty times its budget and another search find.

    .venv/bin/python benchmarks/front.py [--networks lenet300 digits patches inpaint] [--beside JSON]
                                         [--selection] [--out docs]

The reference front is the union of the tool at 20 times its default evaluations, and of NSGA-II (pymoo) with as many
evaluations of whole models as that run may spend on layers and models together. Both are judged by one evaluator,
`benchmarks.kit.fronts`. With --beside the reference also holds that of an earlier front.json, so that a version is not
measured by what it finds itself alone. The tables of front.md in --out are written anew, with front.json and
fronts.png beside it. A network that is not named keeps what front.json knows of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from math import inf
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.kit.digits import write_digits
from benchmarks.kit.fronts import SEED, Explored, Genes, Network, Whole, explored, front_of, log_point
from benchmarks.kit.large_models import BERT_BASE, VGG16, layers_of
from benchmarks.kit.page import markdown_table, with_section
from benchmarks.kit.training_data import EXAMPLES
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.plan.options import Limits
from lrf_dse.plan.select import compose
from lrf_dse.plan.single import best_within

METRICS = {"lenet300": "top1", "digits": "top1", "patches": "top1", "inpaint": "mse"}
FACTOR, POPULATION, GOAL = 20, 64, 97.0
SHARE, LOSS_OF_A_LAYER = 0.15, 0.05
"""Limits of the selection: of the dense bytes, and of what a layer may lose on average."""

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ExploreSettings)}
EVALUATIONS, TOP = int(DEFAULTS["evaluations"]), int(DEFAULTS["top"])


def network_of(name: str, work: Path) -> Network:
    """An example, or the digits, which are trained first."""
    folder = EXAMPLES / name
    if name == "digits":
        folder = work / "digits-model"
        if not (folder / "validation.npz").exists():
            print(f"digits: {write_digits(folder):.2f} % on the digits that judge")
    return Network(name, folder, work / name, METRICS[name])


def nsga2(network: Network, evaluations: int) -> tuple[tuple[Whole, ...], float]:
    """Every model that NSGA-II judged, and its processor time."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    genes, start = Genes(network), process_time()

    class Problem(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(genes.upper), n_obj=3, xl=np.zeros(len(genes.upper)), xu=genes.upper, vtype=int)

        def _evaluate(self, x: Any, out: dict[str, Any], *_: object, **__: object) -> None:
            out["F"] = log_point(genes.whole(x))

    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Problem(), algorithm, ("n_eval", evaluations), seed=SEED)
    return genes.judged, process_time() - start


def compared(network: Network, beside: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that the page says of a network, as JSON; the reference fronts of `beside`, such a list, join its own.

    Raises ValueError where a dense model there is not this one: another timing model, or other weights.
    """
    earlier = [row for row in beside if row["network"] == network.name]
    if any(row["dense"] != json.loads(json.dumps(asdict(network.dense))) for row in earlier):
        raise ValueError(f"{network.name}: the dense model of the earlier front is not this one")
    default = explored(network, EVALUATIONS, TOP)
    print(f"{network.name}: default {default.seconds:.0f} CPU s, {len(default.judged)} models", flush=True)
    large = explored(network, FACTOR * EVALUATIONS, TOP)
    print(f"{network.name}: x{FACTOR} {large.seconds:.0f} CPU s, {len(large.judged)} models", flush=True)
    evaluations = FACTOR * (EVALUATIONS // 4 + EVALUATIONS // 6)
    other, seconds = nsga2(network, evaluations)
    print(f"{network.name}: NSGA-II {seconds:.0f} CPU s, {len(other)} models", flush=True)
    known = [Whole(**{**w, "choices": tuple(w["choices"])}) for row in earlier for w in row["reference"]]
    reference = front_of([*large.judged, *other, *known])
    whole = network.volume(reference)

    def share(wholes: Sequence[Whole]) -> float:
        return 100 * network.volume(wholes) / whole

    return {
        "network": network.name,
        "dense": asdict(network.dense),
        "combinations": default.combinations,
        "default": _facts(default) | {"share": share(default.finalists), "judged_share": share(default.judged)},
        "large": _facts(large) | {"share": share(large.finalists), "judged_share": share(large.judged)},
        "nsga2": {"judged": len(other), "share": share(other), "seconds": seconds},
        "reference": [asdict(w) for w in reference],
        "front": [asdict(w) for w in front_of(default.finalists)],
        "judged_front": [asdict(w) for w in front_of(default.judged)],
        "gaps": [{"low": g.low, "high": g.high, "tried": g.tried} for g in default.gaps],
    }


def _facts(found: Explored) -> dict[str, Any]:
    return {
        "judged": len(found.judged),
        "finalists": len(found.finalists),
        "asked": found.asked,
        "stable": found.stable,
        "seconds": found.seconds,
    }


def share_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a network: shares of the reference front's hypervolume, and what they took."""
    lines = []
    for row in rows:
        default, large, other = row["default"], row["large"], row["nsga2"]
        verdict = "met" if default["share"] >= GOAL else "MISSED"
        lines.append(
            (
                row["network"],
                f"{row['combinations']:,}",
                f"{default['judged']} / {default['finalists']}",
                f"{default['share']:.1f} % ({verdict})",
                f"{default['judged_share']:.1f} %",
                f"{large['judged']:,}: {large['judged_share']:.1f} %",
                f"{other['judged']:,}: {other['share']:.1f} %",
                f"{default['seconds']:.0f} / {large['seconds']:.0f} / {other['seconds']:.0f}",
            )
        )
    header = (
        "network",
        "combinations",
        "default: judged / finalists",
        f"finalists' share (goal {GOAL:g} %)",
        "all judged",
        f"tool x {FACTOR}: judged, share",
        "NSGA-II: judged, share",
        "CPU s",
    )
    return markdown_table(header, lines)


def gap_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Neighbours of the judged front more than 1.3 times apart in cycles, and how many models were judged between."""
    lines = [
        (row["network"], f"{g['low']:,.0f}", f"{g['high']:,.0f}", f"{g['high'] / g['low']:.2f}", g["tried"] or "NONE")
        for row in rows
        for g in row["gaps"]
    ]
    header = ("network", "cycles", "next plan's cycles", "ratio", "judged in between, and worse")
    return markdown_table(header, lines or [("none", "", "", "", "")])


def selection_table() -> str:
    """A line a large model: the fastest combination within limits, by HiGHS and by the merge, with processor times."""
    lines = []
    for name, sizes, ranks in (("VGG-16, FC layers", VGG16, 60), ("BERT-base encoder", BERT_BASE, 12)):
        layers = layers_of(sizes, ranks)
        limits = Limits(flash_bytes=SHARE * sum(options[0].flash_bytes for options in layers))
        most = LOSS_OF_A_LAYER * len(layers)
        start = process_time()
        answer = best_within(layers, "latency", within=limits, max_loss=most)
        solved = process_time() - start
        front = [m for m in compose(layers, within=limits) if limits.admits(m) and m.loss <= most]
        merged = process_time() - start - solved
        best = min((member.latency for member in front), default=inf)
        lines.append(
            (
                name,
                len(layers),
                len(layers[0]),
                f"{answer.value:,.0f}",
                f"{100 * answer.gap:.3f} %",
                f"{solved:.1f}",
                f"{best:,.0f} ({100 * (best / answer.value - 1):.1f} % more)",
                f"{merged:.1f}",
            )
        )
    header = ("model", "layers", "options each", "cycles, HiGHS", "gap", "CPU s", "cycles, merge", "CPU s")
    return markdown_table(header, lines)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel a network: the reference front, and that of the default run's finalists, sizes by colour."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawing, panels = plt.subplots(1, len(rows), figsize=(5.4 * len(rows), 4.4), layout="constrained", squeeze=False)
    for axes, row in zip(panels[0], rows, strict=True):
        dense = row["dense"]
        for key, marker, size, label in (
            ("reference", ".", 14, "reference front"),
            ("judged_front", "x", 22, "default: judged"),
            ("front", "o", 60, "default: finalists"),
        ):
            points = row[key]
            shown = axes.scatter(
                [p["cycles"] for p in points],
                [p["drop"] for p in points],
                s=size,
                c=[np.log2(dense["size"] / p["size"]) for p in points],
                marker=marker,
                cmap="viridis",
                vmin=0,
                vmax=6,
                label=label,
                linewidths=0.8,
                edgecolors="black" if marker == "o" else None,
            )
        axes.set(title=row["network"], xscale="log", xlabel="modelled cycles of FC layers", ylabel="drop")
        axes.grid(alpha=0.3)
        drawing.colorbar(shown, ax=axes, label="log2 (dense bytes / bytes)")
    panels[0][0].legend(fontsize="small")
    drawing.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=METRICS, default=[])
    parser.add_argument("--beside", type=Path, help="an earlier front.json, whose references join")
    parser.add_argument("--work", type=Path, default=Path("reports/front"))
    parser.add_argument("--out", type=Path, default=Path("reports/front"))
    parser.add_argument("--selection", action="store_true", help="measure the selection of large models as well")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    beside = json.loads(arguments.beside.read_text(encoding="utf-8")) if arguments.beside else []
    kept = arguments.out / "front.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    for name in arguments.networks:
        network = network_of(name, arguments.work)
        with few_blas_threads(network.layers):
            found = compared(network, beside)
        known = [row for row in known if row["network"] != name] + [json.loads(json.dumps(found))]
        known.sort(key=lambda row: list(METRICS).index(row["network"]))
        kept.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    sections = {"shares": share_table(known), "gaps": gap_table(known)}
    if arguments.selection:
        sections["selection"] = selection_table()
    if known:
        plot(known, arguments.out / "fronts.png")
    print(*sections.values(), sep="\n\n")
    page = arguments.out / "front.md"
    if page.exists():
        text = page.read_text(encoding="utf-8")
        for name, section in sections.items():
            text = with_section(text, name, section)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

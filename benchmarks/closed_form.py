"""The closed form of cost/ against the timing plugin on random candidates: goals, fit, plot and table.

    .venv/bin/python benchmarks/closed_form.py           judge the kept measurements; measure a few again, and new ones
    .venv/bin/python benchmarks/closed_form.py --all     measure all kept ones again (an hour; a stopped run goes on)
    .venv/bin/python benchmarks/closed_form.py --fit     fit the coefficients again and write them
    .venv/bin/python benchmarks/closed_form.py --docs    write the plot and the table of docs/timing-model.md

Goals, on layers that the fit did not see: Spearman >= 0.95, median absolute error <= 10 %. There are two such splits:
the shipped coefficients and the layers held out from them; and every layer predicted by a fit to all others.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrf_dse.bench.closed_form import Sample, draw, layer_name, measure, read_samples, write_samples
from lrf_dse.bench.closed_form_fit import closed_form_text, fitted, measured_steps
from lrf_dse.cost.closed_form import KERNEL_TERMS, cycles_by_builder
from lrf_dse.cost.machine import machine_of
from lrf_dse.target import Target, load_target

ROOT = Path(__file__).resolve().parent.parent
TARGET = "spacemit-k1"
DATA = ROOT / "benchmarks" / "data" / f"closed_form-{TARGET}.csv"
COEFFICIENTS = ROOT / "targets" / "closed_form" / f"{TARGET}.toml"
DOCS, PLOT = ROOT / "docs" / "timing-model.md", ROOT / "docs" / "closed-form.png"
TABLE_BEGIN, TABLE_END = "<!-- benchmarks/closed_form.py --docs -->", "<!-- end -->"

FITTED = ("784x300", "400x120", "768x768", "2048x1000", "256x1024 batch 4")
"""The layers whose samples the coefficients are fitted to; the others are held out."""

DRAWN_LAST = ("512x256", "576x192", "384x1536", "1280x320", "224x640 batch 8")
"""Held-out layers whose samples were drawn when the form and its coefficients were final."""

CROSSED = "TT, each layer by a fit to the others"

SAME = 0.01
"""Figures of one program agree to this: another host program around the kernels moves data by a few lines."""

GOALS = {"spearman": 0.95, "median": 0.10}


@dataclass(frozen=True)
class Judged:
    """Samples with what the closed form says of them; `errors` are predicted over measured, less 1."""

    samples: tuple[Sample, ...]
    predicted: tuple[float, ...]

    @property
    def errors(self) -> np.ndarray:
        return np.array(self.predicted) / np.array([sample.best for sample in self.samples]) - 1

    @property
    def spearman(self) -> float:
        from scipy.stats import spearmanr

        return float(spearmanr(self.predicted, [sample.best for sample in self.samples])[0])

    @property
    def median(self) -> float:
        return float(np.median(np.abs(self.errors)))

    @property
    def meets_goals(self) -> bool:
        return self.spearman >= GOALS["spearman"] and self.median <= GOALS["median"]

    def row(self, name: str) -> tuple[str, ...]:
        """Name, samples, Spearman, median, 90% and worst error, as text."""
        sizes = np.abs(self.errors)
        errors = (self.median, float(np.quantile(sizes, 0.9)), float(sizes.max()))
        return (name, str(len(self.samples)), f"{self.spearman:.3f}", *(f"{100 * error:.1f} %" for error in errors))


def judge(samples: Iterable[Sample], target: Target) -> Judged:
    kept = tuple(samples)
    return Judged(kept, tuple(min(cycles_by_builder(sample.candidate, target).values()) for sample in kept))


def parts(samples: Sequence[Sample], target: Target) -> dict[str, Judged]:
    """By the shipped coefficients: fitted, held out, drawn last, all, then every layer; and by fits to the others."""
    groups = {
        "fitted layers": [s for s in samples if layer_name(s.candidate) in FITTED],
        "held-out layers": [s for s in samples if layer_name(s.candidate) not in FITTED],
        "of these, drawn last": [s for s in samples if layer_name(s.candidate) in DRAWN_LAST],
        "all": list(samples),
    }
    for sample in samples:
        mark = "" if layer_name(sample.candidate) in FITTED else ", held out"
        groups.setdefault(layer_name(sample.candidate) + mark, []).append(sample)
    crossed = {CROSSED: judge_crossed([s for s in samples if s.is_tt], target)}
    return crossed | {name: judge(group, target) for name, group in groups.items()}


def judge_crossed(samples: Sequence[Sample], target: Target) -> Judged:
    """Every layer predicted by coefficients that are fitted to the samples of all others."""
    by_layer: dict[str, list[Sample]] = {}
    for sample in samples:
        by_layer.setdefault(layer_name(sample.candidate), []).append(sample)
    judged = []
    for name, group in by_layer.items():
        others = [sample for other, some in by_layer.items() if other != name for sample in some]
        judged.append(judge(group, refitted(target, others)))
    return Judged(
        tuple(sample for part in judged for sample in part.samples),
        tuple(cycles for part in judged for cycles in part.predicted),
    )


def refitted(target: Target, samples: Sequence[Sample]) -> Target:
    """`target` with coefficients that are fitted to `samples`."""
    machine, form = machine_of(target), target.closed_form
    assert machine is not None and form is not None
    fits = {
        builder: fit.model_copy(update={"coefficients": fitted(samples, machine, builder)})
        for builder, fit in form.fits.items()
    }
    return target.model_copy(update={"closed_form": form.model_copy(update={"fits": fits})})


def why(sample: Sample, target: Target) -> str:
    """The terms that make up the prediction of the program that is kept."""
    machine, form = machine_of(target), target.closed_form
    assert machine is not None and form is not None
    builder = min(sample.cycles, key=sample.cycles.__getitem__)
    amounts = KERNEL_TERMS[builder](sample.candidate, machine)
    cycles = {name: form.fits[builder].coefficients[name] * amount for name, amount in amounts.items()}
    largest = sorted(cycles, key=cycles.__getitem__, reverse=True)[:3]
    return f"{builder}: " + ", ".join(f"{name} {cycles[name] / sum(cycles.values()):.0%}" for name in largest)


def print_report(judged: dict[str, Judged], target: Target, *, worst: int = 10) -> None:
    print(f"{'':<38}{'samples':>8}{'Spearman':>10}{'median':>9}{'90%':>9}{'worst':>9}")
    for name, part in judged.items():
        label, *cells = part.row(name)
        print(f"{label:<38}{cells[0]:>8}{cells[1]:>10}" + "".join(f"{cell:>9}" for cell in cells[2:]))
    everything = judged["all"]
    print("furthest off, and what its prediction is made of:")
    for i in np.argsort(-np.abs(everything.errors))[:worst]:
        sample = everything.samples[i]
        name = f"{layer_name(sample.candidate)} {sample.candidate.label}, {sample.candidate.order}"
        print(f"  {100 * everything.errors[i]:+5.0f} %  {sample.best:>9.0f}  {name}  ({why(sample, target)})")


def measure_again(samples: Sequence[Sample], target: Target, count: int, source: random.Random) -> bool:
    """Whether `count` samples, measured now, have the cycles that are kept."""
    same = True
    for sample in source.sample(samples, min(count, len(samples))):
        with tempfile.TemporaryDirectory() as scratch:
            now = measure(sample.candidate, target, Path(scratch))
        equal = now.cycles.keys() == sample.cycles.keys() and all(
            abs(cycles / sample.cycles[name] - 1) <= SAME for name, cycles in now.cycles.items()
        )
        same &= equal
        said = "as kept" if equal else f"KEPT {dict(sample.cycles)}: the tools have changed, measure with --all"
        print(f"  {layer_name(sample.candidate)} {sample.candidate.label}: {dict(now.cycles)}, {said}")
    return same


def measure_new(samples: Sequence[Sample], target: Target, count: int, source: random.Random) -> None:
    """Candidates that neither the fit nor the kept samples have seen, on layers of the kept ones."""
    layers = sorted({s.candidate.layer for s in samples}, key=lambda layer: (layer.in_features, layer.out_features))
    known, found = {sample.candidate for sample in samples}, 0
    while found < count:
        candidate = draw(source.choice(layers), source, d=source.choice((1, 2, 3, 4)))
        if candidate is None or candidate in known:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            sample = measure(candidate, target, Path(scratch))
        error = judge([sample], target).errors[0]
        print(f"  {layer_name(candidate)} {candidate.label}: {sample.best:.0f} cycles, predicted {100 * error:+.0f} %")
        found += 1


def measure_all(samples: Sequence[Sample], target: Target) -> list[Sample]:
    """Every sample measured now. What is done is kept beside the data, so that a stopped run goes on."""
    done_path = DATA.with_suffix(".part.csv")
    done = read_samples(done_path) if done_path.is_file() else []
    for sample in samples[len(done) :]:
        with tempfile.TemporaryDirectory() as scratch:
            done.append(measure(sample.candidate, target, Path(scratch)))
        write_samples(done_path, done)
        print(f"  {len(done)} of {len(samples)}", flush=True)
    done_path.replace(DATA)
    return done


def fit(samples: Sequence[Sample], target: Target) -> None:
    """Measure what steps cost, fit the rest to the FITTED layers, and write the target's file."""
    with tempfile.TemporaryDirectory() as scratch:
        machine = measured_steps(target, Path(scratch))
    used = [sample for sample in samples if layer_name(sample.candidate) in FITTED]
    fits = {builder: fitted(used, machine, builder) for builder in KERNEL_TERMS}
    source = f"fitted to {len(used)} random candidates of {', '.join(FITTED)} under the timing plugin"
    command = "benchmarks/closed_form.py --fit"
    text = closed_form_text(machine, fits, command=command, source=f"{source}; {command}")
    COEFFICIENTS.write_text(text, encoding="utf-8")


def write_docs(judged: dict[str, Judged]) -> None:
    """The plot, and the table between its marks in the page."""
    plot(judged)
    header = ("", "candidates", "Spearman", "median error", "90% within", "worst")
    rows = [header, ("---",) * len(header), *(part.row(name) for name, part in judged.items())]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    before, rest = DOCS.read_text(encoding="utf-8").split(TABLE_BEGIN)
    after = rest.split(TABLE_END, 1)[1]
    DOCS.write_text(f"{before}{TABLE_BEGIN}\n{table}\n{TABLE_END}{after}", encoding="utf-8")


def plot(judged: dict[str, Judged]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    for name, marker in (("fitted layers", "o"), ("held-out layers", "D")):
        part = judged[name]
        axes.plot([s.best for s in part.samples], part.predicted, marker, markersize=4, alpha=0.7, label=name)
    ends = np.array([min(judged["all"].predicted), max(judged["all"].predicted)])
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color="0.85", zorder=0, label="within 10 %")
    axes.set(xscale="log", yscale="log", xlabel="modelled cycles (timing plugin)", ylabel="predicted (closed form)")
    axes.set_title(f"Closed form of {TARGET}: {len(judged['all'].samples)} random candidates")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="measure every kept candidate again")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients again")
    parser.add_argument("--docs", action="store_true", help="write plot and table")
    parser.add_argument("--sample", type=int, default=3, help="how many to measure again, and how many new ones")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    target, samples = load_target(TARGET), read_samples(DATA)
    if arguments.all:
        samples = measure_all(samples, target)
    if arguments.fit:
        fit(samples, target)
        target = load_target(TARGET)
    judged = parts(samples, target)
    print_report(judged, target)
    if arguments.docs:
        write_docs(judged)
    source = random.Random(arguments.seed)
    print("measured again:")
    same = measure_again(samples, target, arguments.sample, source)
    print("measured for the first time:")
    measure_new(samples, target, arguments.sample, source)
    met = judged["held-out layers"].meets_goals and judged[CROSSED].meets_goals
    print(f"goals on layers not fitted to (Spearman 0.95, median error 10 %): {'met' if met else 'MISSED'}")
    sys.exit(0 if met and same else 1)


if __name__ == "__main__":
    main()

"""Accuracy against bytes: what few bits, few ranks, and both together keep.

    python -m benchmarks.few_bits [--examples lenet300 ...] [--epochs 5] [--work DIR] [--out docs]

At every ratio stands what `explore --objective accuracy --max-bytes` chooses: the pipeline's own stages run, but
programs are not built (`benchmarks.kit.predicted`), and bytes are those of the fully connected layers with scales and
biases. It chooses once among all storages and once in fp32 alone. Beside them stand the models that are only quantised.
Fits see calibration.npz; the search sees the validation part of validation.npz. Drops are given on the test part, which
chose nothing, and on all 2,000 samples, of which the search saw 600. With --epochs the plans within the bytes of some
ratios are trained on the 8,000 samples of the example's own training, of which none is held out, and chosen again. The
table of few-bits.md in --out is written anew, with few-bits.json and few-bits.png beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.kit.page import markdown_table, with_section
from benchmarks.kit.predicted import chosen_of, plans_of, predicted, spaces_of
from benchmarks.kit.training_data import EXAMPLES, training_data
from lrf_dse.cost.counts import dense_parameters, stored_bytes
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import JUDGING_SHARES, load_data, split
from lrf_dse.models.metrics import get_metric
from lrf_dse.models.overlap import refuse_shared
from lrf_dse.models.reader import read_model
from lrf_dse.models.stored import find_weights
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.finetuning import finetune_plans
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.run import weights_path
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.storages import STORAGES
from lrf_dse.pipeline.weights import Weights
from lrf_dse.plan.budgets import Budgets
from lrf_dse.schema import Candidate, Plan, dense_candidate
from lrf_dse.store import Store

METRICS = {"lenet300": "top1", "patches": "top1", "inpaint": "mse"}
UNITS = {"lenet300": "points", "patches": "points", "inpaint": "% of the dense error"}
RATIOS = {"lenet300": (4, 8, 16, 32, 48, 64), "patches": (4, 8, 12, 16), "inpaint": (4, 8, 12, 20)}
GOALS = {
    ("lenet300", 32): 0.3,
    ("lenet300", 48): 0.8,
    ("patches", 8): 0.5,
    ("patches", 12): 1.3,
    ("inpaint", 8): 4.5,
    ("inpaint", 20): 27.0,
}
"""The largest mean drop on all samples that is aimed at, by example and ratio of bytes."""

TRAINED = {"lenet300": (48, 64), "patches": (12, 16), "inpaint": (20,)}
"""The ratios at which plans are trained."""

TRAINED_GOALS = {("lenet300", 64): 1.0, ("patches", 16): 1.0}
"""The same after training."""

SEED, TARGET, FLOAT_BYTES = 0, "spacemit-k1", 4
EVERY, PLAIN, QUANTISED = "every storage", "fp32", "only quantised"


Drop = tuple[float, float, float]
"""A mean drop and its 95 % interval."""


@dataclass(frozen=True)
class Row:
    """A model: its bytes in FC layers, and its drops with 95 % intervals, in the unit of the example.

    `trained` are its drops after training on all samples and on the test part, and `epoch` which one is kept.
    """

    example: str
    kind: str
    asked: int | None
    ratio: float
    size: int
    validation: float
    test: Drop
    everything: Drop
    choices: tuple[str, ...]
    trained: tuple[Drop, Drop] | None = None
    epoch: int | None = None


class Example:
    """One example, its records in `work`."""

    def __init__(self, name: str, work: Path) -> None:
        model, metric = read_model(EXAMPLES / name / "model.onnx"), get_metric(METRICS[name])
        calibration = load_data(EXAMPLES / name / "calibration.npz", model, metric)
        held_out = load_data(EXAMPLES / name / "validation.npz", model, metric)
        (work / name).mkdir(parents=True, exist_ok=True)
        parts = split(held_out, SEED, JUDGING_SHARES) | {"all": replace(held_out, part="everything held out")}
        self.name, self.layers = name, model.fc_layers
        compressor, store = Compressor(model, seed=SEED, calibration=calibration), Store(work / name)
        self.errors = FitErrors(compressor, store)
        self.accuracies = Accuracies(Evaluation(Weights(compressor, work / name), parts), store)
        self.lessons = training_data(name, held_out)
        refuse_shared(self.lessons, held_out, option="training data")
        self.dense_bytes = FLOAT_BYTES * sum(dense_parameters(layer) for layer in model.fc_layers)

    def row(self, kind: str, asked: int | None, choices: Sequence[Candidate]) -> Row:
        """The model with these choices, in the ways that win."""
        accuracies, size = self.accuracies, sum(map(stored_bytes, choices))
        won = accuracies.corrections(choices)
        known = {part: accuracies.accuracy(choices, part, won) for part in ("validation", "test", "all")}
        test, everything = ((known[p].drop, known[p].drop_low, known[p].drop_high) for p in ("test", "all"))
        return Row(
            self.name,
            kind,
            asked,
            self.dense_bytes / size,
            size,
            known["validation"].drop,
            test,
            everything,
            tuple(choice.label for choice in choices),
        )

    def rows(self, asked_for: argparse.Namespace) -> Iterator[Row]:
        """The references, then what is chosen at every ratio, and where plans are trained also what is chosen then."""
        for storage in STORAGES[1:]:
            yield self.row(
                QUANTISED, None, [replace(dense_candidate(layer, "rvv"), storage=storage) for layer in self.layers]
            )
        for kind, bits in ((EVERY, None), (PLAIN, ("fp32",))):
            if kind not in asked_for.kinds:
                continue
            epochs = asked_for.epochs if kind == EVERY else 0
            settings = replace(self._settings(bits, asked_for.evaluations, asked_for.top), finetune=epochs)
            spaces = spaces_of(predicted(settings, self.errors, self.accuracies))
            for asked in asked_for.ratios or RATIOS[self.name]:
                limited = replace(settings, budgets=Budgets(max_flash_bytes=self.dense_bytes // asked))
                x = predicted(limited, self.errors, self.accuracies)
                plans = plans_of(x, spaces)
                plan, _ = chosen_of(x, plans)
                if plan is None or plan.is_dense:
                    continue
                if not (epochs and asked in TRAINED[self.name]):
                    yield self.row(kind, asked, plan.choices)
                    continue
                tuned = self.trained_row(x, asked, plans)
                if tuned.choices != tuple(choice.label for choice in plan.choices):
                    yield self.row(kind, asked, plan.choices)
                yield tuned

    def trained_row(self, x: Exploration, asked: int, plans: Sequence[Plan]) -> Row:
        """The plan that is chosen when those within the bytes have been trained."""
        within = [plan for plan in plans if plan.is_reference or x.settings.budgets.admits(plan)]
        known = replace(x, lessons=self.lessons)
        plan, _ = chosen_of(known, finetune_plans(known, within).plans)
        assert plan is not None and plan.finetuning is not None, "a plan was chosen before it was trained"
        weights = find_weights(weights_path(self.accuracies.weights.folder, plan.weights), plan.weights)
        assert weights is not None, "the weights of a plan are kept"
        proto = replaced(self.accuracies.compressor.model, weights.replacements, weights.values)
        everything, test = (self.accuracies.judged(proto, part) for part in ("all", "test"))
        drops = (
            (everything.drop, everything.drop_low, everything.drop_high),
            (test.drop, test.drop_low, test.drop_high),
        )
        row = self.row(EVERY, asked, plan.choices)
        return replace(row, trained=drops, epoch=plan.finetuning.best_epoch)

    def _settings(self, bits: Any, evaluations: int, top: int) -> ExploreSettings:
        folder = EXAMPLES / self.name
        return ExploreSettings(
            folder / "model.onnx",
            TARGET,
            self.accuracies.weights.folder,
            data=folder / "validation.npz",
            calibration=folder / "calibration.npz",
            seed=SEED,
            kernels=("rvv",),
            tune=1,
            objective="accuracy",
            bits=bits,
            evaluations=evaluations,
            top=top,
        )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every model, by example and bytes, with its goal where it has one."""

    def interval(found: Sequence[float]) -> str:
        return f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"

    def verdict(goal: float | None, found: Sequence[float], before: str = "") -> str:
        return "" if goal is None else f"{before}{goal:g}: {'met' if found[0] <= goal else 'MISSED'}"

    every_row = [row for row in rows if row["kind"] == EVERY]
    untrained = {(row["example"], row["asked"]) for row in every_row if not row.get("trained")}
    lines = []
    for row in sorted(rows, key=lambda row: (list(METRICS).index(row["example"]), -row["size"])):
        trained = row.get("trained")
        asked = row["example"], row["asked"]
        # What only training made the choice has no goal before it.
        aims = row["kind"] == EVERY and not (trained and asked in untrained)
        goal = verdict(GOALS.get(asked) if aims else None, row["everything"])
        after = "" if trained is None else " / ".join(map(interval, trained))
        after += verdict(TRAINED_GOALS.get(asked), trained[0], "; goal ") if trained else ""
        size, ratio = f"{row['size']:,}", f"x{row['ratio']:.1f}"
        drops = (interval(row["everything"]), interval(row["test"]))
        choices = ", ".join(row["choices"]) if len(row["choices"]) <= 4 else f"{len(row['choices'])} layers"
        lines.append((row["example"], row["kind"], size, ratio, *drops, goal, after, choices))
    columns = ("drop, all samples", "drop, test part", "goal", "trained: all / test part")
    header = ("example", "weights", "bytes", "ratio", *columns, "layers")
    return markdown_table(header, list(dict.fromkeys(lines)))


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel an example: the drop on all samples against bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    names = list(dict.fromkeys(row["example"] for row in rows))
    drawing, panels = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.2), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for kind, style in ((EVERY, "o-"), (PLAIN, "s--"), (QUANTISED, "k^:")):
            mine = sorted(
                (r["size"] / 1e3, r["everything"][0]) for r in rows if (r["example"], r["kind"]) == (name, kind)
            )
            if mine:
                axes.plot(*zip(*mine, strict=True), style, label=kind, markersize=5)
        trained = [(r["size"] / 1e3, r["trained"][0][0]) for r in rows if r["example"] == name and r.get("trained")]
        if trained:
            axes.plot(*zip(*trained, strict=True), "C0*", label="every storage, trained", markersize=9)
        axes.set(title=name, xscale="log", xlabel="kB of FC layers", ylabel=f"drop, {UNITS[name]}")
        axes.set_yscale("symlog", linthresh=1.0)
        # Plain numbers: matplotlib itself labels such axes with powers of ten, which run into each other.
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    drawing.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--ratios", nargs="+", type=int, help="instead of those of the example")
    parser.add_argument("--kinds", nargs="+", default=[EVERY, PLAIN], choices=[EVERY, PLAIN])
    parser.add_argument("--top", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=0, help="train the plans of some ratios; 0 trains none")
    parser.add_argument("--work", type=Path, default=Path("reports/few-bits"))
    parser.add_argument("--out", type=Path, default=Path("reports/few-bits"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "few-bits.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    rows: list[dict[str, Any]] = [row for row in known if row["example"] not in arguments.examples]
    for name in arguments.examples:
        example = Example(name, arguments.work)
        with few_blas_threads(example.layers):
            for row in example.rows(arguments):
                rows.append(json.loads(json.dumps(vars(row))))
                print(row, flush=True)
        kept.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        plot(rows, arguments.out / "few-bits.png")
    print(table(rows))
    page = arguments.out / "few-bits.md"
    if page.exists():
        page.write_text(with_section(page.read_text(encoding="utf-8"), "bytes", table(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()

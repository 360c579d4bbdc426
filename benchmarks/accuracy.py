"""Accuracy against ratio for every decomposer, fine-tuning against its control: accuracy.json, .png and .md.

    .venv/bin/python benchmarks/accuracy.py [--examples lenet300 ...] [--ratios 2 4 ...] [--work DIR] [--out DIR]

Fits see calibration.npz of an example; the validation part of validation.npz selects, its test part only reports. What
is "selected" is what the pipeline chooses. Whatever was measured is kept in --work and not measured again. `make
accuracy` writes them to docs/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.accuracy import FAMILIES, MIXED, REFERENCES, best_within, layer_options
from benchmarks.kit.accuracy_page import page, plot
from benchmarks.kit.predicted import FLOAT_BYTES, chosen_of, plans_of, predicted, spaces_of
from benchmarks.kit.training_data import EXAMPLES, training_data
from lrf_dse.cost.counts import dense_parameters
from lrf_dse.finetune.train import Recipe, finetune
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import JUDGING_SHARES, Dataset, load_data, split
from lrf_dse.models.evaluate import first_output
from lrf_dse.models.metrics import get_metric
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.corrections import AS_FITTED, Corrections
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.keys import finetuning_key
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.weights import Weights
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.options import Combination, LayerOption
from lrf_dse.schema import Candidate, dense_candidate
from lrf_dse.store import Store

METRICS = {"lenet300": "top1", "patches": "top1", "inpaint": "mse"}
RATIOS = {
    "lenet300": (2, 4, 8, 10, 16, 20, 32),
    "patches": (2, 4, 8, 10),
    "inpaint": (2, 4, 8, 10, 20),
}
"""As far as a compressed model is of any use."""

FINETUNED = {"lenet300": (8, 20, 32), "patches": (4, 8), "inpaint": (8, 20)}
ALONE = 10
"""The ratio of the first layer of LeNet-300-100 alone."""

SEED = 0
TARGET = "spacemit-k1"


@dataclass(frozen=True)
class Row:
    """One decomposer at one ratio. Drops in the metric's unit; `predicted` adds up its layers' drops, each alone.

    `error` is what the allocation made least: the error of outputs on calibration rows held out.
    """

    example: str
    family: str
    asked: int
    ratio: float
    sequential: bool
    reordered: bool
    error: float
    predicted: float
    validation: float
    test: float
    test_low: float
    test_high: float
    choices: tuple[str, ...]


WEIGHING = next(family for family in FAMILIES if family.name == "whitened SVD")
WEIGHING_ERROR = 0.1
"""A layer's weight is taken from its option of this family whose squared error is next to this."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What one example is judged with."""

    name: str
    errors: FitErrors
    accuracies: Accuracies
    train: Dataset

    def output_error(self, candidate: Candidate) -> float:
        """The error of a layer's outputs on rows that the fit has not seen."""
        found = self.errors.output_error(candidate)
        assert found is not None, "there is calibration data"
        return found.value

    def options(self, name: str) -> list[tuple[LayerOption, ...]]:
        """Every layer's options of the family `name`, or of all of them."""
        error, weights = self.output_error, self.weights
        layers = self.errors.compressor.model.fc_layers
        families = [family for family in FAMILIES if name in (family.name, MIXED)]
        return [
            tuple(o for family in families for o in layer_options(layer, family, error, weight=weights[layer.name]))
            for layer in layers
        ]

    @cached_property
    def weights(self) -> dict[str, float]:
        """What a layer's squared relative error becomes in the model's output, over the calibration data, by layer."""
        compressor = self.errors.compressor
        assert compressor.calibration is not None
        dense = first_output(compressor.apply([]), compressor.calibration)
        found = {}
        for layer in compressor.model.fc_layers:
            options = layer_options(layer, WEIGHING, self.output_error)[1:]
            option = min(options, key=lambda o: abs(o.loss - WEIGHING_ERROR))
            output = first_output(compressor.apply([option.candidate]), compressor.calibration)
            found[layer.name] = float(np.square(output - dense).sum() / np.square(dense).sum()) / option.loss
        return found

    @property
    def dense(self) -> tuple[Candidate, ...]:
        """Every layer kept."""
        return tuple(dense_candidate(layer) for layer in self.errors.compressor.model.fc_layers)


def bench_of(name: str, work: Path) -> Bench:
    """The example `name`; its records lie in `work`."""
    model, metric = read_model(EXAMPLES / name / "model.onnx"), get_metric(METRICS[name])
    calibration = load_data(EXAMPLES / name / "calibration.npz", model, metric)
    held_out = load_data(EXAMPLES / name / "validation.npz", model, metric)
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    compressor = Compressor(model, seed=SEED, calibration=calibration)
    evaluation, store = Evaluation(Weights(compressor, folder), split(held_out, SEED, JUDGING_SHARES)), Store(folder)
    return Bench(name, FitErrors(compressor, store), Accuracies(evaluation, store), training_data(name, held_out))


def dense_facts(bench: Bench) -> dict[str, Any]:
    """What the dense model reaches on the test half; a regression's inputs, too, if they were the outputs."""
    found, data = bench.accuracies.judged(None, "test"), bench.accuracies.parts["test"]
    facts: dict[str, Any] = {
        "example": bench.name,
        "metric": found.metric,
        "value": found.value,
        "samples": found.samples,
    }
    if found.metric == "mse":
        (inputs,) = data.x.values()
        assert data.y is not None, "the examples have targets"
        facts["untouched"] = float(np.mean(np.square(inputs.astype(np.float64) - data.y)))
    return facts


def rows_of(bench: Bench, ratios: Sequence[int]) -> Iterator[Row]:
    """Every family at every ratio that it can reach."""
    layers = bench.errors.compressor.model.fc_layers
    dense = sum(dense_parameters(layer) for layer in layers)
    for name in (*(family.name for family in FAMILIES), MIXED):
        for asked in ratios:
            chosen = best_within(bench.options(name), FLOAT_BYTES * dense // asked)
            if chosen is not None:
                yield _row(bench, name, asked, chosen)


def _row(bench: Bench, family: str, asked: int, chosen: Combination) -> Row:
    accuracies, choices = bench.accuracies, chosen.choices
    won = accuracies.corrections(choices)
    validation, test = (accuracies.accuracy(choices, part, won) for part in ("validation", "test"))
    alone = [accuracies.drop_points([choice]) or 0.0 for choice in choices if not choice.is_dense]
    return Row(
        example=bench.name,
        family=family,
        asked=asked,
        ratio=FLOAT_BYTES * sum(dense_parameters(c.layer) for c in choices) / chosen.flash_bytes,
        sequential=won.sequential,
        reordered=won.reordered,
        error=chosen.loss,
        predicted=sum(alone),
        validation=validation.drop,
        test=test.drop,
        test_low=test.drop_low,
        test_high=test.drop_high,
        choices=tuple(choice.label for choice in choices),
    )


def alone(bench: Bench, asked: int) -> Iterator[Row]:
    """The first layer alone compressed by a ratio of its own, the others dense: every family's best by its errors."""
    first, *others = bench.errors.compressor.model.fc_layers
    kept = [layer_options(layer, FAMILIES[0], bench.output_error)[0] for layer in others]
    for family in FAMILIES:
        options = layer_options(first, family, bench.output_error)
        chosen = best_within([options], FLOAT_BYTES * dense_parameters(first) // asked)
        if chosen is not None:
            yield _row(bench, family.name, asked, Combination((*chosen.options, *kept)))


def selected(bench: Bench, ratios: Sequence[int]) -> Iterator[dict[str, Any]]:
    """What `explore --objective accuracy --max-bytes` chooses at every ratio, of the bytes of FC layers."""
    layers = bench.errors.compressor.model.fc_layers
    dense = FLOAT_BYTES * sum(dense_parameters(layer) for layer in layers)
    folder = EXAMPLES / bench.name
    settings = ExploreSettings(
        folder / "model.onnx",
        TARGET,
        bench.accuracies.weights.folder,
        data=folder / "validation.npz",
        calibration=folder / "calibration.npz",
        seed=SEED,
        kernels=("rvv",),
        tune=1,
        objective="accuracy",
    )
    spaces = spaces_of(predicted(settings, bench.errors, bench.accuracies))
    for asked in ratios:
        limited = replace(settings, budgets=Budgets(max_flash_bytes=dense // asked))
        x = predicted(limited, bench.errors, bench.accuracies)
        plan, _ = chosen_of(x, plans_of(x, spaces))
        if plan is None:
            continue
        low, high = plan.test_drop_interval or (0.0, 0.0)
        yield {
            "example": bench.name,
            "asked": asked,
            "ratio": dense / plan.flash_bytes,
            "validation": plan.drop_points,
            "test": plan.test_drop_points,
            "test_low": low,
            "test_high": high,
            "choices": [choice.label for choice in plan.choices],
        }


def finetuned(bench: Bench, rows: Sequence[Row], asked: int, epochs: int) -> dict[str, Any]:
    """The three best families at a ratio, fine-tuned; the best one by validation."""
    layers = bench.errors.compressor.model.fc_layers
    dense = sum(dense_parameters(layer) for layer in layers)
    at_ratio = sorted((row for row in rows if row.asked == asked), key=lambda row: row.validation)
    results = []
    for row in at_ratio[:3]:
        chosen = best_within(bench.options(row.family), FLOAT_BYTES * dense // asked)
        assert chosen is not None
        choices = chosen.choices
        after = trained(bench, choices, epochs, Corrections(row.sequential, row.reordered))
        results.append({"family": row.family, "ratio": row.ratio, "before": row.test, **after})
    best = min(results, key=lambda result: result["validation"])
    return {"example": bench.name, "asked": asked, "epochs": epochs, **best}


def control(bench: Bench, epochs: int) -> dict[str, Any]:
    """The dense model fine-tuned in the same way."""
    after = trained(bench, bench.dense, epochs, AS_FITTED)
    return {"example": bench.name, "epochs": epochs, **after}


def trained(bench: Bench, choices: Sequence[Candidate], epochs: int, corrections: Corrections) -> dict[str, Any]:
    """Drops after training the model with `choices`, from the records where they know."""
    accuracies, weights, recipe = bench.accuracies, bench.accuracies.weights, Recipe(epochs=epochs, seed=SEED)
    model, store = accuracies.compressor.model, accuracies.store
    key = finetuning_key(weights.key(choices, corrections), bench.train, recipe, accuracies.parts, batch=model.batch)
    known: dict[str, Any] | None = store.get(key)
    if known is not None:
        return known
    tuned = finetune(
        replaced(model, weights.replacements(choices, corrections)),
        bench.train,
        recipe,
        teacher=accuracies.compressor.apply([]),
        kind="values" if METRICS[bench.name] == "mse" else "classes",
        batch=model.batch,
        score=lambda proto: accuracies.judged(proto, "validation").drop,
    )
    test = accuracies.judged(tuned.model, "test")
    facts: dict[str, Any] = {
        "validation": tuned.best.score,
        "test": test.drop,
        "test_low": test.drop_low,
        "test_high": test.drop_high,
    }
    facts |= {"best_epoch": tuned.best.number, "ended": tuned.ended}
    store.put(key, "finetuning", facts, context={"choices": {c.layer.name: c.label for c in choices}})
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--ratios", nargs="+", type=int)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("reports/accuracy"))
    parser.add_argument("--out", type=Path, default=Path("reports/accuracy"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"dense": [], "rows": [], "selected": [], "alone": [], "finetuned": [], "control": []}
    for name in arguments.examples:
        bench = bench_of(name, arguments.work)
        with few_blas_threads(bench.errors.compressor.model.fc_layers):
            measure(bench, figures, arguments.ratios or RATIOS[name], arguments.epochs)
        write(figures, arguments.out)
    goals(figures)


def measure(bench: Bench, figures: dict[str, Any], ratios: Sequence[int], epochs: int) -> None:
    """Everything about one example, put to `figures` and told as it comes."""
    name, rows = bench.name, []
    figures["dense"].append(dense_facts(bench))
    for row in rows_of(bench, ratios):
        rows.append(row)
        print(f"{name:<9} x{row.asked:<3} {row.family:<22} drop {row.validation:8.2f} {row.test:8.2f}", flush=True)
    figures["rows"] += [vars(row) for row in rows]
    reached = sorted({row.asked for row in rows})
    figures["selected"] += selected(bench, reached)
    if name == "lenet300":
        figures["alone"] = [vars(row) for row in alone(bench, ALONE)]
    figures["control"].append(control(bench, epochs))
    for asked in FINETUNED[name]:
        if asked in reached:
            figures["finetuned"].append(finetuned(bench, rows, asked, epochs))
            print(figures["finetuned"][-1], flush=True)


def write(figures: dict[str, Any], out: Path) -> None:
    """The figures, the plot and the page; the latter also shows what benchmarks/decomposers.py left in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    fits = out / "decomposers.json"
    decomposers = json.loads(fits.read_text(encoding="utf-8")) if fits.exists() else []
    (out / "accuracy.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    plot(figures, out / "accuracy.png")
    (out / "accuracy.md").write_text(page(figures, decomposers), encoding="utf-8")


def goals(figures: dict[str, Any]) -> None:
    """What selection promises of LeNet-300-100: at every ratio no worse than the best of the references."""
    lenet = [row for row in figures["rows"] if row["example"] == "lenet300"]
    for row in figures["selected"]:
        if row["example"] == "lenet300":
            rivals = [r["test"] for r in lenet if r["asked"] == row["asked"] and r["family"] in REFERENCES]
            verdict = "met" if row["test"] <= min(rivals) else "MISSED"
            print(f"x{row['asked']}: selected loses {row['test']:.2f}, references {min(rivals):.2f}: {verdict}")
    for result in figures["finetuned"]:
        print(f"{result['example']} x{result['asked']}, fine-tuned: loses {result['test']:.2f} ({result['family']})")


if __name__ == "__main__":
    main()

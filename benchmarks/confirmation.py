"""How often a drop budget is kept on samples that chose nothing, over many splits of the examples' data.

    .venv/bin/python benchmarks/confirmation.py [--examples lenet300 ...] [--seeds 20] [--first-seed 20]

Every seed is another split of validation.npz into parts; the stages of an exploration then run as they are (narrow,
judge, search, freeze, confirm, choose), but for two things. Programs are not built (`benchmarks.kit.predicted`). And a
model is evaluated once on all samples, of which a seed takes its rows: twenty seeds cost little more than one. Fits
do not depend on the seed. Beside it stands what the same search would have chosen without confirmation: the fastest
plan whose drop on the search's samples is within the budget. With `--out docs` the table of docs/budgets.md is written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kit.page import with_section
from benchmarks.kit.predicted import Spaces, chosen_of, plans_of, predicted, spaces_of
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import JUDGING_SHARES, load_data, part_of, split_rows
from lrf_dse.models.metrics import Scores, get_metric
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.confirming import confirm_plans
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.corrections import Corrections
from lrf_dse.pipeline.evaluation import Evaluation, Reference
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.run import WEIGHTS_FOLDER
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.weights import Weights, corrections_of
from lrf_dse.plan.budgets import Budgets
from lrf_dse.schema import Candidate, Plan
from lrf_dse.store import Store

EXAMPLES = Path(__file__).parent.parent / "examples"
BUDGETS = {"lenet300": ("top1", 1.0), "patches": ("top1", 1.0), "inpaint": ("mse", 10.0)}
"""Metric and drop budget of each example: points, or percent of the dense model's error."""

SEARCH_ALONE, CONFIRMED = "search alone", "confirmed"
TARGET = "spacemit-k1"


class Whole:
    """The shares of the metric of every model that was asked for, on all samples; kept on disk."""

    def __init__(self, evaluation: Evaluation, store: Store, file: Path) -> None:
        self.evaluation, self.store = evaluation, store
        self._file = file
        self._known: dict[str, Scores] = {}
        self.evaluated = 0
        if file.exists():
            with np.load(file) as kept:
                self._known = {name: Scores(*kept[name]) for name in kept.files}

    def scores(self, choices: Sequence[Candidate], corrections: Corrections) -> Scores:
        """Of the model with `choices`."""
        key = self.evaluation.weights.key(choices, corrections)
        if key not in self._known:
            self._known[key] = self.evaluation.scores(choices, "all", corrections)
            self.evaluated += 1
            for path in (self.evaluation.weights.folder / WEIGHTS_FOLDER).glob("*.npz"):
                path.unlink()
        return self._known[key]

    def keep(self) -> None:
        """Write what is known."""
        np.savez(
            self._file, allow_pickle=False, **{n: np.stack([s.gained, s.possible]) for n, s in self._known.items()}
        )


@dataclass(frozen=True, eq=False)
class SplitEvaluation(Evaluation):
    """An evaluation whose parts are rows of the whole. A plan counts as its choices do: its graph is not made."""

    whole: Whole = field(kw_only=True)
    rows: dict[str, NDArray[np.intp]] = field(kw_only=True)

    def scores(self, choices: Sequence[Candidate], part: str, corrections: Corrections) -> Scores:
        return _rows_of(self.whole.scores(choices, corrections), self.rows[part])

    def scores_of_plan(self, plan: Plan, part: str) -> Scores:
        return self.scores(plan.choices, part, corrections_of(plan))

    def dense(self, part: str) -> Reference:
        known, rows = self.whole.evaluation.dense("all"), self.rows[part]
        return Reference(known.output[rows], _rows_of(known.scores, rows))


def _rows_of(scores: Scores, rows: NDArray[np.intp]) -> Scores:
    return Scores(scores.gained[rows], scores.possible[rows])


@dataclass(frozen=True)
class Result:
    """What one seed chose: its speed-up and size ratio over dense, and its drop where it was searched and tested."""

    example: str
    protocol: str
    seed: int
    dense: bool
    speedup: float
    smaller: float
    search: float
    confirmed: tuple[float, float] | None
    test: tuple[float, float, float]
    reason: str


def whole_of(name: str, work: Path) -> Whole:
    """The example's model with everything that judges it, as one part."""
    model, metric = read_model(EXAMPLES / name / "model.onnx"), get_metric(BUDGETS[name][0])
    calibration = load_data(EXAMPLES / name / "calibration.npz", model, metric)
    data = load_data(EXAMPLES / name / "validation.npz", model, metric)
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = Weights(Compressor(model, seed=0, calibration=calibration), folder)
    return Whole(Evaluation(weights, {"all": data}), Store(folder), folder / "scores.npz")


def exploration_of(whole: Whole, name: str, *, evaluations: int, top: int) -> Exploration:
    """The exploration of an example, judged on all samples."""
    settings = ExploreSettings(
        EXAMPLES / name / "model.onnx",
        TARGET,
        whole.evaluation.weights.folder,
        data=EXAMPLES / name / "validation.npz",
        calibration=EXAMPLES / name / "calibration.npz",
        kernels=("rvv",),
        tune=1,
        top=top,
        evaluations=evaluations,
        budgets=Budgets(max_drop=BUDGETS[name][1]),
    )
    evaluation, store = whole.evaluation, whole.store
    return predicted(settings, FitErrors(evaluation.weights.compressor, store), Accuracies(evaluation, store))


def chosen(whole: Whole, x: Exploration, spaces: Spaces, name: str, seed: int) -> Iterator[Result]:
    """What an exploration of the example chooses where `seed` splits its data: without confirmation, and with it."""
    data = whole.evaluation.parts["all"]
    rows = split_rows(data, seed, JUDGING_SHARES)
    parts = {part: part_of(data, part, samples) for part, samples in rows.items()}
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        weights = Weights(whole.evaluation.weights.compressor, Path(folder))
        mine = replace(
            x,
            store=store,
            errors=FitErrors(weights.compressor, store),
            accuracies=Accuracies(SplitEvaluation(weights, parts, whole=whole, rows=rows), store),
        )
        plans = plans_of(mine, spaces)
        for protocol in (SEARCH_ALONE, CONFIRMED):
            if protocol == CONFIRMED:
                plans = confirm_plans(mine, plans)
            plan, reason = chosen_of(mine, plans)
            assert plan is not None, "the dense model keeps a drop budget"
            yield _result(name, protocol, seed, plans=plans, plan=plan, reason=reason)


def _result(name: str, protocol: str, seed: int, *, plans: Sequence[Plan], plan: Plan, reason: str) -> Result:
    dense = next(plan for plan in plans if plan.is_reference)
    known, interval = plan.confirmation, plan.test_drop_interval or (0.0, 0.0)
    return Result(
        name,
        protocol,
        seed,
        plan.is_dense,
        (dense.cycles or 0.0) / (plan.cycles or 1.0),
        dense.flash_bytes / plan.flash_bytes,
        plan.drop_points or 0.0,
        None if known is None or known.drop is None else (known.drop, known.high or 0.0),
        (plan.test_drop_points or 0.0, *interval),
        reason,
    )


def table(results: Sequence[Result]) -> str:
    """A row for each example and protocol."""
    rows = [
        "| example | budget | choice | not dense | test drop above budget (lower 95 % bound) | test drop above budget "
        "| mean test drop | speed-up | smaller |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (_, budget) in BUDGETS.items():
        for protocol in (SEARCH_ALONE, CONFIRMED):
            mine = [r for r in results if r.example == name and r.protocol == protocol]
            if mine:
                rows.append(_row(name, budget, protocol, mine))
    return "\n".join(rows)


def _row(name: str, budget: float, protocol: str, mine: Sequence[Result]) -> str:
    kept = [r for r in mine if not r.dense]
    speedup, smaller = (exp(float(np.mean([log(getattr(r, what)) for r in mine]))) for what in ("speedup", "smaller"))
    cells = (
        name,
        f"{budget:g}",
        protocol,
        f"{len(kept)} of {len(mine)}",
        str(sum(r.test[1] > budget for r in mine)),
        str(sum(r.test[0] > budget for r in mine)),
        f"{np.mean([r.test[0] for r in mine]):.2f}",
        f"{speedup:.1f}",
        f"{smaller:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=20)
    # The shares of a split were chosen in view of the seeds below 20, which therefore judge nothing.
    parser.add_argument("--first-seed", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--top", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("reports/confirmation"))
    parser.add_argument("--out", type=Path, default=Path("reports/confirmation"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "confirmation.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    results = [Result(**figures) for figures in known if figures["example"] not in arguments.examples]
    for name in arguments.examples:
        whole = whole_of(name, arguments.work)
        with few_blas_threads(whole.evaluation.weights.compressor.model.fc_layers):
            x = exploration_of(whole, name, evaluations=arguments.evaluations, top=arguments.top)
            spaces = spaces_of(x)
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                for found in chosen(whole, x, spaces, name, seed):
                    results.append(found)
                    print(f"{name} seed {seed} {found.protocol}: x{found.speedup:.2f}, {found.reason}", flush=True)
                    print(f"    test {found.test[0]:.2f} [{found.test[1]:.2f}, {found.test[2]:.2f}]", flush=True)
                whole.keep()
        print(table(results), flush=True)
        figures: list[dict[str, Any]] = [vars(result) for result in results]
        kept.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = arguments.out / "budgets.md"
    if page.exists():
        page.write_text(
            with_section(page.read_text(encoding="utf-8"), "confirmation", table(results)), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

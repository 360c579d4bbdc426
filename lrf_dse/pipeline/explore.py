"""The stages of an exploration in order: the dense model, spaces, layers, plans, choice, report.

model + data   -> the dense model judged, built, run and verified, or the end
model + target -> survivors of each layer's space   (cost.prune)
survivors      -> measured and judged layer options (timing, accuracies)
options        -> finalists                         (plan.select)
finalists      -> measured plans, the chosen one    (timing, accuracies, plan.select)
everything     -> one ReportInfo, recorded, and rendered into the run folder
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrf_dse.errors import StoreError, UsageError
from lrf_dse.jsonform import to_json
from lrf_dse.models.canonical.options import words_of
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import JUDGING_SHARES, Dataset, few_rows, load_data, split
from lrf_dse.models.inventory import by_reason
from lrf_dse.models.model import Model
from lrf_dse.models.overlap import refuse_shared
from lrf_dse.models.reader import read_with
from lrf_dse.models.selection import chosen
from lrf_dse.models.targets import load_metric
from lrf_dse.pipeline.account import Account
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.confirming import confirm_plans, too_few_samples
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.facts import data_facts, layer_funnels, model_facts, search_facts
from lrf_dse.pipeline.finetuning import finetune_plans
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.golden import keep_golden
from lrf_dse.pipeline.layers import measure_layers, narrow_spaces, time_dense
from lrf_dse.pipeline.limits import refuse_impossible, refuse_what_no_layer_can_save, with_latency_limit
from lrf_dse.pipeline.plans import choose_plan, measure_dense, measure_plans
from lrf_dse.pipeline.rivals import with_rivals
from lrf_dse.pipeline.run import MODEL_FILE, RESULT_KEY, RUN_KEY, Run, is_file_of, model_bytes
from lrf_dse.pipeline.selecting import select_finalists
from lrf_dse.pipeline.settings import ExploreSettings, command_of
from lrf_dse.pipeline.storages import with_bits
from lrf_dse.pipeline.sweeping import with_sweeps
from lrf_dse.pipeline.timing import Bench, measure_all
from lrf_dse.pipeline.weights import Weights
from lrf_dse.pipeline.workers import opened_farm
from lrf_dse.progress import Progress, silent
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_report
from lrf_dse.sealed import digest_of, write_atomic
from lrf_dse.store import Store
from lrf_dse.target import Target, load_target

NO_DATA = (
    "NO DATA: the accuracy is UNKNOWN. Programs are checked on random inputs, and plans are ranked by weight error, "
    "which does not predict accuracy; give --data, labels are optional"
)
"""The warning of an exploration without data."""


def explore_with(settings: ExploreSettings, *, progress: Progress = silent) -> Run:
    """Run the exploration, or go on with one that was interrupted; the finished run.

    Raises an LrfDseError for anything the user can mend; what was measured by then stays in the records.
    """
    target = load_target(settings.target)
    # Budgets and storages are completed before anything else reads the settings.
    settings = with_bits(with_latency_limit(settings, target), target)
    model = chosen(read_with(settings.model, settings.reading), settings.layers)
    metric = None if settings.metric is None else load_metric(settings.metric)
    data = None if settings.data is None else load_data(settings.data, model, metric)
    if data is not None:
        # The metric decides what a drop is measured in, so it can only be known once the data is.
        settings = replace(settings, budgets=replace(settings.budgets, drop_unit=data.metric.drop_unit))
    calibration, parts = _parts(settings, model, data)
    lessons = _lessons(settings, model, data, calibration)
    bench = Bench(target, settings.board, settings.timeout_s)
    tools = bench.tools  # a missing one is told before a folder is made
    threads = few_blas_threads(model.fc_layers)
    farming = opened_farm(settings.scheduler, jobs=settings.jobs, emulated=settings.board is None)
    with threads, _naming_the_folder(settings.out), farming as farm, Store(settings.out) as store:
        account = Account(store)
        # Before any work: a folder with another exploration is refused, not mixed with this one.
        _claim_folder(store, settings, model, target)
        compressor, tell = Compressor(model, seed=settings.seed, calibration=calibration), _keeping(account, progress)
        x = Exploration(
            settings=settings,
            model=model,
            bench=bench,
            store=store,
            errors=FitErrors(compressor, store),
            accuracies=Accuracies(Evaluation(Weights(compressor, settings.out), parts), store),
            data=data,
            tools=tools,
            measure=partial(measure_all, store=store, bench=bench, folder=settings.out, farm=farm, progress=tell),
            progress=tell,
            lessons=lessons,
            farm=farm,
        )
        # Kept in the folder, so that a later export needs no data.
        keep_golden(settings.out, model, data, seed=settings.seed)
        info = _explore(x)
        info = replace(info, warnings=(*_warnings(settings, model, calibration, parts), *info.warnings))
        account.keep()
        # Last of all, so that what was spent on the report's facts counts too.
        info = replace(info, spending=account.spent)
        store.put(RESULT_KEY, "result", to_json(info))
    run = Run(settings.out, [*store.notes, *farm.notes])
    write_report(run.info, settings.out)  # as the records have it, so that `report` writes the same files again
    return run


def _keeping(account: Account, progress: Progress) -> Progress:
    """`progress` that keeps the account whenever a stage begins: a session may be killed."""
    stages: list[str] = []

    def tell(stage: str, done: int, total: int) -> None:
        if stages[-1:] != [stage]:
            stages.append(stage)
            account.keep()
        progress(stage, done, total)

    return tell


def _parts(settings: ExploreSettings, model: Model, data: Dataset | None) -> tuple[Dataset | None, dict[str, Dataset]]:
    """What fits see, and the parts that judge them: disjoint, where they come from one source."""
    if data is None:
        return None, {}
    if settings.calibration is not None:
        # Given apart, calibration data leaves all of --data to the parts that judge.
        fitted_to = load_data(settings.calibration, model, judges=False)
        refuse_shared(fitted_to, data, option="--calibration")
        return fitted_to, split(data, settings.seed, JUDGING_SHARES)
    parts = split(data, settings.seed)
    return parts.pop("calibration"), parts


def _lessons(
    settings: ExploreSettings, model: Model, data: Dataset | None, calibration: Dataset | None
) -> Dataset | None:
    """What plans are trained on: nothing of it is in the parts that judge."""
    if not settings.finetune or data is None:
        return None
    if settings.train is None:
        return calibration
    found = load_data(settings.train, model, None if settings.metric is None else load_metric(settings.metric))
    refuse_shared(found, data, option="--train")
    return found


@contextmanager
def _naming_the_folder(folder: Path) -> Iterator[None]:
    """A full disk may strike at any write, and the system does not say where: raise it as a StoreError that does."""
    try:
        yield
    except OSError as error:
        where, what = error.filename or folder, error.strerror or error
        raise StoreError(
            f"{where}: {what}; what was measured is kept: mend this and the same command goes on"
        ) from error


def _explore(x: Exploration) -> ReportInfo:
    refuse_impossible(x)
    measure_dense(x)
    refuse_what_no_layer_can_save(x)
    spaces = narrow_spaces(x, time_dense(x))
    measured = measure_layers(x, spaces)
    found, results = with_rivals(x, *select_finalists(x, measured))
    plans, failed = measure_plans(x, found.finalists)
    fitted = plans
    plans, finetuning, warnings = finetune_plans(x, fitted)
    # After fine-tuning, which starts from the weights of fitted plans.
    x.weights.forget_others([*fitted, *plans])
    # After fine-tuning, which changes weights: what is confirmed is what ships.
    plans = confirm_plans(x, plans)
    chosen, reason = choose_plan(x.settings, plans)
    plans = with_sweeps(x, plans, chosen)
    return ReportInfo(
        title=f"{x.model.path.name} on {x.target.title}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command_of(x.settings),
        seed=x.settings.seed,
        model=model_facts(x.model),
        target=x.target,
        data=None if x.data is None else data_facts(x.data, x.accuracies),
        funnel=layer_funnels(spaces),
        candidates=results,
        plans=plans,
        search=search_facts(found),
        finetuning=finetuning,
        chosen=chosen,
        chosen_reason=reason,
        instructions_source=_instructions_source(x.tools),
        budgets=x.settings.budgets,
        objective=x.settings.objective,
        failed_plans=failed,
        warnings=warnings,
        environment={"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"},
        tool_versions=x.tools | {name: version(name) for name in ("onnxruntime", "numpy", "lrf-dse")},
    )


def _instructions_source(tools: dict[str, str]) -> str:
    qemu = tools.get("qemu-riscv64")
    return "not counted on a board" if qemu is None else f"instructions counted by qemu-riscv64 {qemu} with our plugin"


def _warnings(
    settings: ExploreSettings, model: Model, calibration: Dataset | None, parts: dict[str, Dataset]
) -> list[str]:
    found = [f"left as it is: {group.label}: {group.reason}" for group in by_reason(model.skipped)]
    found += model.notes
    if calibration is not None:
        found += few_rows(calibration, model)
    if parts:
        found += too_few_samples(parts["confirmation"], settings.budgets.max_drop)
    else:
        found.append(NO_DATA)
    return found


def _claim_folder(store: Store, settings: ExploreSettings, model: Model, target: Target) -> None:
    """Make the run folder this exploration's, with a copy of the model; refuse one that belongs to another."""
    board = None if settings.board is None else settings.board.host
    # What must not change between two sessions of one folder. Options of the search may: keys of records hold them.
    identity = {
        "model_sha256": model.sha256,
        "read with": shlex.join(words_of(settings.reading)) or "no options",
        "model_key": model.key,
        "batch": model.batch,
        "target": target.name,
        "board": board,
    }
    known = store.get(RUN_KEY)
    if known is not None and (differs := _differences(known, identity)):
        raise UsageError(
            f"{settings.out} holds an exploration of {known['model']} for {known['target']}, with other settings "
            f"({differs}); choose another -o"
        )
    content = model_bytes(model)
    if not is_file_of(settings.out / MODEL_FILE, digest := digest_of(content)):
        write_atomic(settings.out / MODEL_FILE, content)
    whence = {"model": model.path.name, "model_path": str(model.path.absolute()), "copy_sha256": digest}
    whence["command"] = command_of(settings)
    store.put(RUN_KEY, "run", identity | whence)


def _differences(known: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The settings of a run folder that are not those `asked` for, each with both values; digests are cut."""

    def shown(value: Any) -> str:
        return "none" if value is None else str(value)[:40]

    differing = [key for key in asked if known.get(key) != asked[key]]
    if len(differing) > 1:  # it follows from what the user can see
        differing = [key for key in differing if key != "model_key"]
    return ", ".join(f"{key}: {shown(known.get(key))} there, {shown(asked[key])} here" for key in differing)

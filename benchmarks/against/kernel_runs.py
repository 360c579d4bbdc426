"""Build and measure the variants of a column, each once: every outcome is recorded under its content at once.

Two kinds of records. A program is known by row, variant, target and tools; a measurement by the program's bytes, its
input and the timing model. So the same program from two flag sets runs once, and a killed benchmark goes on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.against.our_columns import OurKernel
from benchmarks.against.polyhedral import clang_version
from benchmarks.against.stage_cycles import StageFigures, measure_stages
from benchmarks.against.trials import ColumnResult, Trial, figure_of
from benchmarks.against.variants import Group, Groups, LayerData, Variant
from lrf_dse import builders
from lrf_dse.builders.iree import iree_version
from lrf_dse.builders.zig import zig_version
from lrf_dse.errors import BuildError
from lrf_dse.jsonform import content_key, from_json, to_json
from lrf_dse.resources import data_dir
from lrf_dse.runners.board import BOARD_STAGE, Board
from lrf_dse.runners.job import TIMED_PASSES, Job, passes_for
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.qemu import tool_versions as qemu_versions
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.runners.ssh import tool_versions as board_versions
from lrf_dse.runners.timing import DEFAULT_SWITCHES, TimingSwitches, sweep_of, timing_model_text
from lrf_dse.schema import Failure, Measurement, Outcome
from lrf_dse.sealed import sources_digest
from lrf_dse.store import Store
from lrf_dse.target import Target

HEAVY_WEIGHTS = 10_000_000
"""A dense layer of more weights tries one variant a group: its programs hold 67 to 411 MB each."""

HOPELESS, PATIENCE_S = 10.0, 60.0
"""A run is stopped after the patience, and the time of this many times the instructions of the column's leanest."""

TIMEOUT_S = 3600.0
_SLOW_PER_S = 2e6  # instructions a second, of an emulator on a busy machine
_STOPPED = "stopped"
STAGE_MODELS = ("default", "in-order write-back")
"""Under which the share of the FMA peak has a goal."""
_UNKNOWN = Failure("records", "not measured")
_GENERATORS = ("contractions", "graphs", "plain_loops", "variants", "iree_columns", "c_columns", "polyhedral")
_BUILDERS = (
    *("iree", "constants", "hal", "hal_operations", "schedule", "packing", "host", "host_objects", "linking"),
    *("direct", "kernel_object", "zig"),
)


@dataclass(frozen=True)
class _Program:
    """A variant whose program is known by its hash; `path` is None until it is built in this column."""

    variant: Variant
    sha256: str
    path: Path | None


class KernelRuns:
    """Measures for `target` with `store` as memory; the tools' versions are read once.

    `columns` names those that are measured; of the others only what is recorded counts. None: all are.
    """

    def __init__(
        self, target: Target, store: Store, *, board: Board | None = None, columns: Collection[str] | None = None
    ) -> None:
        self.target, self.board = target, board
        self._columns = columns
        self.models: Mapping[str, TimingSwitches] = sweep_of(target) if board is None else {}
        self._store = store
        tools = {"iree": iree_version(), "zig": zig_version(), "clang": clang_version()}
        seen = target.model_dump(mode="json", include={"isa", "iree", "cc"})
        self._machine = {"target": seen, "tools": tools | {"sources": _sources_digest()}}
        self._runner = board_versions(board) if board else qemu_versions() | {"cpu": target.qemu.cpu}

    def column(
        self, name: str, groups: Groups, data: LayerData, folder: Path, *, likely: Sequence[str] = ()
    ) -> ColumnResult:
        """The trials of a column: its first group in full, the best one of all under every switch of the timing model.

        `likely` names variants, the best one first: where given, no group is tried in full. Programs are built in
        `folder`, which is removed.
        """
        measured = self._columns is None or name in self._columns
        column = _Column(self, name, data, folder if measured else None)
        ranked = list(likely)
        for group in groups:
            figures = column.try_group(group, ranked)
            ranked = ranked or sorted(figures, key=figures.__getitem__)
        result = column.result()
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def stages(self, kernel: OurKernel, folder: Path) -> tuple[StageFigures, ...]:
        """The stages of one of our kernels under every model; none on a board. Files go to `folder`."""
        if self.board is not None:
            return ()
        chosen = {name: switches for name, switches in self.models.items() if name in STAGE_MODELS}
        models = {name: timing_model_text(self.target, switches=switches) for name, switches in chosen.items()}
        facts = {"source": kernel.code().source, "layer": self._layer(kernel.data), "machine": self._machine}
        key = content_key("kernel-stages", models=models, runner=self._runner, **facts)
        known = self._store.get(key)
        if known is None:
            figures = measure_stages(kernel, chosen, folder)
            shutil.rmtree(folder, ignore_errors=True)
            known = [to_json(stage) for stage in figures]
            self._store.put(key, "kernel-stages", known, context={"row": kernel.data.case.name})
        return tuple(from_json(StageFigures, stage) for stage in known)

    def program(self, name: str, variant: Variant, data: LayerData, folder: Path | None) -> _Program | Failure:
        """The program of a variant: from the records by its hash, or built now where there is a folder."""
        key = self._program_key(variant, data)
        known = self._store.get(key)
        if known is not None:
            return from_json(Failure, known["failure"]) if "failure" in known else _Program(variant, **known, path=None)
        if folder is None:
            return _UNKNOWN
        built = self.build(variant, folder)
        if isinstance(built, Failure):
            value: dict[str, object] = {"failure": to_json(built)}
        else:
            value = {"sha256": built.sha256}
        if not _stopped(built):
            self._store.put(key, "kernel-program", value, context={"row": data.case.name, "column": name})
        return built

    def build(self, variant: Variant, folder: Path) -> _Program | Failure:
        """Build a variant in `folder`."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            path = variant.build(folder)
            return _Program(variant, hashlib.sha256(path.read_bytes()).hexdigest(), path)
        except BuildError as error:
            return Failure("build", str(error).replace(str(folder), "..."))

    def measure(
        self, program: _Program, data: LayerData, folder: Path | None, *, switches: TimingSwitches, timeout_s: float
    ) -> Outcome:
        """The outcome of a program under one model: from the records, or run now where there is a folder."""
        modelled = self.target.timing is not None and self.board is None
        model = timing_model_text(self.target, switches=switches) if modelled else None
        layer = [*self._layer(data), data.dense]
        key = content_key("kernel-run", program=program.sha256, layer=layer, model=model, runner=self._runner)
        known = self._store.get(key)
        if known is not None:
            return from_json(Outcome, known)  # type: ignore[no-any-return]
        if folder is None:
            return _UNKNOWN
        if program.path is None:
            rebuilt = self.build(program.variant, folder)
            if isinstance(rebuilt, Failure):
                return rebuilt
            program = rebuilt
        assert program.path is not None
        job = self._job(program.path, program.variant, data, folder, timeout_s)
        outcome = (QemuRunner(switches) if self.board is None else SshRunner(self.board)).run(job)
        if isinstance(outcome, Failure) and "did not finish" in outcome.reason:
            outcome = Failure(
                _STOPPED, f"more than {HOPELESS:.0f} times the instructions of the column's leanest: stopped"
            )
        if isinstance(outcome, Failure) and outcome.stage == BOARD_STAGE:  # says nothing of the program
            return outcome
        self._store.put(key, "kernel-run", to_json(outcome), context={"row": data.case.name})
        return outcome

    def _job(self, path: Path, variant: Variant, data: LayerData, folder: Path, timeout_s: float) -> Job:
        expected = data.y if variant.expected is None else variant.expected()
        passes = passes_for(data.flops // 2)
        job = Job(path, self.target, (data.x,), (expected,), folder / "run", passes=passes)
        return replace(job, tolerance=variant.tolerance, timeout_s=timeout_s)

    def _program_key(self, variant: Variant, data: LayerData) -> str:
        return content_key("kernel-program", layer=self._layer(data), variant=variant.facts, machine=self._machine)

    @staticmethod
    def _layer(data: LayerData) -> list[object]:
        return [to_json(data.case.shape), data.case.batch]


class _Column:
    """The trials of one column on one row while they are made; without a folder only those that are recorded."""

    def __init__(self, runs: KernelRuns, name: str, data: LayerData, folder: Path | None) -> None:
        self._runs, self._name, self._data, self._folder = runs, name, data, folder
        self._outcomes: dict[str, Outcome] = {}
        self._programs: dict[str, _Program] = {}
        self._leanest = float("inf")

    def try_group(self, group: Group, ranked: Sequence[str]) -> dict[str, float]:
        """Try the first ones of `group` in the order `ranked`, all if there is none; the figures by variant's name."""
        names = {variant.name for variant in group.variants}
        most = 1 if self._data.dense and self._data.weight.size > HEAVY_WEIGHTS else group.best
        wanted = [name for name in ranked if name in names][:most] or names
        figures: dict[str, float] = {}
        for variant in group.variants:
            if variant.name not in wanted:
                continue
            key = f"{group.name}: {variant.name}"
            outcome = self._outcomes[key] = self._try(key, variant)
            if (figure := figure_of(outcome)) is not None:
                figures[variant.name] = figure
        return figures

    def result(self) -> ColumnResult:
        """All trials; the fastest one under every model."""
        known = tuple(Trial(key, outcome) for key, outcome in self._outcomes.items() if outcome != _UNKNOWN)
        best = ColumnResult(known).best
        return ColumnResult(
            tuple(
                replace(trial, sweep=self._sweep(trial.name, trial.outcome)) if trial is best else trial
                for trial in known
            )
        )

    def _try(self, key: str, variant: Variant) -> Outcome:
        folder = self._folder and self._folder / str(len(self._outcomes))
        program = self._runs.program(self._name, variant, self._data, folder)
        if isinstance(program, Failure):
            return program
        self._programs[key] = program
        outcome = self._measure(program, folder, DEFAULT_SWITCHES)
        if isinstance(outcome, Measurement) and outcome.instructions:
            self._leanest = min(self._leanest, outcome.instructions)
        return outcome

    def _measure(self, program: _Program, folder: Path | None, switches: TimingSwitches) -> Outcome:
        timeout_s = min(TIMEOUT_S, PATIENCE_S + HOPELESS * TIMED_PASSES * self._leanest / _SLOW_PER_S)
        return self._runs.measure(program, self._data, folder, switches=switches, timeout_s=timeout_s)

    def _sweep(self, key: str, outcome: Outcome) -> dict[str, float]:
        """Cycles under every switch; the same program is measured once, whatever it is called."""
        figures = {}
        for model, switches in self._runs.models.items():
            folder = self._folder and self._folder / "sweep"
            found = outcome if switches == DEFAULT_SWITCHES else self._measure(self._programs[key], folder, switches)
            if (figure := figure_of(found)) is not None:
                figures[model] = figure
        return figures


def _stopped(built: _Program | Failure) -> bool:
    """Whether a compiler was stopped, which a busy machine may cause: it says nothing of the variant.

    Packing that was stopped does: it takes seconds, or longer than anybody waits.
    """
    return isinstance(built, Failure) and "did not finish" in built.reason and "packing" not in built.reason


def _sources_digest() -> str:
    """A hash of all that decides what a variant's program is: generators, builders, the host's C."""
    paths = [Path(__file__).with_name(f"{name}.py") for name in _GENERATORS]
    paths += [Path(builders.__file__).with_name(f"{name}.py") for name in _BUILDERS]
    paths += sorted((data_dir("toolchain") / "host").glob("*.[ch]"))
    return sources_digest(paths)

"""Run a program under qemu-riscv64, check its outputs, and count or time its inference region.

The runner says whether outputs are right, and gives executed instructions by class, flash_bytes from the ELF and
ram_bytes as the program reports them; for a target with [timing] also modelled cycles (toolchain/plugin/timing.c), else
counts only (count.c). It never gives QEMU's own time or memory (VmHWM): they say nothing of a chip.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lrf_dse.builders.elf import read_elf
from lrf_dse.errors import ToolError
from lrf_dse.runners.answers import Rejected, output_names, read_object, read_outputs, read_ram_parts
from lrf_dse.runners.emulator import QEMU, SAID, qemu_version, run_qemu
from lrf_dse.runners.job import Job, write_raw
from lrf_dse.runners.plugin import UNKNOWN_CLASS, plugin_key, plugin_path
from lrf_dse.runners.timing import (
    DEFAULT_SWITCHES,
    PassFigures,
    TimingSwitches,
    read_passes,
    sweep_of,
    timing_model_text,
)
from lrf_dse.runners.verify import compare
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target

# Written by the plugin, read by the plugin, and written by the program.
_FIGURES, _MODEL, _STATS = "figures.json", "model.txt", "stats.json"


@dataclass(frozen=True)
class QemuRunner:
    """Counts or times under qemu-riscv64. Raises ToolError if QEMU is missing or refuses its command line.

    `switches` are set against the timing model of the job's target.
    """

    switches: TimingSwitches = DEFAULT_SWITCHES

    def run(self, job: Job) -> Measurement | Failure:
        """The measurement of `job`, or at which stage ("run" or "verify") and why there is none."""
        version = qemu_version()
        files = _prepare(job, self.switches)
        try:
            run_qemu(_command(job, files), job.target, job.work, writes=files.figures, timeout_s=job.emulated_s)
            errors = compare(read_outputs(job.work, job.expected), job.expected, tolerance=job.tolerance)
            if isinstance(errors, str):
                raise Rejected("verify", errors)
            passes = _read_passes(files.figures, job.passes) if files.timed else None
            # All passes execute the same instructions; the last one is the one that is timed.
            counts = passes[-1].counts if passes else _read_counts(files.figures)
            ram_parts = read_ram_parts(files.stats)
        except Rejected as rejected:
            kept = [path for path in (job.program, *files.inputs, *files.written) if path.exists()]
            return Failure(rejected.stage, rejected.reason, tuple(map(str, kept)))
        measured = Measurement(
            source=f"{QEMU} {version}, cpu of {job.target.name}: executed instructions",
            instructions=sum(counts.values()),
            counts=counts,
            flash_bytes=read_elf(job.program).flash_bytes,
            ram_bytes=sum(ram_parts.values()),
            ram_parts=ram_parts,
            max_abs_error=errors.max_abs,
            max_rel_error=errors.max_rel,
        )
        return _with_cycles(measured, passes, job) if passes else measured


def model_sweep(job: Job, *, known: Measurement | None = None) -> Mapping[str, Measurement | Failure]:
    """The outcome of `job` under every model of MODEL_SWEEP that means something for its target, by name.

    The program runs once under each, because a fact of a chip that nobody published gives a span and not a figure.
    `known` is the outcome without a switch, if that is known. The result is empty for a target without [timing].
    """
    return {
        name: known
        if known is not None and switches == DEFAULT_SWITCHES
        else QemuRunner(switches).run(replace(job, work=job.work / name.replace(" ", "-")))
        for name, switches in sweep_of(job.target).items()
    }


def _with_cycles(measured: Measurement, passes: tuple[PassFigures, ...], job: Job) -> Measurement:
    """`measured` with the cycles of the last pass, and those of the first one as cold."""
    warm = passes[-1]
    return replace(
        measured,
        source=f"modelled cycles, {job.target.name}",
        cycles=float(warm.cycles),
        cold_cycles=float(passes[0].cycles),
        busy_cycles=float(warm.busy_cycles),
        stalls={cause: float(cycles) for cause, cycles in warm.stalls.items()},
        bytes_by_level=warm.bytes_by_level,
        untimed={"operation": warm.unknown_operations, "vtype": warm.unknown_vtype},
    )


def tool_versions() -> dict[str, str]:
    """What the figures depend on besides program and target. Raises ToolError if QEMU is missing."""
    return {QEMU: qemu_version(), "count plugin": plugin_key(), "timing plugin": plugin_key("timing")}


@dataclass(frozen=True)
class _Files:
    """The files of one run, all in the work folder. `timed` is whether the timing plugin runs, or the counting one."""

    work: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    timed: bool

    @property
    def figures(self) -> Path:
        return self.work / _FIGURES

    @property
    def stats(self) -> Path:
        return self.work / _STATS

    @property
    def written(self) -> tuple[Path, ...]:
        """What the run writes; none of it may be left from an earlier run."""
        return (*self.outputs, self.figures, self.stats, *(self.work / name for name in SAID))


def _prepare(job: Job, switches: TimingSwitches) -> _Files:
    """Write the inputs and the timing model, remove what an earlier run left."""
    job.work.mkdir(parents=True, exist_ok=True)
    files = _Files(
        job.work,
        tuple(job.work / f"input{i}.bin" for i in range(len(job.inputs))),
        tuple(job.work / name for name in output_names(len(job.expected))),
        job.target.timing is not None,
    )
    for path, array in zip(files.inputs, job.inputs, strict=True):
        write_raw(path, array)
    for path in files.written:
        path.unlink(missing_ok=True)
    if files.timed:
        text = timing_model_text(job.target, switches=switches, threads=job.threads)
        (job.work / _MODEL).write_text(text, encoding="utf-8")
    return files


def _command(job: Job, files: _Files) -> list[str]:
    """The options of QEMU, the program and its arguments; names are relative to the work folder.

    So the guest's stack, on which they lie, is the same everywhere.
    """
    path = plugin_path("timing") if files.timed else plugin_path()
    # A comma ends an option value of QEMU, two commas stand for one.
    plugin = str(path).replace(",", ",,") + f",out={_FIGURES}"
    # -0 sets argv[0], which lies on the stack as well.
    options = ["-0", "program", "-plugin", f"{plugin},model={_MODEL}" if files.timed else plugin]
    asked = ["--stats", _STATS]
    asked += ["--threads", str(job.threads)] if job.threads > 1 else []
    # Counts are the same in every pass, so the counting plugin asks for one.
    asked += ["--passes", str(job.passes)] if files.timed else []
    names = [path.name for path in (*files.inputs, *files.outputs)]
    return [*options, os.path.relpath(job.program, job.work), *asked, *names]


def run_timed(
    program: Path,
    target: Target,
    work: Path,
    *,
    switches: TimingSwitches = DEFAULT_SWITCHES,
    threads: int = 1,
    arguments: Sequence[str] = (),
    timeout_s: float = 600.0,
) -> tuple[PassFigures, ...]:
    """The passes of any `program` through its measured region under the model of `target`; no output is read.

    It runs in the folder `work`, where the files of its `arguments` are. Raises ToolError where it does not run to its
    end.
    """
    figures, said = work / _FIGURES, work / SAID[-1]
    figures.unlink(missing_ok=True)
    (work / _MODEL).write_text(timing_model_text(target, switches=switches, threads=threads), encoding="utf-8")
    plugin = str(plugin_path("timing")).replace(",", ",,")
    command = ["-plugin", f"{plugin},out={_FIGURES},model={_MODEL}", str(program.resolve()), *arguments]
    try:
        run_qemu(command, target, work, writes=figures, timeout_s=timeout_s)
        return read_passes(read_object(figures, "the timing plugin"))
    except Rejected as rejected:
        raise ToolError(f"{program.name} under {QEMU}: {rejected.reason} (see {said})") from rejected


def _read_counts(path: Path) -> dict[str, int]:
    """Executed instructions by class, `unknown` included, of exactly one complete pass through the region."""
    data = read_object(path, "the counting plugin")
    _require_passes(data["open"], data["regions"], 1)
    return {**data["counts"], UNKNOWN_CLASS: data["unknown"]}


def _read_passes(path: Path, wanted: int) -> tuple[PassFigures, ...]:
    """The passes through the region: all those that were asked for, complete."""
    data = read_object(path, "the timing plugin")
    _require_passes(data["open"], len(data["passes"]), wanted)
    return read_passes(data)


def _require_passes(left_open: int, entered: int, wanted: int) -> None:
    if left_open:
        raise Rejected("run", "the program ended inside its inference region: LRF_REGION_END was not reached")
    if entered != wanted:
        times = "never entered" if entered == 0 else f"entered {entered} times, expected {wanted}"
        raise Rejected("run", f"the inference region (LRF_REGION_BEGIN) was {times}")

"""Run the bare-metal form of a program on rvsim, an independent simulator: a second opinion on cycles.

Never the headline figure. rvsim refuses some legal code and gets some wrong (`rvsim_console`): such a
program is a Failure that names the instruction.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulators.bare import link_bare_program
from benchmarks.simulators.rvsim_console import Console, miscomputed_instructions, read_console
from benchmarks.simulators.rvsim_model import RvsimModel, config_of, model_of
from lrf_dse.builders.elf import read_elf
from lrf_dse.errors import BuildError, ToolError, ToolTimeout, UsageError
from lrf_dse.process import IDLE_S, Limit, started, wait
from lrf_dse.resources import data_dir
from lrf_dse.runners.answers import Rejected, read_object
from lrf_dse.runners.job import Job, raw_bytes
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target

RVSIM = "rvsim"
DEFAULT_MAX_INSTRUCTIONS = 50_000_000
"""Start-up and both passes together; some minutes."""

_FITTED_TO = {"spacemit-k1": "spacemit-x60"}
"""The core that the model was fitted to by its microbenchmarks, by target; others are derived from their figures."""

_MAX_CYCLES_PER_INSTRUCTION = 100
_RAM_START = 0x8000_0000
_RAM_STEP = 2 << 20
_REQUEST, _CONSOLE, _RESULT, _SAID = "request.json", "console.txt", "result.json", "rvsim.txt"
PROCESS = Path(__file__).with_name("rvsim_process.py")
"""The script that simulates."""


@dataclass(frozen=True)
class RvsimRunner:
    """Simulates the inference twice, cold and warm. Raises ToolError without rvsim.

    A program that has not ended after `max_instructions` simulated instructions, or at the job's timeout, is a Failure.
    `model` is the machine that stands for a target, `process` the script that simulates it in a process of its own.
    """

    max_instructions: int = DEFAULT_MAX_INSTRUCTIONS
    model: Callable[[Target], RvsimModel] = model_of
    process: Path = PROCESS

    def run(self, job: Job) -> Measurement | Failure:
        """The measurement of `job`, or at which stage ("build", "run" or "verify") and why there is none.

        Raises UsageError if the target has no timing figures, or the job no schedule to link for the bare machine.
        """
        version = rvsim_version()
        source = source_of(job.target)
        if job.threads != 1:
            return Failure("run", f"rvsim {version} runs the program on one thread, not on {job.threads}")
        try:
            program = _link(job)
            console = self._simulate(job, program)
            errors = compare(console.outputs, job.expected, tolerance=job.tolerance)
            if isinstance(errors, str):
                raise Rejected("verify", errors + _known_faults(job))
        except BuildError as error:
            return Failure("build", str(error), (str(job.work),))
        except Rejected as rejected:
            return Failure(rejected.stage, rejected.reason, tuple(map(str, _kept(job))))
        return _measurement(job, program, console, errors, source)

    def _simulate(self, job: Job, program: Path) -> Console:
        """What the program said until it ended with 0. Raises Rejected."""
        simulator = f"rvsim {rvsim_version()}"
        request = config_of(self.model(job.target), ram_bytes=_ram_bytes(program)) | {
            "max_instructions": self.max_instructions,
            "max_cpu_s": math.ceil(job.emulated_s) + 1,
            "max_cycles": self.max_instructions * _MAX_CYCLES_PER_INSTRUCTION,  # a machine that sleeps retires nothing
        }
        (job.work / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        code = _run_process(job, program, self.process)
        if code != 0 or not (job.work / _RESULT).exists():
            said = (job.work / _SAID).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise Rejected(
                "run", f"{simulator} broke down (exit code {code}): {said[-1] if said else 'no word from it'}"
            )
        result = read_object(job.work / _RESULT, simulator)
        if result["stopped"] != "exit":
            raise Rejected("run", f"did not finish in {result['instructions']} simulated instructions on {simulator}")
        text = (job.work / _CONSOLE).read_text(encoding="utf-8")
        console = read_console(text, job.expected, simulator=simulator)
        if result["code"] != 0:
            raise Rejected("run", f"exit code {result['code']} on {simulator}")
        return console


def source_of(target: Target) -> str:
    """What a figure of this runner is. Raises ToolError, UsageError."""
    model_of(target)
    chip = _FITTED_TO.get(target.name)
    model = f"out-of-order model nearest to {chip}" if chip else f"out-of-order model derived from {target.name}"
    return f"rvsim {rvsim_version()}, {model}: a second opinion"


def rvsim_version() -> str:
    """The version of the rvsim package; the simulator itself is never loaded here. Raises ToolError."""
    try:
        return importlib.metadata.version(RVSIM)
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError("the simulator rvsim is missing: pip install rvsim") from error


def tool_versions() -> dict[str, str]:
    """What the cycles depend on besides schedule and target. Raises ToolError."""
    digest = hashlib.sha256()
    folders = [data_dir("toolchain") / "bare", data_dir("toolchain") / "host"]
    sources = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in [*sources, *sorted(PROCESS.parent.glob("rvsim*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {RVSIM: rvsim_version(), "bare": digest.hexdigest()[:16]}


def _known_faults(job: Job) -> str:
    """What a wrong result may come from that is not the program's fault: added to the words about it."""
    images = job.schedule.executables.values() if job.schedule else ()
    names = sorted({name for image in images for name in miscomputed_instructions(image)})
    what = " and ".join(names)
    return f" (the kernels hold {what}, which rvsim {rvsim_version()} gets wrong under LMUL > 1)" if names else ""


def _link(job: Job) -> Path:
    """The bare-metal program of `job`, in its work folder; nothing there is left from an earlier run."""
    if job.schedule is None:
        raise UsageError("runner 'rvsim' runs a program of its own form: give the job the schedule of its BuiltProgram")
    job.work.mkdir(parents=True, exist_ok=True)
    for path in _kept(job):
        path.unlink()
    inputs = [raw_bytes(array) for array in job.inputs]
    return link_bare_program(job.schedule, inputs, job.target, job.work, title=job.program.name)


def _kept(job: Job) -> list[Path]:
    paths = [job.work / name for name in ("model-bare", _REQUEST, _CONSOLE, _RESULT, _SAID)]
    return [path for path in paths if path.exists()]


def _run_process(job: Job, program: Path, process: Path) -> int:
    """The exit code of the simulator's process. Raises Rejected at the timeout.

    A process of its own, because a panic or an endless loop of the simulator must not reach this one. -P: the folder of
    the script holds a module named rvsim too.
    """
    names = [str((job.work / name).resolve()) for name in (_CONSOLE, _RESULT)]
    request = str((job.work / _REQUEST).resolve())
    command = [sys.executable, "-P", str(process), request, str(program), *names]
    name = f"{RVSIM} {rvsim_version()}"
    try:
        with (
            (job.work / _SAID).open("wb") as said,
            started(command, name=name, cwd=job.work, stdout=said, stderr=said) as child,
        ):
            return wait(child, name=name, limit=Limit(cpu_s=job.emulated_s, idle_s=min(IDLE_S, job.emulated_s)))
    except ToolTimeout as error:
        raise Rejected("run", str(error)) from error


def _ram_bytes(program: Path) -> int:
    end = max(segment.vaddr + segment.memsz for segment in read_elf(program).loads)
    return -(-(end - _RAM_START) // _RAM_STEP) * _RAM_STEP


def _measurement(job: Job, program: Path, console: Console, errors: Errors, source: str) -> Measurement:
    """The warm pass is what counts; the inputs are in the file but are no part of the program's flash."""
    embedded = sum(array.nbytes for array in job.inputs)
    return Measurement(
        source=source,
        instructions=console.warm.instructions,
        counts={},
        flash_bytes=read_elf(program).flash_bytes - embedded,
        ram_bytes=sum(console.ram_parts.values()),
        ram_parts=console.ram_parts,
        max_abs_error=errors.max_abs,
        max_rel_error=errors.max_rel,
        cycles=float(console.warm.cycles),
        cold_cycles=float(console.cold.cycles),
    )

"""Run a program under qemu-riscv64, check its outputs, and count the instructions of its inference region.

Gives correctness, executed instructions by class (toolchain/plugin/count.c), flash_bytes from the ELF
and ram_bytes as the program reports them. Never gives a time: QEMU's clock and VmHWM say nothing of a chip.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_dse.builders.elf import read_elf
from lrf_dse.errors import ToolError
from lrf_dse.runners.job import Array, Job, read_raw, write_raw
from lrf_dse.runners.plugin import UNKNOWN_CLASS, plugin_key, plugin_path
from lrf_dse.runners.verify import compare
from lrf_dse.schema import Failure, Measurement

QEMU = "qemu-riscv64"
_VERSION_TIMEOUT_S = 30.0
_COUNTS, _STATS, _STDOUT, _STDERR = "counts.json", "stats.json", "stdout.txt", "stderr.txt"


class QemuRunner:
    """Counts instructions under qemu-riscv64. Raises ToolError if QEMU is missing or refuses its command line."""

    def run(self, job: Job) -> Measurement | Failure:
        """The measurement of `job`, or at which stage ("run" or "verify") and why there is none."""
        version = qemu_version()
        files = _prepare(job)
        try:
            _execute(job, files)
            errors = compare(_read_outputs(files, job.expected), job.expected, tolerance=job.tolerance)
            if isinstance(errors, str):
                raise _Rejected("verify", errors)
            counts, ram_parts = _read_counts(files.counts), _read_stats(files.stats)
        except _Rejected as rejected:
            kept = [path for path in (job.program, *files.inputs, *files.written) if path.exists()]
            return Failure(rejected.stage, rejected.reason, tuple(map(str, kept)))
        return Measurement(
            source=f"{QEMU} {version}, cpu of {job.target.name}: executed instructions",
            instructions=sum(counts.values()),
            counts=counts,
            flash_bytes=read_elf(job.program).flash_bytes,
            ram_bytes=sum(ram_parts.values()),
            ram_parts=ram_parts,
            max_abs_error=errors.max_abs,
            max_rel_error=errors.max_rel,
        )


class _Rejected(Exception):
    """Why a program gives no measurement; becomes a Failure in `QemuRunner.run` and never leaves it."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


def tool_versions() -> dict[str, str]:
    """What the counts depend on besides program and target. Raises ToolError if QEMU is missing."""
    return {QEMU: qemu_version(), "count plugin": plugin_key()}


def qemu_version() -> str:
    """The version of qemu-riscv64, such as "7.2.22"; read once. Raises ToolError."""
    return _version_of(_qemu())


def _qemu() -> str:
    path = shutil.which(QEMU)
    if path is None:
        raise ToolError(f"{QEMU} not found: install the Debian package qemu-user (apt-get install qemu-user)")
    return path


@functools.cache
def _version_of(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{path} --version did not answer: {error}") from error
    found = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    if found is None:
        raise ToolError(f"{path} --version did not name a version: {(done.stdout or done.stderr).strip()[:200]!r}")
    return found.group(1)


@dataclass(frozen=True)
class _Files:
    """The files of one run, all in the work folder."""

    work: Path
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]

    @property
    def counts(self) -> Path:
        return self.work / _COUNTS

    @property
    def stats(self) -> Path:
        return self.work / _STATS

    @property
    def stderr(self) -> Path:
        return self.work / _STDERR

    @property
    def written(self) -> tuple[Path, ...]:
        """What the run writes; none of it may be left from an earlier run."""
        return (*self.outputs, self.counts, self.stats, self.work / _STDOUT, self.stderr)


def _prepare(job: Job) -> _Files:
    """Write the inputs, remove what an earlier run left."""
    job.work.mkdir(parents=True, exist_ok=True)
    files = _Files(
        job.work,
        tuple(job.work / f"input{i}.bin" for i in range(len(job.inputs))),
        tuple(job.work / f"output{i}.bin" for i in range(len(job.expected))),
    )
    for path, array in zip(files.inputs, job.inputs, strict=True):
        write_raw(path, array)
    for path in files.written:
        path.unlink(missing_ok=True)
    return files


def _command(job: Job, files: _Files) -> list[str]:
    """Names are relative to the work folder and the seed is fixed, so that the guest's stack is the same everywhere."""
    plugin = str(plugin_path()).replace(",", ",,")  # QEMU's escape in option values
    options = ["-cpu", job.target.qemu.cpu, "-seed", "1", "-0", "program", "-plugin", f"{plugin},out={_COUNTS}"]
    names = [path.name for path in (*files.inputs, *files.outputs)]
    return [_qemu(), *options, str(job.program.resolve()), "--stats", _STATS, *names]


def _execute(job: Job, files: _Files) -> None:
    """Run the program under QEMU until it exits with 0, else raise _Rejected. Raises ToolError if QEMU never ran it.

    Output goes to files: a pipe held open by a grandchild would outlive the timeout. The guest gets an
    empty environment (it lies on its stack), which also keeps QEMU_* variables of the user out.
    """
    with (job.work / _STDOUT).open("wb") as stdout, files.stderr.open("wb") as stderr:
        process = subprocess.Popen(
            _command(job, files),
            cwd=job.work,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(job.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise _Rejected("run", f"did not finish in {job.timeout_s:g} s") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    said = files.stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not files.counts.exists() or (code != 0 and said and said[0].startswith(f"{QEMU}: ")):
        detail = said[-1] if said else f"exit code {code}"
        raise ToolError(f"{QEMU} -cpu {job.target.qemu.cpu} (target {job.target.name}) did not start: {detail}")
    if code < 0:
        raise _Rejected("run", f"killed by {signal.Signals(-code).name}")
    if code != 0:
        raise _Rejected("run", f"exit code {code}: {said[-1] if said else 'nothing on stderr'}")


def _read_outputs(files: _Files, expected: tuple[Array, ...]) -> list[Array]:
    outputs = []
    for path, want in zip(files.outputs, expected, strict=True):
        if not path.exists():
            raise _Rejected("verify", f"the program did not write {path.name}")
        output = read_raw(path, want)
        if output is None:
            size = f"{path.name} has {path.stat().st_size} bytes, expected {want.nbytes}"
            raise _Rejected("verify", f"{size} ({want.dtype} {want.shape})")
        outputs.append(output)
    return outputs


def _read_counts(path: Path) -> dict[str, int]:
    """Executed instructions by class, `unknown` included, of exactly one complete pass through the region."""
    data = _json_object(path, "the counting plugin")
    if data["open"]:
        raise _Rejected("run", "the program ended inside its inference region: LRF_REGION_END was not reached")
    if data["regions"] != 1:
        entered = "never entered" if data["regions"] == 0 else f"entered {data['regions']} times, expected once"
        raise _Rejected("run", f"the inference region (LRF_REGION_BEGIN) was {entered}")
    return {**data["counts"], UNKNOWN_CLASS: data["unknown"]}


def _read_stats(path: Path) -> dict[str, int]:
    """The RAM parts that the program reports: every entry named *_bytes."""
    parts = {name: value for name, value in _json_object(path, "the program").items() if name.endswith("_bytes")}
    if not parts:
        raise _Rejected("run", f"{path.name} holds no entry named *_bytes")
    for name, value in parts.items():
        if type(value) is not int or value < 0:
            raise _Rejected("run", f"{path.name}: {name} must be a number of bytes, got {value!r}")
    return parts


def _json_object(path: Path, writer: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        data = None
    if not isinstance(data, dict):
        raise _Rejected("run", f"{writer} wrote no complete {path.name}")
    return data

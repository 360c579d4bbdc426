"""One thing measured: a model as it is, or a bundle, on one target, emulated or on a board. Keeps no records."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lrf_dse.builders.program import build_with_iree
from lrf_dse.deploy.board import read_bundle
from lrf_dse.deploy.bundle import PROGRAM
from lrf_dse.deploy.whole import MANIFEST
from lrf_dse.errors import RunError, UsageError
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.compress import Compressor
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.reader import read_with
from lrf_dse.models.work import operations
from lrf_dse.pipeline.golden import golden_cases
from lrf_dse.runners.board import Board
from lrf_dse.runners.job import Job
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.runner import runner_for
from lrf_dse.schema import BoardFigures, Failure, Measurement
from lrf_dse.target import Target

_ELF = b"\x7fELF"


@dataclass(frozen=True)
class Profile:
    """What was measured of `subject`."""

    subject: str
    target: str
    runner: str
    measurement: Measurement


def profile_program(
    subject: Path,
    target: Target,
    *,
    board: Board | None = None,
    policy: RepeatPolicy | None = None,
    reading: ReadOptions | None = None,
    seed: int = 0,
    timeout_s: float | None = None,
) -> Profile:
    """Measure a model file (compiled as it is), a bundle's folder, or the program in one: under QEMU, or on `board`.

    Outputs are verified before anything counts: a model's against onnxruntime on a seeded random input, a bundle's
    against its golden output. Raises RunError where that fails, and the errors of reading, building and running.
    """
    measure = runner_for(board, policy)
    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
        work = Path(scratch)
        outcome = measure.run(make_job(subject, target, work, reading=reading, seed=seed, timeout_s=timeout_s))
    if isinstance(outcome, Failure):
        raise RunError(f"{subject}: fails at stage {outcome.stage}: {outcome.reason}")
    return Profile(str(subject), target.name, "qemu" if board is None else "ssh", outcome)


def make_job(
    subject: Path, target: Target, work: Path, *, reading: ReadOptions | None, seed: int, timeout_s: float | None = None
) -> Job:
    """What is to be run for `subject`, with files in `work`: see `profile_program`."""
    job = _bundle_job(subject, target, work) or _model_job(subject, target, work, reading=reading, seed=seed)
    return replace(job, timeout_s=timeout_s)


def _bundle_job(subject: Path, target: Target, work: Path) -> Job | None:
    """The golden run of a bundle's folder or of the program in one; None for any other file."""
    # A program is told by the magic number of ELF; what does not exist is refused by the reader of models, which names
    # it.
    if not subject.exists() or (subject.is_file() and subject.read_bytes()[:4] != _ELF):
        return None
    folder = subject if subject.is_dir() else subject.parent
    if not (folder / MANIFEST).is_file() or (subject.is_file() and subject.name != PROGRAM):
        raise UsageError(f"{subject}: a program without a bundle has no golden output to be verified against")
    bundle = read_bundle(folder)
    inputs = tuple(bundle.inputs.values())
    return Job(bundle.files[PROGRAM], target, inputs, bundle.outputs, work, tolerance=bundle.facts.tolerance)


def _model_job(subject: Path, target: Target, work: Path, *, reading: ReadOptions | None, seed: int) -> Job:
    model = read_with(subject, reading or ReadOptions())
    # No layer is replaced: the model in its canonical form.
    proto = Compressor(model, seed=seed).apply(())
    (inputs,) = golden_cases(model, None, seed=seed, count=1)
    built = build_with_iree(proto, target, work)
    expected = run_once(proto, inputs)
    return Job(
        Path(built.program.path),
        target,
        inputs,
        expected,
        work / "run",
        schedule=built.schedule,
        tolerance=built.schedule.tolerance,
        operations=operations(proto),
    )


def profile_rows(profile: Profile) -> list[tuple[str, str]]:
    """The measurement as (name, value with its unit) in the order of a table; what a runner does not tell is absent."""
    found = profile.measurement
    rows = [("source", found.source)]
    if found.seconds is not None:
        rows.append(("seconds (median)", f"{found.seconds:.6g}"))
    if found.cycles is not None:
        rows.append(("cycles", f"{found.cycles:,.0f}"))
    if found.instructions is not None:
        rows.append(("instructions", f"{found.instructions:,}"))
        rows += [(f"  {name}", f"{count:,}") for name, count in found.counts.items() if count]
    rows += [("flash bytes", f"{found.flash_bytes:,}"), ("RAM bytes", f"{found.ram_bytes:,}")]
    rows += [(f"  {name.removesuffix('_bytes')}", f"{size:,}") for name, size in found.ram_parts.items() if size]
    rows.append(("error of max |y|", f"{found.max_rel_error:.1e}"))
    return rows + ([] if found.board is None else board_rows(found.board))


def board_rows(board: BoardFigures) -> list[tuple[str, str]]:
    """What a board said beside the median; what it does not tell is absent."""
    stable = "" if board.stable else ", not stable"
    rows = [
        ("board", f"{board.host}, Linux {board.kernel}"),
        ("vector registers", f"{board.vlen_bits} bits"),
        ("minimum", f"{board.min_s:.6g} s"),
        ("first inference", f"{board.cold_s:.6g} s"),
        ("spread of the median", f"{100 * board.spread:.2g}% of it over {board.repeats} repeats{stable}"),
    ]
    optional = (
        ("emulator", board.emulator, "{}"),
        ("cores", board.cpus, "{}"),
        ("peak resident bytes", board.peak_resident_bytes, "{:,}"),
        ("frequency before, Hz", board.freq_hz_before, "{:,.0f}"),
        ("frequency after, Hz", board.freq_hz_after, "{:,.0f}"),
        ("temperature before, °C", board.celsius_before, "{:.1f}"),
        ("temperature after, °C", board.celsius_after, "{:.1f}"),
        ("load before", board.load_before, "{:.2f}"),
    )
    return rows + [(name, form.format(value)) for name, value, form in optional if value is not None]

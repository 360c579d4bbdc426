"""The bundle of a plan: everything that a board needs, verified before it is put in place.

The module owns the files of a bundle and their manifest. The program is built, run under QEMU and compared with
onnxruntime on a golden input; only then do the files appear in the output folder.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_dse.builders.program import BUILDERS, BuiltProgram
from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.deploy.instructions import bundle_readme
from lrf_dse.deploy.whole import MANIFEST, SUMS, read_manifest, sums_of, write_manifest
from lrf_dse.errors import RunError, StoreError, UsageError
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.work import operations
from lrf_dse.runners.job import DEFAULT_TOLERANCE, Array, Job, write_raw
from lrf_dse.runners.runner import runner_for
from lrf_dse.runners.stock import run_on_stock_runtime
from lrf_dse.runners.verify import compare
from lrf_dse.schema import Failure, Measurement, Plan
from lrf_dse.sealed import digest_of, flush_file, flush_folder
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

PROGRAM, MODULE, MODEL, README = "model-riscv64", "model.vmfb", "model.onnx", "README"
# Inside the bundle's folder, so that files get into place by renames within one file system.
_SCRATCH = ".building-"


@dataclass(frozen=True, eq=False)
class BundleRequest:
    """What to ship: a plan, its model, and where it came from.

    `cases` are golden inputs, each the whole tensors of one inference in the model's order: all are verified, the first
    one is shipped. `cases_source` says what they are.
    `compiled` is the same model with calls of generated kernels, whose schedules in words are `kernels`, by layer.
    `accuracy` holds what is known of it, by part of the data; `run_facts` are copied into the manifest.
    """

    plan: Plan
    model: onnx.ModelProto
    compiled: onnx.ModelProto
    kernels: Mapping[str, str]
    cases: Sequence[Sequence[Array]]
    cases_source: str
    target: Target
    accuracy: Mapping[str, Any]
    run_facts: Mapping[str, Any]


def write_bundle(request: BundleRequest, out: Path) -> dict[str, Any]:
    """Build, verify and write the bundle into `out`; its manifest. Raises BuildError, RunError or StoreError.

    Files are made in a folder inside `out` and moved into place at the end: an existing bundle is replaced
    only by a whole one. A folder that holds anything but a bundle is refused: its model.onnx is somebody's.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_folder(out)
        with tempfile.TemporaryDirectory(dir=out, prefix=_SCRATCH) as scratch:
            return _write(request, out, Path(scratch))
    except OSError as error:
        raise StoreError(f"{out}: cannot write the bundle: {error.strerror or error}; choose another -o") from error


def _check_folder(out: Path) -> None:
    """Raise StoreError for a folder with files that is no bundle's; an export that was killed leaves half of one."""
    # What a killed export left shows that the folder is a bundle's, even where no manifest is there yet.
    leftovers = list(out.glob(f"{_SCRATCH}*"))
    foreign = next(iter(sorted(path.name for path in out.iterdir())), None)
    if foreign is not None and not leftovers and not _is_bundle(out):
        raise StoreError(f"{out}: holds {foreign} and is no bundle; choose another -o, or an empty folder")
    for folder in leftovers:
        shutil.rmtree(folder)


def _is_bundle(out: Path) -> bool:
    """Whether an export made `out`: it has the manifest or the sums of one, whatever became of its other files."""
    try:
        read_manifest(out)
    except (OSError, UsageError):
        # Names are sorted, so the module is the last one in the list: a list of somebody else's files does not end in
        # it.
        sums = out / SUMS
        return sums.is_file() and sums.read_bytes().rstrip().endswith(f"  {MODULE}".encode())
    return True


def _write(request: BundleRequest, out: Path, scratch: Path) -> dict[str, Any]:
    import onnx

    work, staged = scratch / "work", scratch / "staged"
    work.mkdir()
    (staged / "golden").mkdir(parents=True)
    # The reference is the plain model, whose layers are chains of MatMul; the program has kernels of ours in their
    # place.
    built = BUILDERS[request.plan.builder](request.compiled, request.target, work)
    expected = [run_once(request.model, inputs) for inputs in request.cases]
    measured = _verify(built, request, expected, scratch)
    stock = _verify_on_stock_runtime(request, expected, scratch / "stock")
    onnx.save(request.model, staged / MODEL)
    shutil.copy(built.module().path, staged / MODULE)
    shutil.copy(built.program.path, staged / PROGRAM)
    for kind, arrays in (("input", request.cases[0]), ("output", expected[0])):
        for index, array in enumerate(arrays):
            write_raw(staged / "golden" / f"{kind}{index}.bin", array)
    # The order follows from what lists what: the manifest lists the files so far, the README shows them, the sums list
    # all, and the manifest is written last with the digest of the sums.
    manifest = _manifest(request, built, measured, stock, staged)
    (staged / README).write_text(bundle_readme(manifest), encoding="utf-8")
    sums = sums_of(staged, (*manifest["files"], README))
    (staged / SUMS).write_bytes(sums)
    write_manifest(staged, manifest | {"sums": digest_of(sums)})
    move_into_place(staged, out)
    return read_manifest(out)[0]


def _verify(
    built: BuiltProgram, request: BundleRequest, expected: Sequence[tuple[Array, ...]], work: Path
) -> Measurement:
    """Run the program on every golden input; the first one's figures, with the largest errors. Raises RunError."""
    found: list[Measurement] = []
    for number, (inputs, outputs) in enumerate(zip(request.cases, expected, strict=True), start=1):
        program, run = Path(built.program.path), work / f"run{number}"
        job = Job(
            program,
            request.target,
            tuple(inputs),
            outputs,
            run,
            operations=operations(request.model),
            # Kernels of few bits round their state to half precision and need a wider one.
            tolerance=built.schedule.tolerance,
        )
        outcome = runner_for(None).run(job)
        if isinstance(outcome, Failure):
            raise RunError(
                f"plan {request.plan.id} is not shipped: on golden input {number} it fails at stage {outcome.stage}: "
                f"{outcome.reason}"
            )
        found.append(outcome)
    return replace(
        found[0],
        max_abs_error=max(measured.max_abs_error for measured in found),
        max_rel_error=max(measured.max_rel_error for measured in found),
    )


def _verify_on_stock_runtime(request: BundleRequest, expected: Sequence[tuple[Array, ...]], work: Path) -> float:
    """Run the same network by IREE's own runtime on this machine, as a second witness; the largest relative error.

    Raises RunError where it disagrees.
    """
    work.mkdir()
    vmfb = build_for_stock_runtime(request.compiled, request.target, work)
    largest = 0.0
    for number, (inputs, wanted) in enumerate(zip(request.cases, expected, strict=True), start=1):
        outputs = run_on_stock_runtime(vmfb, inputs, work / f"run{number}", outputs=len(wanted))
        errors = compare(outputs, wanted, tolerance=DEFAULT_TOLERANCE)
        if isinstance(errors, str):
            raise RunError(
                f"plan {request.plan.id} is not shipped: IREE's runtime on this machine disagrees on golden input "
                f"{number}: {errors}"
            )
        largest = max(largest, errors.max_rel)
    return largest


def _manifest(
    request: BundleRequest, built: BuiltProgram, measured: Measurement, stock: float, staged: Path
) -> dict[str, Any]:
    plan, isa = request.plan, request.target.isa
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    return {
        "plan": plan.id,
        "choices": {choice.layer.name: choice.label for choice in plan.choices},
        "kernels": {
            choice.layer.name: {"kernel": choice.kernel, "schedule": request.kernels.get(choice.layer.name)}
            for choice in plan.choices
        },
        "target": {"name": request.target.name, "isa": isa.march, "vlen_bits": isa.vlen_bits},
        "inputs": _ports(request.model.graph.input),
        "outputs": _ports(request.model.graph.output),
        "accuracy": dict(request.accuracy),
        "tolerance": built.schedule.tolerance,
        "latency": {"cycles": plan.cycles, "source": plan.latency_source, "instructions": measured.instructions},
        "flash_bytes": measured.flash_bytes,
        "ram_bytes": measured.ram_bytes,
        "ram_parts": dict(measured.ram_parts),
        "verified": {
            "against": "onnxruntime, the first one on golden/",
            "inputs": len(request.cases),
            "of": request.cases_source,
            "by": measured.source,
            "max_abs_error": measured.max_abs_error,
            "max_rel_error": measured.max_rel_error,
            "on_this_machine": {"by": f"IREE's runtime, {platform.machine()}", "max_rel_error": stock},
        },
        "tool_versions": {**built.program.tool_versions, **_own_versions()},
        "run": dict(request.run_facts),
        "files": {
            str(path.relative_to(staged)): {"bytes": path.stat().st_size, "sha256": digest_of(path.read_bytes())}
            for path in files
        },
    }


def _own_versions() -> dict[str, str]:
    """The versions of lrf-dse and onnxruntime, or "unknown" where a wheel is not installed."""
    versions = {}
    for wheel in ("lrf-dse", "onnxruntime"):
        try:
            versions[wheel] = importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            versions[wheel] = "unknown"
    return versions


def _ports(values: Any) -> list[dict[str, Any]]:
    from onnx import helper

    return [
        {
            "name": value.name,
            "dtype": str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            "shape": [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        }
        for value in values
    ]


def move_into_place(staged: Path, out: Path) -> None:
    """Move every file of `staged` to `out` by a rename. The manifest goes last: where it is, all its files are."""
    names = sorted((path.relative_to(staged) for path in staged.rglob("*") if path.is_file()), key=_manifest_last)
    # If the move is interrupted, this tells the next export that the folder may be cleared (_check_folder).
    half_done = out / f"{_SCRATCH}half-done"
    half_done.mkdir(exist_ok=True)
    for name in names:
        flush_file(staged / name)
    # From here on no bundle is there, until the new manifest is. Flushing in between keeps this order on the disk, too:
    # a crash of the machine must not leave a manifest beside files of the other bundle.
    (out / MANIFEST).unlink(missing_ok=True)
    flush_folder(out)
    (out / "golden").mkdir(exist_ok=True)
    # The older model may have had more inputs.
    for stale in (out / "golden").iterdir():
        stale.unlink()
    for name in names:
        if str(name) == MANIFEST:
            flush_folder(out / "golden")
            flush_folder(out)
        (staged / name).replace(out / name)
    flush_folder(out)
    half_done.rmdir()


def _manifest_last(name: Path) -> tuple[bool, str]:
    return str(name) == MANIFEST, str(name)

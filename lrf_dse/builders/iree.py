"""Run IREE's compiler: ONNX -> HAL IR -> .vmfb.

The module owns the command line of iree-compile. It knows nothing of TT: a candidate is an ONNX model by now. The .vmfb
is made from the same HAL IR that the schedule host reads, so both hold the very same kernel image.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.builders.compiling import run_compiler
from lrf_dse.errors import BuildError, ToolError
from lrf_dse.models.memo import Memo
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

SUPPORTED_VERSION = "3.13"
"""The schedule host follows this release's HAL IR and executable-library ABI."""

_MOST_CPU_S = 3600.0

_IMPORTED_BYTES = 64 << 20
_IMPORTED: Memo[str, bytes] = Memo(_IMPORTED_BYTES, len)
"""Models that were imported lately, by the digest of their ONNX form, because several builders take the same model."""

# One device with one executable target; a list of several would leave open which of them a kernel is for.
_DEVICE = re.compile(r'#hal\.device\.target<"local", \[(#hal\.executable\.target<.*>)\]> : !hal\.device')


def iree_version() -> str:
    """Version of the compiler wheel. Raises ToolError if it is missing."""
    try:
        return importlib.metadata.version("iree-base-compiler")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError("IREE is missing: pip install 'iree-base-compiler[onnx]' (see `lrf-dse doctor`)") from error


def target_flags(target: Target) -> list[str]:
    """The options of iree-compile that make it generate code for the target: a CPU under riscv64 Linux."""
    return [
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-target-triple=riscv64-unknown-linux-gnu",
        f"--iree-llvmcpu-target-abi={target.iree.abi}",
        # Features and no CPU: a CPU of LLVM may bring extensions that the emulator lacks.
        f"--iree-llvmcpu-target-cpu-features={target.iree.cpu_features}",
        # Debug sections would be half of a small module.
        "--iree-llvmcpu-debug-symbols=false",
    ]


def host_flags() -> list[str]:
    """The options of iree-compile that make it generate code for this machine, to be run by IREE's own runtime."""
    return [
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-target-cpu=host",
        "--iree-llvmcpu-debug-symbols=false",
    ]


@cache
def executable_target(flags: tuple[str, ...]) -> str:
    """The #hal.executable.target that iree-compile makes of `flags`, as text; asked once. Raises BuildError."""
    from iree.compiler import ir

    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder, ir.Context():
        asked, answer = Path(folder) / "asked.mlir", Path(folder) / "answer.mlir"
        # The device is made from the flags alone, before anything of the program is looked at.
        asked.write_text("module {}\n", encoding="utf-8")
        options = ["--compile-to=preprocessing", *flags, "-o", answer.name]
        _run([_iree_compile(), asked.name, *options], "iree-compile", cwd=asked.parent)
        module = ir.Module.parse(answer.read_text(encoding="utf-8"))
        ops = [view.operation for view in module.body.operations]
        devices = [str(op.attributes["initial_value"]) for op in ops if op.name == "util.global"]
    match = _DEVICE.fullmatch(devices[0]) if len(devices) == 1 else None
    if match is None:
        raise BuildError(f"iree-compile names no single executable target for its device: {devices}")
    return match.group(1)


def import_onnx(model: onnx.ModelProto, out_dir: Path) -> Path:
    """Write `model` as MLIR in the torch dialect; the path of the file. Raises BuildError."""
    onnx_path, mlir_path = out_dir / "model.onnx", out_dir / "model.mlir"
    content = model.SerializeToString()
    onnx_path.write_bytes(content)  # it stays beside what is made of it: a failure names it
    digest = hashlib.sha256(content).hexdigest()
    known = _IMPORTED.find(digest)
    if known is not None:  # by another builder: what builders differ in comes later
        mlir_path.write_bytes(known)
        return mlir_path
    iree_version()
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx"]
    run_compiler(
        [*importer, onnx_path.name, "-o", mlir_path.name], name="iree-import-onnx", cwd=out_dir, cpu_s=_MOST_CPU_S
    )
    # A larger one is more than the memo holds.
    if mlir_path.stat().st_size <= _IMPORTED_BYTES:
        _IMPORTED.get(digest, mlir_path.read_bytes)
    return mlir_path


def compile_to_hal(mlir_path: Path, target: Target, *, flags: Sequence[str] = ()) -> Path:
    """Compile down to HAL IR with the kernel image inside; the path of the text file. Raises BuildError."""
    hal_path = mlir_path.with_suffix(".hal.mlir")
    options = ["--compile-to=hal", *target_flags(target), *flags]
    run_compiler(
        [_iree_compile(), mlir_path.name, *options, "-o", hal_path.name],
        name="iree-compile",
        cwd=mlir_path.parent,
        cpu_s=_MOST_CPU_S,
    )
    return hal_path


def compile_module(mlir_path: Path, flags: Sequence[str]) -> Path:
    """Compile all the way; the path of the .vmfb. Raises BuildError."""
    vmfb_path = mlir_path.with_suffix(".vmfb")
    run_compiler(
        [_iree_compile(), mlir_path.name, *flags, "-o", vmfb_path.name],
        name="iree-compile",
        cwd=mlir_path.parent,
        cpu_s=_MOST_CPU_S,
    )
    return vmfb_path


def assemble_vmfb(hal_path: Path, target: Target) -> Path:
    """Finish the compilation that `compile_to_hal` began; the path of the .vmfb. Raises BuildError."""
    vmfb_path = hal_path.parent / "model.vmfb"
    # The flags of the first half, so that what is left of the compilation is done for the same device.
    flags = ["--compile-from=hal", *target_flags(target)]
    run_compiler(
        [_iree_compile(), hal_path.name, *flags, "-o", vmfb_path.name],
        name="iree-compile",
        cwd=hal_path.parent,
        cpu_s=_MOST_CPU_S,
    )
    return vmfb_path


def _iree_compile() -> str:
    iree_version()
    spec = importlib.util.find_spec("iree.compiler")
    for folder in spec.submodule_search_locations or [] if spec else []:
        # The program itself: the script of the wheel would start Python first.
        program = Path(folder) / "_mlir_libs" / "iree-compile"
        if program.is_file():
            return str(program)
    raise ToolError("the iree-base-compiler wheel holds no iree-compile: reinstall it (see `lrf-dse doctor`)")


def _run(command: Sequence[str], name: str, *, cwd: Path) -> None:
    run_compiler(command, name=name, cwd=cwd, cpu_s=_MOST_CPU_S)

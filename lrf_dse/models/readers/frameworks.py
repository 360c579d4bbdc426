"""Readers of what other frameworks write: each checks the file, and has it converted in a process of its own.

.keras .h5     Keras 3 and 2, in safe mode        tf2onnx
a folder       a SavedModel of TensorFlow         tf2onnx
.tflite        TensorFlow Lite                    tf2onnx
.pt2           a program of torch.export          extra "torch"
.skops         a model of scikit-learn            extra "sklearn"
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from lrf_dse.errors import ModelError, ToolError, ToolTimeout
from lrf_dse.models.readers.archive import check_archive, check_folder, check_hdf5, check_keras
from lrf_dse.models.readers.onnx_file import read_onnx
from lrf_dse.models.readers.source import Source
from lrf_dse.process import Limit, run

MOST_CPU_S = 900.0
"""Seconds of processor time that a conversion may take: a model of 1 GB takes minutes."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}


@dataclass(frozen=True)
class Framework:
    """A ModelReader of one framework's files.

    `modules` are what its conversion imports; `extra` is the extra that installs them, None if every installation has
    them. `check` looks at the file before the framework opens it.
    """

    name: str
    conversion: str
    modules: tuple[str, ...]
    extra: str | None
    check: Callable[[Path], None]

    def __call__(self, path: Path) -> Source:
        """The model in `path`, converted. Raises ModelError naming it, ToolError naming the missing extra."""
        missing = [module for module in self.modules if find_spec(module) is None]
        if missing:
            install = f"lrf-dse[{self.extra}]" if self.extra else "lrf-dse"
            raise ToolError(f"{path}: reading {self.name} needs {missing[0]}; install it with: pip install '{install}'")
        self.check(path)
        with tempfile.TemporaryDirectory(prefix="lrf-dse-") as scratch:
            out = Path(scratch) / "model.onnx"
            _convert(self, path, out)
            source = read_onnx(out)
        return Source(source.proto, _digest(path), (f"converted from {self.name}",))


def _convert(framework: Framework, path: Path, out: Path) -> None:
    # `python -m` looks for modules in the current folder first. The conversion runs in an empty one, so that no file
    # beside the model is imported in the place of a framework's module; its paths must be absolute for that.
    command = [sys.executable, "-m", "lrf_dse.models.readers.conversion", framework.conversion]
    try:
        done = run(
            [*command, str(path.resolve()), str(out)],
            name=f"converting {framework.name}",
            limit=Limit(cpu_s=MOST_CPU_S),
            cwd=out.parent,
            env=os.environ | _QUIET,
        )
    except ToolTimeout as error:
        raise ModelError(f"{path}: {error}; export it to ONNX") from error
    if done.code or not out.is_file():
        raise ModelError(f"{path}: cannot be read as {framework.name}: {_last_words(done.stderr, done.code)}")


def _last_words(stderr: str, code: int) -> str:
    """The last line of a traceback that says something, or how the process ended."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # The line of a traceback that says the reason has the form "SomeError: ..."; other lines may stand around it.
    errors = [line for line in lines if re.match(r"[\w.]+: ", line)]
    if code < 0:
        return f"the framework crashed (signal {-code}); is the file damaged?"  # subprocess gives minus the signal
    return (errors or lines or ["no reason given"])[-1][:300]


def _digest(path: Path) -> str:
    """The sha256 of the file, or of the names and contents of all files of a folder."""
    if path.is_file():
        return sha256(path.read_bytes()).hexdigest()
    digest = sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path)}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _any_file(_: Path) -> None:
    """Nothing to check: the format holds no files and no code."""


_TF2ONNX = ("keras", "tensorflow", "tf2onnx")

KERAS = Framework("a Keras model", "keras", _TF2ONNX, None, check_keras)
KERAS_H5 = Framework("a Keras model", "keras", _TF2ONNX, None, check_hdf5)
SAVED_MODEL = Framework("a SavedModel", "saved_model", _TF2ONNX, None, check_folder)
TFLITE = Framework("a TensorFlow Lite model", "tflite", _TF2ONNX, None, _any_file)
TORCH = Framework("a torch.export program", "torch", ("torch", "onnxscript"), "torch", check_archive)
SKOPS = Framework("a scikit-learn model", "skops", ("skops", "skl2onnx", "sklearn"), "sklearn", check_archive)

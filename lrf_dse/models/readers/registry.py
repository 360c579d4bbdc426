"""Which reader reads which file, and what is refused with the line that exports it."""

from __future__ import annotations

from pathlib import Path

from lrf_dse.errors import ModelError
from lrf_dse.models.readers import frameworks
from lrf_dse.models.readers.onnx_file import read_onnx
from lrf_dse.models.readers.source import ModelReader, Source

READERS: dict[str, ModelReader] = {
    ".onnx": read_onnx,
    ".keras": frameworks.KERAS,
    ".h5": frameworks.KERAS_H5,
    ".hdf5": frameworks.KERAS_H5,
    ".tflite": frameworks.TFLITE,
    ".pt2": frameworks.TORCH,
    ".skops": frameworks.SKOPS,
}
"""By suffix, in lower case. The folder of a SavedModel has none."""

SAVED_MODEL_FILE = "saved_model.pb"

_PICKLE = "it is a pickle, which can run code when it is opened"
_WEIGHTS = "it holds weights without the network"
_TORCH_EXPORT = 'torch.export.save(torch.export.export(model.eval(), (example,)), "model.pt2")'

EXPORTED: dict[str, tuple[str, str]] = {
    ".pt": (_PICKLE, _TORCH_EXPORT),
    ".pth": (_PICKLE, _TORCH_EXPORT),
    ".bin": (_PICKLE, _TORCH_EXPORT),
    ".ckpt": (_PICKLE, _TORCH_EXPORT),
    ".safetensors": (_WEIGHTS, "load them into the model, then " + _TORCH_EXPORT),
    ".gguf": (_WEIGHTS, "optimum-cli export onnx --model NAME FOLDER, from the model that it was made of"),
    ".pkl": (_PICKLE, 'skops.io.dump(model, "model.skops") for scikit-learn'),
    ".pickle": (_PICKLE, 'skops.io.dump(model, "model.skops") for scikit-learn'),
    ".joblib": (_PICKLE, 'skops.io.dump(model, "model.skops") for scikit-learn'),
    ".pb": ("it is one file of a SavedModel, or a frozen graph", "give the folder of the SavedModel"),
    ".mlmodel": ("Core ML has no way to ONNX", "export the model from where it was trained"),
    ".mlpackage": ("Core ML has no way to ONNX", "export the model from where it was trained"),
    ".ort": ("it is onnxruntime's own format", "give the .onnx file that it was made of"),
}
"""Formats that are refused: why, and the line that gives a file that is read."""


def read_source(path: Path) -> Source:
    """The model in `path` in ONNX, by the reader of its suffix. Raises ModelError naming the file, or ToolError."""
    if not path.exists():
        raise ModelError(f"{path}: no such file; check the path of the model")
    # The one format that is a folder: its name may have any suffix, so that its content is asked first.
    if path.is_dir() and (path / SAVED_MODEL_FILE).is_file():
        return frameworks.SAVED_MODEL(path)
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file, nor the folder of a SavedModel; give the model file itself")
    suffix = path.suffix.lower()
    if suffix in EXPORTED:
        why, line = EXPORTED[suffix]
        raise ModelError(f"{path}: {suffix} is not read: {why}; export it: {line}")
    reader = READERS.get(suffix)
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise ModelError(f"{path}: unknown model suffix {path.suffix or '(none)'!r}; supported are {known}, SavedModel")
    return reader(path)

"""Convert a model file of another framework to ONNX, in a process of its own: `python -m` this module.

The frameworks take seconds and gigabytes to load, and a damaged file may end their process: the reader that started it
then says so in one line. The arguments are a kind, the file, and where the ONNX goes. What goes wrong leaves as a
traceback on standard error, whose last line the reader shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPSET = 17
"""The opset that Keras, tf2onnx and skl2onnx are asked to write; tf2onnx writes up to 18."""

TORCH_OPSET = 18
"""The oldest that torch's exporter writes."""

FORBIDDEN = frozenset(("EagerPyFunc", "MatchingFiles", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile"))
"""TensorFlow operations that run code or touch files: a model that computes has no use for them."""

HARMLESS = frozenset(
    f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")
)
"""What a trained network of scikit-learn holds and skops does not know: the state of its optimiser, plain arrays."""


def convert_keras(path: Path, out: Path) -> None:
    """A .keras archive or an .h5 file, in Keras' safe mode: layers that hold code are refused."""
    import keras
    import numpy as np

    # A Lambda layer holds Python bytecode, which the safe mode refuses. Without `compile` no optimiser or loss is
    # built.
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    # Without a call Keras does not know the signature of a Sequential that was read.
    zeros = [np.zeros([1 if size is None else size for size in x.shape], x.dtype) for x in model.inputs]
    if isinstance(model, keras.Sequential):
        model(zeros[0])
    model.export(out, format="onnx", verbose=False, opset_version=OPSET)


def convert_saved_model(path: Path, out: Path) -> None:
    """The folder of a SavedModel; refused if it holds an operation that touches files or runs code."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    for meta in saved.meta_graphs:
        functions = [node for function in meta.graph_def.library.function for node in function.node_def]
        found = sorted({node.op for node in (*meta.graph_def.node, *functions)} & FORBIDDEN)
        if found:
            raise ValueError(f"it holds {', '.join(found)}, which can touch files or run code; refused")
    _tf2onnx("--saved-model", path, out)


def convert_tflite(path: Path, out: Path) -> None:
    """A TensorFlow Lite file, float or quantised; refused if it keeps variables from one inference to the next."""
    from tensorflow.lite.python import schema_py_generated as schema

    # VAR_HANDLE opens a variable that outlives the inference; one inference is all that is judged and compiled here.
    codes = schema.ModelT.InitFromPackedBuf(path.read_bytes()).operatorCodes or []
    if any(code.builtinCode == schema.BuiltinOperator.VAR_HANDLE for code in codes):
        raise ValueError("it keeps a state from one inference to the next; export the model without streaming")
    _tf2onnx("--tflite", path, out)


def _tf2onnx(option: str, path: Path, out: Path) -> None:
    from tf2onnx import convert

    sys.argv = ["tf2onnx", option, str(path), "--output", str(out), "--opset", str(OPSET)]
    convert.main()


def convert_torch(path: Path, out: Path) -> None:
    """A program that torch.export.save wrote; nothing in it is unpickled but tensors."""
    import torch

    real = torch.load

    def only_tensors(*arguments: Any, **options: Any) -> Any:
        # torch.export.load tries again without weights_only where that fails: that would run code of the file.
        return real(*arguments, **options | {"weights_only": True})

    torch.load = only_tensors
    program = torch.export.load(path)
    exported = torch.onnx.export(program, dynamo=True, external_data=False, opset_version=TORCH_OPSET, verbose=False)
    assert exported is not None, "with dynamo and without a file there is a program"
    exported.save(out)


def convert_skops(path: Path, out: Path) -> None:
    """A scikit-learn model that skops wrote; refused if it holds a type that skops does not trust."""
    import skops.io
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    types = skops.io.get_untrusted_types(file=path)
    unknown = sorted(set(types) - HARMLESS)
    if unknown:
        raise ValueError(f"it holds types that are not trusted: {', '.join(unknown)}; refused")
    model = skops.io.load(path, trusted=types)
    # scikit-learn's models know how many features they read, but no types: all features are one float32 tensor.
    inputs = [("x", FloatTensorType([None, model.n_features_in_]))]
    # By default skl2onnx gives the scores of a classifier as a sequence of maps, which no board can have as a result.
    options = {id(model): {"zipmap": False}} if is_classifier(model) else None
    out.write_bytes(to_onnx(model, initial_types=inputs, options=options, target_opset=OPSET).SerializeToString())


CONVERSIONS: dict[str, Callable[[Path, Path], None]] = {
    "keras": convert_keras,
    "saved_model": convert_saved_model,
    "skops": convert_skops,
    "tflite": convert_tflite,
    "torch": convert_torch,
}

if __name__ == "__main__":
    CONVERSIONS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))

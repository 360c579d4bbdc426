"""Run a model with onnxruntime: its outputs for many samples, or for one inference.

Owns how samples become inferences (slices of the model's batch). It reads no file and knows no metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError, ModelError
from lrf_dse.models.batch import common_size, written_batch
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import TensorSpec

if TYPE_CHECKING:
    import onnx
    import onnxruntime


FATAL = 4
"""onnxruntime logs nothing below this to stderr; what matters comes as an exception."""

SMALL_BYTES = 16 << 20
"""A smaller model is not worth threads, which spin while they wait for each other: a transformer of 1 MB took 0.37 s of
processor time for 2,000 samples on one thread and 1.2 s on two, on two cores with other work."""


def outputs(model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every output of `model` for all samples in `inputs`, by name.

    `inputs` holds one array per model input, samples along axis 0. A model of batch B runs on slices of B
    samples, the last one padded with copies of its last sample and cut afterwards; a model without a batch
    dimension runs once per sample. Outputs have samples along axis 0 too. Raises ModelError if onnxruntime
    refuses the model.
    """
    session = session_of(model)
    batch = batch_in(model, session)
    samples = len(next(iter(inputs.values())))
    step = batch or 1
    parts: list[list[NDArray[Any]]] = []
    for start in range(0, samples, step):
        feed = {name: _slice(values, start, batch) for name, values in inputs.items()}
        parts.append(run_slice(session, feed, start))
    join = np.stack if batch is None else np.concatenate
    names = [output.name for output in session.get_outputs()]
    return {name: join([part[k] for part in parts])[:samples] for k, name in enumerate(names)}


def run_once(model: onnx.ModelProto, inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
    """The outputs of one inference, in the model's order: the reference that compiled programs are checked against.

    `inputs` are whole tensors in the model's order. Raises ModelError if onnxruntime refuses the model.
    """
    session = session_of(model)
    feed = {spec.name: values for spec, values in zip(session.get_inputs(), inputs, strict=True)}
    try:
        return tuple(np.asarray(value) for value in session.run(None, feed))
    except _refusals() as error:
        raise ModelError(f"the model does not run in onnxruntime: {_one_line(error)}") from error


def first_output(model: onnx.ModelProto, dataset: Dataset) -> NDArray[Any]:
    """The first output for every sample of `dataset` [samples, ...], which is what metrics judge."""
    return next(iter(outputs(model, dataset.x).values()))


def run_session(session: onnxruntime.InferenceSession, feed: Mapping[str, NDArray[Any]]) -> list[Any]:
    """All outputs of one inference. Raises ModelError if the model cannot run."""
    try:
        return list(session.run(None, dict(feed)))
    except _refusals() as error:
        raise ModelError(f"onnxruntime cannot run the model: {' '.join(str(error).split())}") from error


def run_slice(
    session: onnxruntime.InferenceSession,
    feed: dict[str, NDArray[Any]],
    start: int,
    names: Sequence[str] | None = None,
) -> list[NDArray[Any]]:
    """The values `names` of one run, by default all outputs: what they do not need is not computed.

    Raises DataError, naming sample `start`, if it fails.
    """
    from onnxruntime import RunOptions

    options = RunOptions()
    # Without this onnxruntime runs every node, whatever outputs are asked for.
    options.only_execute_path_to_fetches = names is not None
    try:
        return [np.asarray(value) for value in session.run(names, feed, options)]
    except _refusals() as error:
        raise DataError(f"the model cannot run on sample {start}: {_one_line(error)}") from error


def _slice(values: NDArray[Any], start: int, batch: int | None) -> NDArray[Any]:
    if batch is None:
        sample: NDArray[Any] = values[start]
        return sample
    part = values[start : start + batch]
    # The batch is fixed in the graph: a part that is too short is filled up, and the copies are cut off afterwards.
    missing = batch - len(part)
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def session_of(
    model: onnx.ModelProto, *, optimise: bool = True, weights_bytes: int = 0
) -> onnxruntime.InferenceSession:
    """`model` ready to run, silent; a small one on one thread. Raises ModelError if onnxruntime refuses it.

    `weights_bytes` is the size of the weights that are not in it and that it will be fed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    serialised = model.SerializeToString()
    if len(serialised) + weights_bytes < SMALL_BYTES:
        options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise ModelError(f"onnxruntime refuses the model: {_one_line(error)}") from error


def _refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: exceptions of its own without a common base, and RuntimeError for what its C++ throws.

    MemoryError: a size in the model that no machine has.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # InvalidArgument, Fail, InvalidGraph and some ten more, each derived from Exception itself.
    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def batch_in(model: onnx.ModelProto, session: onnxruntime.InferenceSession) -> int | None:
    """The samples in one inference of `model`: as its metadata says, else the size that all axes 0 have."""
    said, batch = written_batch(model)
    return batch if said else common_size(*_specs(session))


def _specs(session: onnxruntime.InferenceSession) -> tuple[list[TensorSpec], list[TensorSpec]]:
    def spec(value: onnxruntime.NodeArg) -> TensorSpec:
        return TensorSpec(value.name, tuple(size if isinstance(size, int) else -1 for size in value.shape), value.type)

    return [spec(value) for value in session.get_inputs()], [spec(value) for value in session.get_outputs()]

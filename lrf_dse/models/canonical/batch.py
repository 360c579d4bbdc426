"""Which axis of a model holds samples: only where the model or the user says so, or where samples are shown not to mix.

A wrong guess is silent: tokens of one sequence, taken for samples, are shuffled by the split of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.batch import common_size
from lrf_dse.models.canonical.axes import BATCH_NAME
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.evaluate import run_session, session_of
from lrf_dse.models.model import TensorSpec

if TYPE_CHECKING:
    import onnx

_TOLERANCE = 1e-5
"""How far results may differ, relative to max |y|: kernels for another number of rows sum in another order."""


def batch_of(
    proto: onnx.ModelProto,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    options: ReadOptions,
    symbols: Mapping[str, str],
) -> int | None:
    """The number of samples in one inference, None where one inference is one sample.

    It is the size of axis 0 of every input and output if they agree, and either it is 1, the user gave it, `symbols`
    (of axis 0, by input) has a name that says so, or what one sample holds changes no other sample's results.
    """
    size = common_size(inputs, outputs)
    if size is None or size == 1:
        return size
    says_so = bool(symbols) and all(BATCH_NAME.fullmatch(symbols.get(spec.name, "")) for spec in inputs)
    if options.batch == size or says_so or not _mixes(proto, inputs, size):
        return size
    return None


def _mixes(proto: onnx.ModelProto, inputs: Sequence[TensorSpec], size: int) -> bool:
    """Whether another sample in the same inference changes a sample's results; true where the model cannot run."""
    random = np.random.default_rng(0)
    first, second = ({spec.name: _drawn(spec, random) for spec in inputs} for _ in range(2))
    try:
        session = session_of(proto)
        alone = run_session(session, first)
        # The first and the last sample: where results depend on earlier rows alone (a causal sequence), only the last
        # shows it.
        for kept in {0, size - 1}:
            mixed = {name: values.copy() for name, values in second.items()}
            for name, values in mixed.items():
                values[kept] = first[name][kept]
            for a, b in zip(alone, run_session(session, mixed), strict=True):
                if not _agree(a[kept], b[kept]):
                    return True
    except ModelError:
        return True
    return False


def _drawn(spec: TensorSpec, random: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return random.standard_normal(spec.shape).astype(dtype)
    return random.integers(0, 2, spec.shape).astype(dtype)  # an index or a mask: 0 and 1 are in range


def _agree(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    return bool(np.allclose(a, b, rtol=0, atol=_TOLERANCE * max(scale, 1e-30), equal_nan=True))

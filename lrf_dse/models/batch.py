"""The number of samples in one inference of a model, and how a model file says so.

The answer stands in the model's metadata: whatever is made from a model is cut into samples in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf_dse.models.model import TensorSpec

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

BATCH_KEY = "lrf_dse.batch"
"""The metadata that holds the batch: its size, or NO_BATCH."""

NO_BATCH = "none"


def common_size(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> int | None:
    """The size of axis 0 of every input and output, if they all agree, else None.

    An input of one dimension is one sample, not a batch of numbers.

    >>> common_size([TensorSpec("x", (4, 784), "float32")], [TensorSpec("y", (4, 10), "float32")])
    4
    >>> common_size([TensorSpec("x", (784,), "float32")], [TensorSpec("y", (10,), "float32")]) is None
    True
    """
    if any(len(spec.shape) < 2 for spec in inputs) or any(not spec.shape for spec in outputs):
        return None
    sizes = {spec.shape[0] for spec in (*inputs, *outputs)}
    return sizes.pop() if len(sizes) == 1 else None


def write_batch(model: ir.Model, batch: int | None) -> None:
    """Say in the metadata of `model` what its batch is."""
    model.metadata_props[BATCH_KEY] = NO_BATCH if batch is None else str(batch)


def written_batch(proto: onnx.ModelProto) -> tuple[bool, int | None]:
    """Whether the metadata of `proto` says what its batch is, and the batch."""
    text = next((entry.value for entry in proto.metadata_props if entry.key == BATCH_KEY), None)
    return text is not None and (text == NO_BATCH or text.isdecimal()), int(text) if text and text.isdecimal() else None

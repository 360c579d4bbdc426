"""What the integers of a quantised model stand for: (q - zero) scale, and the range that they can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.canonical.emit import Emitter
from lrf_dse.models.constants import resolve

if TYPE_CHECKING:
    import onnx_ir as ir


def within(emit: Emitter, value: Any, scale: ir.Value | None, zero: ir.Value | None) -> Any:
    """`value`, clipped where its integers stand for numbers from 0 on: a quantiser leaves out a ReLU before them."""
    step, offset = resolve(scale), resolve(zero)
    if step is None or step.array().size != 1 or (zero is not None and offset is None):
        return value
    kind = np.dtype(np.uint8) if offset is None else offset.array().dtype
    low = 0 if offset is None else int(offset.array().ravel()[0])
    # Only a zero point at the end of the range is a ReLU. Another range clips where the quantiser saw no values, which
    # is a part of the rounding and goes with it.
    if kind.kind not in "iu" or low != np.iinfo(kind).min:
        return value
    high = float(step.array().ravel()[0]) * (np.iinfo(kind).max - low)
    return emit.op("Clip", value, emit.constant(0.0, "low"), emit.constant(high, "high"))


def floats_of(emit: Emitter, value: ir.Value | None, zero: ir.Value | None, scale: ir.Value | None = None) -> Any:
    """(value - zero) scale of a constant, with scales along its last axis; an activation as it is."""
    constant = resolve(value)
    if constant is None:
        return value
    # Affine quantisation, as in ONNX's DequantizeLinear and Jacob et al., arXiv 1712.05877, equation 1.
    numbers = constant.array().astype(np.float32)
    for operand, join in ((zero, np.subtract), (scale, np.multiply)):
        known = resolve(operand)
        if operand is not None and known is None:
            return None
        if known is not None:
            numbers = join(numbers, along(known.array().astype(np.float32), numbers.shape))
    return emit.constant(numbers.astype(np.float32), "weight")


def along(factors: NDArray[Any], shape: tuple[int, ...], axis: int = -1) -> NDArray[Any]:
    """One factor, or one for each place of `axis`, so that it multiplies an array of `shape`."""
    if factors.size == 1:
        return factors.reshape(())
    sizes = [1] * len(shape)
    sizes[axis] = factors.size
    return factors.reshape(sizes)


def unpacked(values: NDArray[Any], bits: int | None) -> NDArray[np.float32]:
    """Bytes as numbers; of two 4-bit ones in a byte the lower half is first."""
    if bits == 8:
        return values.astype(np.float32)
    return np.stack([values & 0x0F, values >> 4], axis=-1).reshape(*values.shape[:-1], -1).astype(np.float32)

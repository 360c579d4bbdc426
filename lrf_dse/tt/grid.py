"""The grids that weights are stored on: what int8, int4 and fp16 make of a matrix, and back.

Owns the formats. A stage's matrix A [rows, K] is stored as

    fp16   IEEE half precision
    int8   codes -127..127, one fp32 scale for each row
    int4   codes -8..7, one fp16 scale for each row and group of 32 along K (the last group may be shorter)

Scales are chosen here, by a search over clipping; which code an element gets may be decided elsewhere
(`lrf_dse.tt.feedback`). An int4 scale may be negative: then the group's largest element gets code -8, not 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Storage

FloatArray = NDArray[np.float64]
Real = TypeVar("Real", bound=np.floating)

GROUP = 32
"""Elements along K that share an int4 scale: ONNX's and llama.cpp's usual block."""

LARGEST_HALF = float(np.finfo(np.float16).max)

CODES: dict[Storage, tuple[int, int]] = {"int8": (-127, 127), "int4": (-8, 7)}
"""The least and the largest code of the integer storages."""

CLIPS: dict[Storage, tuple[float, ...]] = {
    "int8": (1.0, 0.95, 0.9, 0.85, 0.8),
    "int4": (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6),
}
"""Shares of the largest element that a scale may be made for. With few codes it pays to cut the largest off."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A matrix [rows, K] as it is stored.

    `codes` [rows, K] are int8 (int4's as well), or the values themselves for fp16 and fp32. `scales` are [rows, 1]
    float32 for int8, [rows, groups] float16 for int4, None without scales.
    """

    storage: Storage
    codes: NDArray[np.generic]
    scales: NDArray[np.floating] | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The matrix [rows, K] that the stored numbers stand for: code times scale, in single precision."""
        if self.scales is None:
            return np.asarray(self.codes, np.float32)
        scales: NDArray[np.float32] = spread(self.scales.astype(np.float32), self.codes.shape[1])
        return np.asarray(self.codes, np.float32) * scales


def spread(scales: NDArray[Real], columns: int) -> NDArray[Real]:
    """Scales [rows, groups] (or what else belongs to groups) as one for each of `columns` elements of a row."""
    if scales.shape[1] == 1:
        return np.broadcast_to(scales, (len(scales), columns))
    return np.repeat(scales, GROUP, axis=1)[:, :columns]


def nearest(matrix: NDArray[np.floating], storage: Storage, importance: NDArray[np.floating] | None = None) -> Stored:
    """A [rows, K] with every element at the nearest point of the grid.

    `importance` [K] weighs the squared errors by which scales are chosen, all alike by default.
    """
    if storage == "fp32":
        return Stored(storage, np.asarray(matrix, np.float32))
    if storage == "fp16":
        return Stored(storage, to_half(matrix))
    scales = scales_of(matrix, storage, importance)
    return Stored(storage, codes_of(matrix, spread(scales.astype(np.float32), matrix.shape[1]), storage), scales)


def to_half(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """A in half precision. What is beyond its range is cut off there, an error like that of any rounding."""
    return np.asarray(np.clip(matrix, -LARGEST_HALF, LARGEST_HALF), np.float16)


def codes_of(matrix: NDArray[np.floating], scales: NDArray[np.floating], storage: Storage) -> NDArray[np.int8]:
    """The nearest codes of elements, `scales` one for each; a scale of 0 gives code 0."""
    low, high = CODES[storage]
    wide = np.asarray(scales, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(wide == 0, 0.0, matrix / wide)
    return np.clip(np.rint(ratio), low, high).astype(np.int8)


def scales_of(
    matrix: NDArray[np.floating], storage: Storage, importance: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    """The scales of A [rows, K], each the one of CLIPS (for int4 of either sign) with the least squared error."""
    rows, columns = matrix.shape
    size = columns if storage == "int8" else GROUP
    groups = -(-columns // size)
    padded = np.zeros((rows, groups * size))
    padded[:, :columns] = matrix
    blocks = padded.reshape(rows, groups, size)
    weighed = np.zeros(groups * size)
    weighed[:columns] = 1.0 if importance is None else importance
    return _best_scales(blocks, weighed.reshape(groups, size), storage)


def _best_scales(blocks: FloatArray, importance: FloatArray, storage: Storage) -> NDArray[np.floating]:
    """The scales [rows, groups] of blocks [rows, groups, size]."""
    low, high = CODES[storage]
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)[..., 0]
    as_stored = _to_single if storage == "int8" else _to_small_half
    # The largest element at the largest code of its side, or (where -8 is one more than 7) at the one of the other.
    ends = (high,) if -low == high else (high, low)
    best, least = as_stored(np.zeros(largest.shape)), np.full(largest.shape, np.inf)
    work = np.empty(blocks.shape)
    for end in ends:
        for clip in CLIPS[storage]:
            scales = as_stored(clip * largest / end)
            error = _squared_error(blocks, scales.astype(np.float64)[..., None], importance, (low, high), work=work)
            better = error < least
            best, least = np.where(better, scales, best), np.where(better, error, least)
    return best


def _squared_error(
    blocks: FloatArray, scales: FloatArray, importance: FloatArray, limits: tuple[int, int], *, work: FloatArray
) -> FloatArray:
    """The weighed squared error [rows, groups] of the nearest codes, by way of `work`: as `codes_of` has them."""
    np.divide(blocks, np.where(scales == 0, np.inf, scales), out=work)
    np.rint(work, out=work)
    np.minimum(np.maximum(work, limits[0], out=work), limits[1], out=work)
    work *= scales
    np.subtract(blocks, work, out=work)
    np.square(work, out=work)
    return np.asarray(np.einsum("rgs,gs->rg", work, importance))


def _to_small_half(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Half precision that stays within its range when a code multiplies it: kernels may do so in half precision."""
    most = LARGEST_HALF / -CODES["int4"][0]
    return to_half(np.clip(values, -most, most))


def _to_single(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values.astype(np.float32)

"""The grids of few bits in a rewritten model, and rounding to train through.

Rounding has no slope. In training it has that of the identity within the range of the codes and none beyond it (the
straight-through estimator, Bengio et al. 2013), and a scale has the slope of what rounding made with it (learned step
size, Esser et al. 2020). A scale is trained as the logarithm of how much it grew, so that a step of the optimiser
changes scales of any size alike. The formats are those of `lrf_dse.tt.grid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.finetune.recover import positions_of, shapes_of
from lrf_dse.models.compress import replaced
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.values import constants
from lrf_dse.schema import Storage
from lrf_dse.tt.contraction import core_of
from lrf_dse.tt.grid import CODES, LARGEST_HALF, Stored, codes_of, spread, to_half

Array = NDArray[Any]
Tensor = Any


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid that one constant lies on: `scales` [n] as they are stored, and `places`, the scale of each element.

    fp16 has neither.
    """

    storage: Storage
    scales: NDArray[np.floating] | None = None
    places: NDArray[np.int32] | None = None

    @property
    def elementwise(self) -> NDArray[np.float32]:
        """The scale of each element, in the shape of the constant. Not for fp16."""
        assert self.scales is not None and self.places is not None
        return self.scales.astype(np.float32)[self.places]

    def snapped(self, values: Array) -> Array:
        """`values` at the nearest points of the grid: exactly what codes and scales stand for, float32."""
        if self.scales is None:
            return np.asarray(to_half(values), np.float32)
        wide = self.elementwise
        return codes_of(values, wide, self.storage).astype(np.float32) * wide


class TrainableGrid:
    """A grid whose scales are trained. `growth` [n] is the variable, None for fp16."""

    def __init__(self, grid: Grid) -> None:
        import tensorflow as tf

        self.growth = None if grid.scales is None else tf.Variable(np.zeros(grid.scales.shape, np.float32))
        self._grid = grid

    def rounded(self, value: Tensor) -> Tensor:
        """`value` on the grid of now, with the slopes that training goes by. A scale of zero gives zeros."""
        import tensorflow as tf

        if self.growth is None:
            return _half(value)
        low, high = CODES[self._grid.storage]
        scales = tf.gather(self._scales(), self._grid.places)
        ratio = tf.clip_by_value(tf.math.divide_no_nan(value, scales), low, high)
        # The slope by a scale is then round(v / s) - v / s inside the range and the last code beyond it: equation 3 of
        # Esser et al. (arXiv 1902.08153).
        return tf.grad_pass_through(tf.round)(ratio) * scales

    def now(self) -> Grid:
        """The grid with its scales as training made them, in the type in which they are stored."""
        if self.growth is None or self._grid.scales is None:
            return self._grid
        return replace(self._grid, scales=self._scales().numpy().astype(self._grid.scales.dtype))

    def _scales(self) -> Tensor:
        """The scales [n] of now in single precision, with no more digits than are stored."""
        import tensorflow as tf

        assert self._grid.scales is not None
        grown = self._grid.scales.astype(np.float32) * tf.exp(self.growth)
        # int8 scales are stored in fp32, int4 scales in fp16 (`tt.grid`).
        return _half(grown) if self._grid.storage == "int4" else grown


def _half(value: Tensor) -> Tensor:
    """`value` rounded to half precision, with the slope of the identity; what is beyond its range is cut off there."""
    import tensorflow as tf

    cut = tf.clip_by_value(value, -LARGEST_HALF, LARGEST_HALF)
    return tf.grad_pass_through(lambda x: tf.cast(tf.cast(x, tf.float16), tf.float32))(cut)


def grids_of(model: Model, replacements: Mapping[str, Replacement]) -> dict[str, Grid]:
    """The grids of the constants of `replaced(model, replacements)` that hold factors in few bits, by name."""
    rounded = {layer: made.stored for layer, made in replacements.items() if made.stored is not None}
    before = constants(replaced(model, replacements)) if rounded else {}
    found = {}
    for layer, stored in rounded.items():
        places, scales = _numbered(stored, shapes_of(model, layer, replacements[layer]))
        for name, positions in positions_of(model, replacements, layer, before).items():
            found[name] = Grid("fp16") if scales is None else _own(stored[0].storage, scales, places[positions])
    return found


def _own(storage: Storage, scales: Array, places: Array) -> Grid:
    """The grid of one constant, with no scales but its own."""
    used, own = np.unique(places, return_inverse=True)
    return Grid(storage, scales[used], own.reshape(places.shape).astype(np.int32))


def _numbered(stored: Sequence[Stored], shapes: Sequence[tuple[int, ...]]) -> tuple[Array, Array | None]:
    """Which scale every element of a layer's factors has, counted through in the order of cores; and all scales."""
    scales = [one.scales for one in stored if one.scales is not None]
    if not scales:
        return np.zeros(0, np.int64), None
    places, count = [], 0
    for one, own, shape in zip(stored, scales, shapes, strict=True):
        # Scales that count go the same way as scales do (`spread`, `core_of`), so that no layout is written down twice.
        # Doubles count exactly up to 2^53.
        numbers = (count + np.arange(own.size, dtype=np.float64)).reshape(own.shape)
        laid = np.asarray(spread(numbers, one.codes.shape[1]))
        places.append((core_of(laid, shape, "last_first") if len(shape) == 4 else laid).ravel())
        count += own.size
    return np.concatenate(places).astype(np.int64), np.concatenate([own.ravel() for own in scales])

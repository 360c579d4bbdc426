"""The factors of a layer as they are stored: a fit that knows no grid, put on the grid of a storage.

With calibration data the rounding sees the layer's inputs; without, every element goes to the nearest code.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Storage
from lrf_dse.tt.contraction import Core, core_of, stage_matrix
from lrf_dse.tt.data_aware import DEFAULT_RIDGE
from lrf_dse.tt.feedback import Inputs
from lrf_dse.tt.few_bits import on_grid
from lrf_dse.tt.grid import Stored, nearest
from lrf_dse.tt.moment import FloatArray, InputMetric, Moment, metric_of

GRID_VERSION = 2
"""To be raised whenever codes change for the same fit and data."""


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor as it is stored, the matrix of its stage with the last core first, and the core that it stands for."""

    stored: Stored
    core: Core


@dataclass(frozen=True, eq=False)
class Seen:
    """What rounding sees of a layer's inputs: the metric, and its inputs where C is a matrix."""

    metric: InputMetric
    inputs: Inputs | None

    @property
    def nbytes(self) -> int:
        """About what it holds in memory, what is made when it is first used included: C, and H in three forms."""
        held = self.metric.rows if self.metric.second is None else self.metric.second
        return (0 if held is None else held.nbytes) * (1 if self.inputs is None else 4)


def seen(moment: Moment) -> Seen:
    """What rounding sees of the rows of `moment`. The ridge is one for all fits, so that they share what is made."""
    metric = metric_of(moment, DEFAULT_RIDGE)
    second = metric.with_ridge_inside().second
    return Seen(metric, None if second is None else Inputs(second))


def factors_of(
    weight: NDArray[np.float32], cores: Sequence[Core] | None, storage: Storage, inputs: Seen | None
) -> tuple[Factor, ...]:
    """The factors of `weight` [out, in] in `storage`; without `cores` the dense layer, one factor [1, out, in, 1].

    Data that allow no factorisation (singular to rounding, or too large) leave the nearest codes.
    """
    given = [weight[None, :, :, None]] if cores is None else list(cores)
    # The fallback first: it needs no data and cannot fail.
    stages = [nearest(stage_matrix(core, "last_first"), storage) for core in given]
    if inputs is not None:
        wide = [core.astype(np.float64) for core in given]
        with suppress(np.linalg.LinAlgError):
            stages = list(_fitted(weight, wide, storage, inputs))
    return tuple(_factor(stored, core.shape) for stored, core in zip(stages, given, strict=True))


def _fitted(weight: NDArray[np.float32], cores: list[FloatArray], storage: Storage, inputs: Seen) -> tuple[Stored, ...]:
    storages = [storage] * len(cores)
    return on_grid(weight.astype(np.float64), cores, storages, inputs.metric, inputs=inputs.inputs).stages


def _factor(stored: Stored, shape: tuple[int, ...]) -> Factor:
    return Factor(stored, np.ascontiguousarray(core_of(stored.values, shape, "last_first"), np.float32))

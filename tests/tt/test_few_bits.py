"""Tensor trains on grids: every core lies on its grid, and fitting to it beats rounding a finished fit."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_dse.schema import Order, Storage, TTShape
from lrf_dse.tt.als import matrix_of
from lrf_dse.tt.contraction import core_of, stage_matrix
from lrf_dse.tt.data_aware import TtAls
from lrf_dse.tt.few_bits import on_grid
from lrf_dse.tt.grid import nearest
from lrf_dse.tt.moment import Moment, metric_of, moment_of

SHAPES = (
    TTShape((24, 1), (1, 40), (1, 6, 1)),
    TTShape((6, 4), (5, 8), (1, 5, 1)),
    TTShape((4, 3, 2), (2, 4, 5), (1, 4, 5, 1)),
)
ORDERS: tuple[Order, ...] = ("last_first", "first_first")


def layer() -> tuple[np.ndarray, Moment]:
    """W [24, 40] of falling spectrum, and correlated inputs."""
    random = np.random.default_rng(0)
    left, right = np.linalg.qr(random.standard_normal((24, 24)))[0], np.linalg.qr(random.standard_normal((40, 24)))[0]
    weight = (left * 0.8 ** np.arange(24)) @ right.T
    rows = random.standard_normal((300, 12)) @ random.standard_normal((12, 40)) + 0.2 * random.standard_normal(
        (300, 40)
    )
    return weight, moment_of(rows)


def fitted(weight: np.ndarray, shape: TTShape, moment: Moment) -> list[np.ndarray]:
    """Cores that know no grid."""
    return [core.astype(np.float64) for core in TtAls().decompose(weight.astype(np.float32), shape, moment)]


def crude_error(weight: np.ndarray, cores: list[np.ndarray], storage: Storage, order: Order, moment: Moment) -> float:
    rounded = [
        core_of(nearest(stage_matrix(core, order), storage).values.astype(np.float64), core.shape, order)
        for core in cores
    ]
    return metric_of(moment, 0.01).squared(weight - matrix_of(rounded))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_fitting_to_the_grid_beats_rounding(shape: TTShape, storage: Storage, order: Order) -> None:
    weight, moment = layer()
    metric, cores = metric_of(moment, 0.01), fitted(weight, shape, moment)
    least = metric.squared(weight - matrix_of(cores))
    found = on_grid(weight, cores, [storage] * shape.d, metric, order=order)
    crude = crude_error(weight, cores, storage, order, moment)
    # Of what rounding adds to the error of the fit, at least half is won back.
    assert found.error - least < 0.5 * (crude - least) + 1e-9 * metric.squared(weight)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cores_are_what_is_stored(shape: TTShape, order: Order) -> None:
    weight, moment = layer()
    storages: list[Storage] = ["int4", "int8", "fp16"][: shape.d]
    cores = fitted(weight, shape, moment)
    found = on_grid(weight, cores, storages, metric_of(moment, 0.01), order=order)
    for core, stored, storage in zip(found.cores, found.stages, storages, strict=True):
        assert stored.storage == storage
        assert np.array_equal(stage_matrix(core, order), stored.values.astype(np.float64))
    assert found.error == pytest.approx(metric_of(moment, 0.01).squared(weight - matrix_of(found.cores)))


@pytest.mark.parametrize("order", ORDERS)
def test_fp32_keeps_the_fit(order: Order) -> None:
    weight, moment = layer()
    metric, cores = metric_of(moment, 0.01), fitted(weight, SHAPES[1], moment)
    found = on_grid(weight, cores, ["fp32", "fp32"], metric, order=order)
    assert found.error <= 1.0001 * metric.squared(weight - matrix_of(cores))


@pytest.mark.parametrize("order", ORDERS)
def test_a_stage_matrix_and_its_core_are_each_other(order: Order) -> None:
    core = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    assert np.array_equal(core_of(stage_matrix(core, order), core.shape, order), core)


def test_a_rank_that_rounding_wiped_out_is_no_obstacle() -> None:
    weight, moment = layer()
    cores = [np.zeros((1, 24, 1, 3)), np.zeros((3, 1, 40, 1))]
    found = on_grid(weight, cores, ["int4", "int4"], metric_of(moment, 0.01))
    assert np.isfinite(matrix_of(found.cores)).all()

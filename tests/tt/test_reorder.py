"""Orders of hidden units: a hidden one is found again, no order is worse than none, and low rank does not care."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.reorder import UnitSide, best_order, can_order

SHAPE = TTShape((6, 8), (5, 4), (1, 4, 1))
WRITER = (48, 20)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def structured(seed=0):
    """A matrix [48, 20] that is a tensor train of `SHAPE`, nearly."""
    cores = [noise(*core, seed=seed + k).astype(np.float32) for k, core in enumerate(SHAPE.core_shapes)]
    matrix = to_matrix(cores)
    return matrix / np.linalg.norm(matrix) + 1e-3 * noise(*WRITER, seed=seed + 9)


def error(weight, shape=SHAPE):
    return np.linalg.norm(weight - to_matrix(NumpyTtSvd(0).decompose(weight.astype(np.float32), shape)))


def side(weight, shape=SHAPE, *, rows=True, scale=None):
    return UnitSide(weight, shape, rows, np.ones(weight.shape[1]) if scale is None else scale)


def test_an_order_that_was_lost_is_worth_finding():
    shuffled = structured()[np.random.default_rng(1).permutation(48)]
    order = best_order([side(shuffled)])
    assert order is not None
    assert sorted(order) == list(range(48))
    assert error(shuffled[order]) < 0.8 * error(shuffled)


@pytest.mark.parametrize("seed", range(3))
def test_both_layers_count(seed):
    """Rows of one and columns of the other move together, and their errors add up."""
    writer, reader = noise(*WRITER, seed=seed), noise(10, 48, seed=seed + 20)
    shape = TTShape((5, 2), (6, 8), (1, 3, 1))
    order = best_order([side(writer), side(reader, shape, rows=False)])
    assert order is not None

    def total(to):
        writers, readers = error(writer[to]), error(reader[:, to], shape)
        return (writers / np.linalg.norm(writer)) ** 2 + (readers / np.linalg.norm(reader)) ** 2

    assert total(order) < 0.97 * total(np.arange(48))


def test_inputs_that_are_never_there_do_not_count():
    weight = structured()
    weight[:, 10:] = noise(48, 10, seed=5)
    scale = np.repeat([1.0, 0.0], 10)
    order = best_order([side(weight[::-1], scale=scale)])
    same = best_order([side(weight[::-1] * scale)])
    np.testing.assert_array_equal(order, same)


@pytest.mark.parametrize("shape", [TTShape((48, 1), (1, 20), (1, 4, 1)), TTShape((48, 1), (5, 4), (1, 4, 1))])
def test_units_in_one_mode_have_no_order(shape):
    assert not side(structured(), shape).sees_order
    assert best_order([side(structured(), shape)]) is None


def test_huge_layers_are_left_alone():
    """More than 1024 units, or 2^23 weights of all sides together."""
    assert can_order([side(structured())])
    many = side(np.ones((33 * 32, 20)), TTShape((33, 32), (5, 4), (1, 4, 1)))
    large = side(np.ones((512, 129 * 64)), TTShape((16, 32), (129, 64), (1, 4, 1)))
    for sides in ([many], [large, large]):
        assert not can_order(sides)
        assert best_order(sides) is None
    assert can_order([large])


def test_an_order_that_fits_is_left_alone():
    exact = to_matrix([noise(*core, seed=k).astype(np.float32) for k, core in enumerate(SHAPE.core_shapes)])
    order = best_order([side(exact)])
    assert order is None or error(exact[order]) <= error(exact)

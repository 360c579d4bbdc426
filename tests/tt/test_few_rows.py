"""A second moment of few samples is the few rows that it is the sum of, and no fit sees a difference."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.data_aware import TtAls
from lrf_dse.tt.few_rows import factor_of
from lrf_dse.tt.moment import Moment, metric_of, moment_of

INPUTS = 96


def rows(samples: int, *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((samples, INPUTS)) @ (np.eye(INPUTS) + 0.3 * random.standard_normal((INPUTS, INPUTS)))


@pytest.mark.parametrize("samples", [1, 7, INPUTS // 4])
def test_the_rows_are_those_of_the_moment(samples: int) -> None:
    second = rows(samples).T @ rows(samples)
    factor = factor_of(second, samples)
    assert factor is not None
    assert factor.shape == (samples, INPUTS)
    np.testing.assert_allclose(factor.T @ factor, second, atol=1e-10 * np.trace(second))


def test_samples_that_repeat_are_fewer_rows() -> None:
    once = rows(5)
    factor = factor_of(3 * once.T @ once, 15)
    assert factor is not None
    assert len(factor) == 5


def test_many_samples_stay_a_matrix() -> None:
    assert factor_of(rows(INPUTS).T @ rows(INPUTS), INPUTS) is None
    assert moment_of(rows(INPUTS)).factor is None
    assert metric_of(moment_of(rows(INPUTS)), 0.1, by_rows=True).rows is None
    assert factor_of(np.zeros((INPUTS, INPUTS)), 3) is None


def test_the_metric_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, matrix = moment_of(rows(9)).centred(), rows(4, seed=1)
    short, whole = (metric_of(moment, 0.05, by_rows=by_rows) for by_rows in (True, False))
    assert short.second is None
    assert whole.rows is None
    np.testing.assert_allclose(short.times(matrix), whole.times(matrix), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(short.mode_moments((12, 8))[0], whole.mode_moments((12, 8))[0], atol=1e-9)


@pytest.mark.parametrize("shape", [TTShape((8, 4), (8, 12), (1, 6, 1)), TTShape((32, 1), (1, 96), (1, 5, 1))])
def test_fits_are_as_good(monkeypatch: pytest.MonkeyPatch, shape: TTShape) -> None:
    weight = rows(32, seed=2).astype(np.float32)
    moment = moment_of(rows(20, seed=3), held_out=rows(10, seed=4))
    found = to_matrix(TtAls().trial(weight, shape, moment).cores)
    monkeypatch.setattr(Moment, "factor", None)
    whole = to_matrix(TtAls().trial(weight, shape, moment).cores)
    errors = [float(np.linalg.norm((weight - fit) @ moment.held_out.T)) for fit in (found, whole)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)

"""The reported error is that of fresh data: in the mean, and nearly always within its interval."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lrf_dse.models.layer_fit import fit_layer, get_method, try_layer
from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.moment import moment_of
from lrf_dse.tt.output_error import OutputError, held_out_error, output_error

OUT, IN = 96, 240
SHAPES = {
    "whitened": TTShape((OUT, 1), (1, IN), (1, 16, 1)),
    "whitened_centred": TTShape((OUT, 1), (1, IN), (1, 16, 1)),
    "als": TTShape((12, 8), (15, 16), (1, 16, 1)),
    "als_centred": TTShape((8, 4, 3), (4, 6, 10), (1, 10, 10, 1)),
}
ALIKE = 8
"""Neighbours that resemble each other in the kind "films"."""


def layer_of(kind, rows, seed, fresh=3000):
    """W, calibration rows, and fresh rows of the same kind: white noise through random weights is the worst case."""
    random = np.random.default_rng(seed)
    weight, mix = random.standard_normal((OUT, IN)), np.eye(IN)
    if kind != "random":
        left, right = (np.linalg.qr(random.standard_normal((n, OUT)))[0] for n in (OUT, IN))
        weight = left * np.arange(1, OUT + 1) ** -0.7 @ right.T
        mix = random.standard_normal((IN, IN)) * np.arange(1, IN + 1)[:, None] ** -0.6

    def draw(n):
        x = random.standard_normal((n, IN))
        if kind == "films":
            x = 0.8 * np.repeat(random.standard_normal((-(-n // ALIKE), IN)), ALIKE, axis=0)[:n] + 0.6 * x
        return (x @ mix if kind in ("random", "structured") else np.maximum(x @ mix, 0)).astype(np.float32)

    return weight.astype(np.float32), draw(rows), draw(fresh)


def reported_and_fresh(kind, method, rows, seed):
    weight, x, fresh = layer_of(kind, rows, seed)
    unit = np.arange(rows) // (ALIKE if kind == "films" else 1)
    units = np.random.default_rng(seed).permutation(unit[-1] + 1)
    apart = np.isin(unit, units[: max(2, round(0.2 * len(units)))])
    moment = moment_of(x[~apart], held_out=x[apart], units=unit[apart])
    trial = try_layer(weight, SHAPES[method], get_method(method), moment, seed=0)
    fit = fit_layer(weight, SHAPES[method], get_method(method), moment, trial.trial, seed=0)
    missed = fresh @ (weight - to_matrix(fit.cores)).T - (0.0 if fit.bias_shift is None else fit.bias_shift)
    return trial.output_error, np.linalg.norm(missed) / np.linalg.norm(fresh @ weight.T)


def assert_honest(cases):
    """The mean reported error is within 10 % of the mean fresh one; nine of ten lie in their interval."""
    reported, fresh = np.array([error.value for error, _ in cases]), np.array([found for _, found in cases])
    assert reported.mean() == pytest.approx(fresh.mean(), rel=0.10)
    inside = [error.low <= found <= error.high for error, found in cases]
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("rows", [60, 200])
@pytest.mark.parametrize("method", ["whitened", "als"])
@pytest.mark.parametrize("kind", ["random", "structured"])
def test_errors_are_those_of_fresh_rows(kind, method, rows):
    assert_honest([reported_and_fresh(kind, method, rows, seed) for seed in range(10)])


@pytest.mark.soak
@pytest.mark.parametrize("rows", [60, 200, 1000])
@pytest.mark.parametrize("method", list(SHAPES))
@pytest.mark.parametrize("kind", ["random", "structured", "relu", "films"])
def test_errors_are_those_of_fresh_rows_at_length(kind, method, rows):
    cases = [reported_and_fresh(kind, method, rows, seed) for seed in range(100)]
    errors = [(error.value, found) for error, found in cases]
    reported, fresh = np.mean(errors, axis=0)
    inside = np.mean([error.low <= found <= error.high for error, found in cases])
    sys.stdout.write(
        f"{kind}, {method}, {rows} rows: reported {reported:.3f}, fresh {fresh:.3f}, inside {inside:.2f}\n"
    )
    assert_honest(cases)


def test_rows_that_belong_together_widen_the_interval():
    random = np.random.default_rng(0)
    weight, approximation = random.standard_normal((2, 5, 8))
    films = np.repeat(random.standard_normal((20, 8)) * random.uniform(0.2, 3, (20, 1)), 10, axis=0)
    seen, unit = random.standard_normal((50, 8)), np.repeat(np.arange(20), 10)
    alone, together = (
        output_error(moment_of(seen, held_out=films, units=units), weight, approximation, fitted=False)
        for units in (None, unit)
    )
    assert alone.value == pytest.approx(together.value)
    assert np.log(together.high / together.low) > 2.5 * np.log(alone.high / alone.low)


def test_a_fit_that_saw_no_data_is_not_corrected_and_nothing_held_out_has_no_interval():
    random = np.random.default_rng(1)
    weight, approximation = random.standard_normal((2, 5, 8))
    moment = moment_of(random.standard_normal((50, 8)), held_out=2 * random.standard_normal((30, 8)))
    plain = output_error(moment, weight, approximation, fitted=False)
    assert plain.value == pytest.approx(held_out_error(moment, weight, approximation))
    assert plain.low < plain.value < plain.high
    nothing = output_error(moment_of(random.standard_normal((50, 8))), weight, approximation)
    assert nothing.interval is None and nothing.value > 0
    assert output_error(moment, 0 * weight, 0 * weight) == OutputError(0.0, 0.0, 0.0)
    single = moment_of(random.standard_normal((50, 8)), held_out=random.standard_normal((3, 8)), units=np.zeros(3, int))
    assert output_error(single, weight, approximation).interval is None

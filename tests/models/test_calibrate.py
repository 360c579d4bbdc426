"""Calibration: every layer's input becomes rows, exactly once, whatever the layer, the batch and the number of axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models.graphs import matmul_model, model, node, saved, values
from numpy.typing import NDArray

from lrf_dse.errors import DataError, UsageError
from lrf_dse.models.calibrate import layer_moments
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import Dataset
from lrf_dse.models.layer_fit import get_method, methods_for
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.svd import DECOMPOSERS


def two_layers(folder: Path, *, batch: int = 1) -> Model:
    """x [batch, 6] -> fc1 (5) -> relu -> fc2 (4); fc3 reads x too."""
    proto = model(
        [
            node("Gemm", ["x", "w1", "b1"], ["h"], "fc1", transB=1),
            node("Relu", ["h"], ["a"]),
            node("MatMul", ["a", "w2"], ["y"], "fc2"),
            node("MatMul", ["x", "w3"], ["z"], "fc3"),
        ],
        inputs={"x": (batch, 6)},
        outputs={"y": (batch, 4), "z": (batch, 3)},
        constants={"w1": values(5, 6), "b1": values(5, seed=1), "w2": values(5, 4, seed=2), "w3": values(6, 3, seed=3)},
    )
    return read_model(saved(proto, folder))


def everything(moment: Moment) -> tuple[NDArray[np.float64], int]:
    """The sum of x x^T over all rows, held out or not, and how many there were."""
    whole = moment.with_held_out()
    assert whole.second is not None
    return whole.second * whole.samples, whole.samples


def assert_rows(moment: Moment, rows: NDArray[np.float32]) -> None:
    total, samples = everything(moment)
    assert samples == len(rows)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(total, wide.T @ wide, rtol=1e-4, atol=1e-4)


def test_every_layer_gets_the_moment_of_what_it_reads(tmp_path: Path) -> None:
    x = values(20, 6)
    found = layer_moments(two_layers(tmp_path), {"x": x}, seed=0)
    assert list(found) == ["fc1", "fc2", "fc3"]
    assert_rows(found["fc1"], x)
    assert_rows(found["fc2"], np.maximum(x @ values(5, 6).T + values(5, seed=1), 0))
    assert found["fc3"] is found["fc1"]
    assert {len(moment.held_out) for moment in found.values()} == {4}
    assert found["fc1"].samples == 16


def test_the_same_samples_are_held_out_for_every_layer_and_the_seed_draws_them(tmp_path: Path) -> None:
    x = values(20, 6)
    read = two_layers(tmp_path)
    first, again, other = (layer_moments(read, {"x": x}, seed=seed) for seed in (0, 0, 1))
    held = first["fc1"].held_out
    np.testing.assert_allclose(
        first["fc2"].held_out, np.maximum(held @ values(5, 6).T + values(5, seed=1), 0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(held, again["fc1"].held_out)
    assert not np.array_equal(held, other["fc1"].held_out)


@pytest.mark.parametrize(("samples", "counted"), [(20, 20), (4, 4), (22, 24), (3, 4)])
def test_a_last_batch_that_is_not_full_starts_over(tmp_path: Path, samples: int, counted: int) -> None:
    x = values(samples, 6)
    found = layer_moments(two_layers(tmp_path, batch=4), {"x": x}, seed=0)
    assert_rows(found["fc1"], np.resize(x, (counted, 6)))


def test_of_few_inferences_rows_are_held_out(tmp_path: Path) -> None:
    found = layer_moments(two_layers(tmp_path, batch=10), {"x": values(10, 6)}, seed=0)
    assert (found["fc1"].samples, len(found["fc1"].held_out)) == (8, 2)
    alone = layer_moments(two_layers(tmp_path), {"x": values(1, 6)}, seed=0)
    assert (alone["fc1"].samples, len(alone["fc1"].held_out)) == (1, 0)


def test_tokens_are_rows(tmp_path: Path) -> None:
    read = read_model(saved(matmul_model(in_shape=(2, 3, 6), out_shape=(2, 3, 4)), tmp_path))
    x = values(12, 3, 6)
    (moment,) = layer_moments(read, {"x": x}, seed=0).values()
    assert_rows(moment, x.reshape(-1, 6))
    assert len(moment.held_out) == 12  # two inferences of 2 samples of 3 tokens
    assert len(set(moment.units.tolist())) == 2
    whole = {sample.tobytes() for sample in x}
    assert all(sample.tobytes() in whole for sample in moment.held_out.reshape(-1, 3, 6))


def test_columns_of_a_transposed_gemm_are_rows(tmp_path: Path) -> None:
    proto = model(
        [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Gemm", ["t", "w"], ["y"], "fc", transA=1)],
        inputs={"x": (3, 6)},
        outputs={"y": (3, 4)},
        constants={"w": values(6, 4)},
    )
    x = values(18, 6)
    (moment,) = layer_moments(read_model(saved(proto, tmp_path)), {"x": x}, seed=0).values()
    assert_rows(moment, x)


def test_a_model_without_a_batch_dimension_and_a_layer_that_reads_the_input(tmp_path: Path) -> None:
    read = read_model(saved(matmul_model(in_shape=(6,), out_shape=(4,)), tmp_path))
    x = values(7, 6)
    (moment,) = layer_moments(read, {"x": x}, seed=0).values()
    assert_rows(moment, x)


def test_only_the_layers_that_are_asked_for(tmp_path: Path) -> None:
    read = two_layers(tmp_path)
    assert list(layer_moments(read, {"x": values(5, 6)}, seed=0, layers=["fc2"])) == ["fc2"]
    assert layer_moments(read, {"x": values(5, 6)}, seed=0, layers=[]) == {}
    with pytest.raises(UsageError, match="no FC layer 'fc9'"):
        layer_moments(read, {"x": values(5, 6)}, seed=0, layers=["fc9"])


def test_activations_that_overflow_are_refused(tmp_path: Path) -> None:
    x = values(5, 6)
    x[3] = 3e38
    with pytest.raises(DataError, match="NaN or Inf in 'a'"):
        layer_moments(two_layers(tmp_path), {"x": x}, seed=0)


def test_the_compressor_hands_each_layer_its_moment(tmp_path: Path) -> None:
    read = two_layers(tmp_path)
    layer = read.site("fc2").layer
    candidate = Candidate(layer, TTShape((4, 1), (1, 5), (1, 2, 1)), decomposer="whitened")
    with pytest.raises(UsageError, match="needs calibration data"):
        Compressor(read, seed=0).fit(candidate)
    data = Dataset(Path("d.npz"), {"x": values(50, 6)}, None, "")
    compressor = Compressor(read, seed=0, calibration=data)
    found, plain = compressor.trial(candidate), compressor.trial(replace(candidate, decomposer="tt_svd"))
    assert found.squared_error > plain.squared_error * 1.0001  # it minimises something else
    assert found.output_error is not None and plain.output_error is not None
    assert 0 < found.output_error.value < plain.output_error.value
    low, high = found.output_error.interval
    assert 0 < low < found.output_error.value < high
    compressor.apply([candidate])


def test_a_centred_fit_keeps_the_mean_output(tmp_path: Path) -> None:
    read = two_layers(tmp_path)
    x = values(80, 6) + 2
    compressor = Compressor(read, seed=0, calibration=Dataset(Path("d.npz"), {"x": x}, None, ""))
    for method in (name + behind for name in DECOMPOSERS for behind in ("", "_centred")):
        candidate = Candidate(read.site("fc1").layer, TTShape((5, 1), (1, 6), (1, 2, 1)), decomposer=method)
        if not get_method(method).centred:
            assert compressor.fit(candidate).bias_shift is None
            continue
        fit = compressor.fit(candidate)
        assert fit.bias_shift is not None
        shifted = (to_matrix(fit.cores) @ x.T).mean(axis=1) + fit.bias_shift  # over all rows, those held out too
        np.testing.assert_allclose(shifted, (values(5, 6) @ x.T).mean(axis=1), rtol=1e-4, atol=1e-4)


def test_groups_are_held_out_whole_and_neighbours_where_there_are_none(tmp_path: Path) -> None:
    read, x = two_layers(tmp_path), values(400, 6)
    groups = np.random.default_rng(0).integers(0, 30, 400)
    moment = layer_moments(read, {"x": x}, seed=0, layers=["fc1"], units=groups)["fc1"]
    apart = np.isin(groups, moment.units)
    np.testing.assert_array_equal(moment.held_out, x[apart])
    np.testing.assert_array_equal(moment.units, groups[apart])
    assert 60 <= len(moment.held_out) <= 120
    runs = layer_moments(read, {"x": x}, seed=0, layers=["fc1"])["fc1"]
    places = np.array([int(np.flatnonzero((x == row).all(axis=1))[0]) for row in runs.held_out])
    assert set(np.diff(places)[np.diff(runs.units) == 0]) == {1}
    assert len(set(runs.units.tolist())) * 8 == len(places)


def test_a_group_that_is_nearly_everything_is_not_held_out(tmp_path: Path) -> None:
    units = np.array([0] * 90 + [1, 2, 3, 4, 5])
    moment = layer_moments(two_layers(tmp_path), {"x": values(95, 6)}, seed=0, layers=["fc1"], units=units)["fc1"]
    assert moment.samples >= 90 and len(moment.held_out) >= 1


def test_methods_that_compete() -> None:
    layer, low_rank = FcLayer("fc", 6, 4, 1, True), TTShape((4, 1), (1, 6), (1, 2, 1))
    assert methods_for(layer, low_rank, with_data=False) == ("tt_svd",)
    assert "whitened_centred" in methods_for(layer, low_rank, with_data=True)
    assert "als_centred" in methods_for(layer, TTShape((2, 2), (2, 3), (1, 2, 1)), with_data=True)
    without_bias = methods_for(replace(layer, has_bias=False), low_rank, with_data=True)
    assert not any(get_method(name).centred for name in without_bias)
    with pytest.raises(UsageError, match="unknown decomposer 'magic': use one of als, .*_centred"):
        get_method("magic")

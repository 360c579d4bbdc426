"""Layers in few bits: what is fitted, what is shipped, and what a plan's file keeps of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from explored import tiny_model

from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights
from lrf_dse.schema import Candidate, Storage, TTShape, dense_candidate
from lrf_dse.tt.contraction import stage_matrix
from lrf_dse.tt.moment import Moment, moment_of

STORAGES: tuple[Storage, ...] = ("fp16", "int8", "int4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return read_model(tiny_model(tmp_path_factory.mktemp("model")))


def moments(model: Model) -> dict[str, Moment]:
    random = np.random.default_rng(0)
    found = {}
    for layer in model.fc_layers:
        rows = random.standard_normal((300, 6)) @ random.standard_normal((6, layer.in_features))
        rows += 0.1 * random.standard_normal(rows.shape)
        found[layer.name] = moment_of(rows[:240], held_out=rows[240:])
    return found


def compressor_of(model: Model, moments: dict[str, Moment]) -> Compressor:
    """A compressor that knows the inputs of layers by their moments alone."""
    compressor = Compressor(model, seed=0)
    compressor.moments = moments
    return compressor


def candidates(model: Model, storage: Storage) -> tuple[Candidate, Candidate]:
    """The first layer as one matrix, and of low rank."""
    layer = model.fc_layers[0]
    shape = TTShape((layer.out_features, 1), (1, layer.in_features), (1, 4, 1))
    method = "whitened_centred" if layer.has_bias else "whitened"
    return replace(dense_candidate(layer, "rvv"), storage=storage), Candidate(
        layer, shape, decomposer=method, kernel="rvv", storage=storage
    )


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_fit_is_what_its_numbers_stand_for(model: Model, storage: Storage, with_data: bool) -> None:
    compressor = compressor_of(model, moments(model) if with_data else {})
    dense, low_rank = candidates(model, storage)
    for candidate in (dense, low_rank if with_data else replace(low_rank, decomposer="tt_svd")):
        fit = compressor.fit(candidate)
        assert fit.stored is not None and len(fit.stored) == len(fit.cores)
        for core, stored in zip(fit.cores, fit.stored, strict=True):
            assert stored.storage == storage
            np.testing.assert_array_equal(stage_matrix(core, "last_first"), stored.values)
        assert compressor.trial(candidate).squared_error >= 0


def test_fewer_bits_err_more_and_int8_hardly(model: Model) -> None:
    compressor = compressor_of(model, moments(model))
    found = {}
    for storage in STORAGES:
        error = compressor.trial(candidates(model, storage)[0]).output_error
        assert error is not None
        found[storage] = error.value
    assert found["fp16"] < found["int8"] < found["int4"] < 0.1
    assert found["int8"] < 0.01


def test_a_layer_that_is_kept_has_no_fit(model: Model) -> None:
    with pytest.raises(ValueError, match="stays as it is"):
        Compressor(model, seed=0).fit(dense_candidate(model.fc_layers[0]))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_plans_file_keeps_codes_and_scales(model: Model, storage: Storage, tmp_path: Path) -> None:
    compressor = compressor_of(model, moments(model))
    for candidate in candidates(model, storage):
        made = compressor.replacements([candidate])
        save_weights(tmp_path / "w.npz", PlanWeights(made), "key")
        read = find_weights(tmp_path / "w.npz", "key")
        assert read is not None
        (wanted,), (found,) = made.values(), read.replacements.values()
        assert wanted.stored is not None and found.stored is not None
        for one, other in zip(wanted.stored, found.stored, strict=True):
            assert one.storage == other.storage
            np.testing.assert_array_equal(one.codes, other.codes)
            np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_rewritten_model_and_its_file_in_few_bits_agree(model: Model, storage: Storage) -> None:
    compressor = compressor_of(model, moments(model))
    x = [np.random.default_rng(1).standard_normal(spec.shape).astype(spec.dtype) for spec in model.inputs]
    for candidate in candidates(model, storage):
        made = compressor.replacements([candidate])
        plain = replaced(model, made)
        (replacement,) = made.values()
        small = in_few_bits(plain, replacement.stored or ())
        assert len(small.SerializeToString()) < len(plain.SerializeToString())
        (wanted, *_), (found, *_) = run_once(plain, x), run_once(small, x)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())

"""Monarch matrices in modules, programs and files: our kernel as a dispatch, IREE's own code, codes in model.onnx."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.test_few_bits import check, layer_model, replacement
from builders.test_program import _inputs
from models.graphs import values

from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.codegen import KernelSpec, default_schedule, pack
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.runners.stock import run_on_stock_runtime
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import TTShape
from lrf_dse.target import Target
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tune.measuring import TOLERANCE

SHAPE = TTShape((4, 24), (2, 85), (1, 5, 1), "monarch")


@pytest.mark.parametrize(("storage", "batch"), [("fp32", 1), ("int4", 3)])
def test_our_kernel_in_the_module_and_in_the_program(storage, batch, k1: Target, work: Path) -> None:
    given, stored = replacement(SHAPE, storage)
    if storage == "fp32":
        given = replace(given, stored=None)
    model = layer_model(given, batch=batch)
    module, program = check(model, k1, work)
    assert given.cores is not None
    weights = list(given.cores) if storage == "fp32" else stored
    storages = () if storage == "fp32" else (storage,) * 2
    spec = KernelSpec(SHAPE, 96, 170, batch, has_bias=True, storages=storages)
    packed = pack(weights, values(96, seed=9), spec, default_schedule(spec, k1)).tobytes()
    assert packed in module
    assert packed in program
    inputs = _inputs(model)
    # The float64 result of the two factors, by numpy.
    wanted = inputs[0].astype(np.float64) @ to_matrix(given.cores).astype(np.float64).T + values(96, seed=9)
    outputs = run_on_stock_runtime(build_for_stock_runtime(model, k1, work), inputs, work / "run", outputs=1)
    for found in (outputs, run_once(model, inputs)):
        errors = compare(found, [wanted.astype(np.float32)], tolerance=TOLERANCE)
        assert isinstance(errors, Errors), errors


@pytest.mark.parametrize("batch", [1, 3])
def test_what_the_compiler_makes_of_it(batch, k1: Target, work: Path) -> None:
    given, _ = replacement(SHAPE, "fp32")
    check(layer_model(replace(given, kernel=None, stored=None), batch=batch), k1, work)


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
def test_the_file_holds_codes(storage) -> None:
    given, stored = replacement(SHAPE, storage)
    plain = layer_model(replace(given, kernel=None))
    made = in_few_bits(plain, stored)
    assert len(made.SerializeToString()) < len(plain.SerializeToString()) - 4000 * (storage != "fp16")
    inputs = _inputs(plain)
    (wanted,), (found,) = run_once(plain, inputs), run_once(made, inputs)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())
    large = [t.name for t in made.graph.initializer if t.data_type == 1 and np.prod(t.dims) > 1000]
    assert not large, "no fp32 copy of a factor stays in the file"

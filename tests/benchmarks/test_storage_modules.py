"""The graphs that stand beside our kernels of few bits compute what they are said to compute."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.against.storage_modules import in_plain_operators, quantised
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.schema import FcLayer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shift", [0.0, 2.0, -2.0])
def test_written_out_dynamic_quantisation_is_the_same(shift: float) -> None:
    """Also where all of x is on one side of zero, which is then one end of the range."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((12, 40)).astype(np.float32)
    x = (rng.uniform(-1, 1, (3, 40)) + shift).astype(np.float32)
    layer = FcLayer("layer", 40, 12, 3, has_bias=False)
    model = quantised(single_layer_model(layer, Replacement(weight=weight)))
    plain = in_plain_operators(model)
    assert "DynamicQuantizeLinear" in {node.op_type for node in model.graph.node}
    assert "DynamicQuantizeLinear" not in {node.op_type for node in plain.graph.node}
    (wanted,), (found,) = run_once(model, (x,)), run_once(plain, (x,))
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert 0 < np.max(np.abs(wanted - x @ weight.T)) < 0.05 * np.max(np.abs(wanted))

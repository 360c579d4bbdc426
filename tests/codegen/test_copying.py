"""Weights that are widened once, at load: the function that does so, run on the machine of statements."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from codegen.c_text import functions
from codegen.kernels import STORAGES, random_copied_schedule, random_spec
from codegen.machine import Machine, memory
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, copy_bytes, emit, emit_scalar, pack
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target
from lrf_dse.tune.measuring import random_operands, rounded_cores

K1 = load_target("spacemit-k1")


def copied(spec: KernelSpec, schedule: KernelSchedule) -> tuple[np.ndarray, np.ndarray]:
    """What `kernel_load` makes of the packed weights, and the packing of the same weights in fp32."""
    code = emit(spec, schedule, K1, name="kernel")
    assert code.load is not None and code.copy_bytes == copy_bytes(spec, schedule)
    cores, bias, _ = random_operands(spec, seed=3)
    weights, rounded = rounded_cores(cores, spec, schedule)
    packed = pack(weights, bias, spec, schedule)
    assert packed.nbytes == code.weight_bytes
    # Gaps between stages are no weights: they stay as they were, and fp32 packing has zeros there.
    copy = np.zeros(code.copy_bytes // 4, np.float32)
    nothing = memory(np.zeros(0, np.float32))
    loads = functions(Machine(256), code.source)
    loads[code.load.function](nothing, memory(packed), nothing, memory(copy), 0)
    single = [np.asarray(core, np.float32) for core in rounded]
    given_ = single[0][0, :, :, 0] if spec.shape is None and single[0].ndim == 4 else single
    plain = replace(spec, storages=()), replace(schedule, copied=False)
    return copy, pack(given_, bias, *plain)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_copy_is_the_packing_in_single_precision(seed: int) -> None:
    """Whatever the schedule: panels of any width, slices of K, merged orders, blocks."""
    rng = random.Random(seed)
    spec = random_spec(rng, few_bits=True)
    if not spec.few_bits or sum(np.prod(core) for core in spec.core_shapes) > 6000:
        return
    copy, plain = copied(spec, random_copied_schedule(rng, spec, K1))
    np.testing.assert_allclose(copy, plain, rtol=1e-6, atol=0)


@pytest.mark.parametrize("storage", STORAGES[1:])
@pytest.mark.parametrize("vector", ["rows", "columns", "stream"])
@pytest.mark.parametrize("k", [1, 3, 31, 33, 34, 70])
def test_the_copy_of_every_remainder_along_k(storage: str, vector: str, k: int) -> None:
    spec = KernelSpec(None, 11, k, has_bias=True, storages=(storage,))
    how = StageSchedule(vector, 1, 2)
    copy, plain = copied(spec, KernelSchedule((0,), (1,), 8, (how,), copied=True))
    np.testing.assert_allclose(copy, plain, rtol=1e-6, atol=0)


def test_cores_in_fp32_are_copied_as_they_are() -> None:
    shape = TTShape((4, 3), (5, 7), (1, 6, 1))
    spec = KernelSpec(shape, 12, 35, storages=("fp32", "int8"))
    how = StageSchedule("rows", 1, 2)
    copy, plain = copied(spec, KernelSchedule((1, 0), (1, 1), 8, (how, how), copied=True))
    np.testing.assert_allclose(copy, plain, rtol=1e-6, atol=0)


def test_plain_c_loads_as_vectors_do() -> None:
    """The function at load is the same text in both emitters."""
    spec = KernelSpec(None, 11, 33, has_bias=True, storages=("int4",))
    schedule = KernelSchedule((0,), (1,), 8, (StageSchedule("rows", 1, 2),), copied=True)
    texts = [emit(spec, schedule, K1, name="k").source, emit_scalar(spec, schedule, name="k").source]
    loads = [text[text.index("void k_load(") :] for text in texts]
    assert loads[0] == loads[1] and "vsetvli" not in loads[0]

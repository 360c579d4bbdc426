"""The state of a stream in half precision, and the axes that move between the stages of a Monarch matrix."""

from __future__ import annotations

import numpy as np
import pytest
from codegen.c_text import functions
from codegen.machine import Machine, memory
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule
from lrf_dse.codegen.blocks import move_function
from lrf_dse.codegen.plan import FEW_ELEMENTS, WORK_HEAD, Moved, StagePlan, kernel_plan, padded, work_floats
from lrf_dse.codegen.storage import OFFSETS, groups_of
from lrf_dse.codegen.stream_state import preparing

LANES = 8
LENGTHS = [1, 3, FEW_ELEMENTS, FEW_ELEMENTS + 1, 31, 32, 33, 63, 64, 65, 130, 257]


def stream(storage, k: int) -> StagePlan:
    spec = KernelSpec(None, 16, k, storages=(storage,))
    schedule = KernelSchedule((0,), (1,), LANES, (StageSchedule("stream", 2, 2),), half=True)
    return kernel_plan(spec, schedule).stages[0]


def prepared(plan: StagePlan, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, Machine]:
    """The head of the working space, the state in half precision with what lies behind it, and the machine."""
    machine, work = Machine(32 * LANES), np.full(work_floats(plan.k), np.nan, np.float32)
    functions(machine, "\n".join(preparing(plan, LANES)))[f"prepare_{plan.number}"](memory(state), memory(work))
    return work, work[work.size - padded(plan.k) // 2 :].view(np.float16), machine


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("k", LENGTHS)
@pytest.mark.parametrize("magnitude", [1.0, 1e-20, 1e9])
def test_the_state_is_rounded_and_its_sums_are_those_of_what_was_rounded(storage, k, magnitude) -> None:
    """Near 1 it is as it is; else a power of two brings its largest element there, which `work[0]` undoes."""
    plan = stream(storage, k)
    state = (np.random.default_rng(k).standard_normal(k) * magnitude).astype(np.float32)
    work, half, _ = prepared(plan, state)
    code = 1.0 if storage == "fp16" else 2.0**24
    scale = code / float(work[0])
    assert np.frexp(scale)[0] == 0.5 and (scale == 1) == (magnitude == 1.0)
    np.testing.assert_array_equal(half[:k], (state * np.float32(scale)).astype(np.float16))
    assert not half[k : padded(k)].any() or k <= FEW_ELEMENTS
    if storage == "int8":
        assert work[1] == pytest.approx(half[:k].astype(float).sum() * OFFSETS["int8"] / code, rel=1e-5, abs=1e-12)
    if storage == "int4":
        assert work[2] * work[0] == 1.0
        for group, size in enumerate(groups_of(k)):
            total = half[32 * group : 32 * group + size].astype(float).sum() * OFFSETS["int4"] / code
            assert work[WORK_HEAD + group] == pytest.approx(total, rel=1e-4, abs=1e-11)


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("k", [5, 40, 130])
def test_only_a_state_that_is_far_from_1_is_rounded_twice(storage, k) -> None:
    """The slow way runs more instructions; the largest magnitude decides, of whichever sign."""
    plan, near = stream(storage, k), np.full(k, 0.5, np.float32)
    usual = sum(prepared(plan, near)[2].ran.values())
    for value, far in ((1.0, False), (-1.0, False), (2.0**12, False), (2.0**14, True), (-(2.0**14), True)):
        state = near.copy()
        state[k // 2] = value
        assert (sum(prepared(plan, state)[2].ran.values()) > usual) == far, value
    assert sum(prepared(plan, near * np.float32(2.0**-20))[2].ran.values()) > usual


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 200), st.integers(2, 5))
def test_what_a_block_gives_is_moved_to_its_places_and_nowhere_else(count: int, run: int, blocks: int) -> None:
    """Runs of any length: whole vectors of eight registers, then the least that holds what is left."""
    moved = Moved(0, 1, count, run, blocks)
    given_ = np.arange(count * run, dtype=np.float32) + 1
    state = np.zeros(count * blocks * run, np.float32)
    block = blocks - 1
    lines = functions(Machine(32 * LANES), "\n".join(move_function(moved, LANES)))
    lines["move"](memory(given_), memory(state) + block * run)
    wanted = np.zeros((count, blocks, run), np.float32)
    wanted[:, block] = given_.reshape(count, run)
    np.testing.assert_array_equal(state, wanted.ravel())

"""What a spec, a schedule and a kernel refuse, and that the message says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrf_dse.codegen import (
    Activation,
    KernelSchedule,
    KernelSpec,
    StageSchedule,
    default_schedule,
    emit,
    emit_scalar,
    kernel_rooflines,
    kernel_stages,
    pack,
    predicted_cycles,
    stage_bounds,
    stages_of,
)
from lrf_dse.codegen.plan import MOST_SHORT, kernel_plan
from lrf_dse.codegen.stages import MONARCH_ORDER
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target

K1, UNKNOWN = load_target("spacemit-k1"), load_target("qemu-rv64gcv")
SHAPE = TTShape((4, 3), (5, 7), (1, 6, 1))
SPEC = KernelSpec(SHAPE, 12, 35)
ROWS = StageSchedule("rows", 1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_features": 0}, "sizes and threads must be >= 1"),
        ({"batch": 0}, "sizes and threads must be >= 1"),
        ({"threads": 0}, "sizes and threads must be >= 1"),
        ({"in_features": 36}, r"does not multiply to \[12, 36\]"),
        ({"storages": ("int8",)}, "2 cores need as many storages"),
    ],
)
def test_a_spec_whose_sizes_do_not_fit(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


@pytest.mark.parametrize(
    ("bounds", "message"), [((1.0, 0.5), "needs low <= high"), ((None, -1.0), "below 0 cannot be computed")]
)
def test_an_activation_that_cannot_be_computed(bounds, message) -> None:
    with pytest.raises(ValueError, match=message):
        Activation(*bounds)


def test_bounds_may_be_equal_and_zero() -> None:
    assert Activation(0.0, 0.0) == Activation(-0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lmul": 3}, "lmul must be one of"),
        ({"block": 0}, "block, k_slices and panels >= 1"),
        ({"k_slices": 0}, "block, k_slices and panels >= 1"),
        ({"vector": "columns", "panels": 2}, "all panels pass by"),
        ({"vector": "stream", "block": 3}, "a stream has no slices, and block one of"),
        ({"vector": "stream", "k_slices": 5}, "a stream has no slices"),
        ({"vector": "short", "k_slices": 5}, "a stream has no slices"),
        ({"vector": "columns", "in_half": True}, "half precision with vectors along rows alone"),
        ({"vector": "stream", "in_half": True}, "half precision with vectors along rows alone"),
    ],
)
def test_a_stage_that_cannot_be_computed_so(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ROWS, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": (0,)}, "must have the same length"),
        ({"stages": (ROWS,)}, "must have the same length"),
        ({"lanes": 0}, "must be >= 1"),
        ({"fused": 0}, "fused at most the number of stages"),
        ({"fused": 3}, "fused at most the number of stages"),
        ({"slices": 0}, "must be >= 1"),
        ({"copied": True, "half": True}, "a copy is in single precision"),
        ({"copied": True, "merges": (2, 1)}, "of the cores as they are stored"),
    ],
)
def test_a_schedule_that_is_none(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(KernelSchedule((1, 0), (1, 1), 8, (ROWS, ROWS)), **change)


@pytest.mark.parametrize(
    ("spec", "schedule", "message"),
    [
        (KernelSpec(None, 8, 12, 4), {"stages": (StageSchedule("rows", 1, 4, 5),)}, "K = 12 is not 5 equal slices"),
        (KernelSpec(None, 8, 12, 4), {"slices": 3}, "4 batches of stage 1 are not 3 equal slices"),
        (KernelSpec(None, 8, 12, 4), {"stages": (StageSchedule("stream", 1, 1),)}, "is no stream: 4 batches of 1"),
        (KernelSpec(None, 8, 12), {"stages": (StageSchedule("short", 1, 1),)}, "no short stream: 12 terms of fp32"),
        (
            KernelSpec(None, 8, MOST_SHORT + 1, storages=("int8",)),
            {"stages": (StageSchedule("short", 1, 1),), "half": True},
            f"no short stream: {MOST_SHORT + 1} terms of int8",
        ),
        (
            KernelSpec(None, 8, 12, 4, storages=("int8",)),
            {"stages": (StageSchedule("rows", 8, 1, in_half=True),), "half": True},
            "vectors of 8 registers are not widened to half",
        ),
        (
            KernelSpec(None, 8, 64, 4, storages=("int4",)),
            {"stages": (StageSchedule("rows", 1, 1, 4),)},
            "slices of K cut the 2 groups of int4",
        ),
        (KernelSpec(None, 8, 12, 4, threads=2), {"slices": 2}, "several threads share do not run in slices"),
    ],
)
def test_a_kernel_of_one_stage_that_does_not_fit(spec, schedule, message) -> None:
    made = replace(KernelSchedule((0,), (1,), 8, (ROWS,)), **schedule)
    with pytest.raises(ValueError, match=message):
        kernel_plan(spec, made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_slices": 4}, "12 rows are not|equal slices"),
        ({"order": (0, 1), "rank_slices": 2}, "rank slices need two last stages that grow to the left"),
        ({"rank_slices": 2, "stages": (ROWS, StageSchedule("rows", 1, 4, 5))}, "and no other slices of K"),
    ],
)
def test_slices_of_the_rank_that_do_not_fit(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_plan(SPEC, replace(KernelSchedule((1, 0), (1, 1), 8, (ROWS, ROWS)), **change))


def test_the_two_ways_to_slice_do_not_meet() -> None:
    shape = TTShape((2, 3, 4), (2, 3, 4), (1, 4, 4, 1))
    spec = KernelSpec(shape, 24, 24, 2)
    cut = KernelSchedule((2, 1, 0), (1, 1, 1), 8, (ROWS,) * 3, fused=2, slices=2, rank_slices=2)
    with pytest.raises(ValueError, match="cannot be the last of fused ones and in slices of the rank"):
        kernel_plan(spec, cut)
    kernel_plan(spec, replace(cut, fused=1))
    with pytest.raises(ValueError, match="cannot run over 3 slices of 2 rows|equal slices"):
        kernel_plan(spec, replace(cut, fused=3, slices=3, rank_slices=1))


def test_cores_in_few_bits_are_not_multiplied() -> None:
    merged = KernelSchedule((0,), (2,), 8, (ROWS,))
    with pytest.raises(ValueError, match="few bits cannot be multiplied"):
        kernel_stages(replace(SPEC, storages=("int8", "int8")), merged)
    assert len(kernel_stages(SPEC, merged)) == 1


def test_a_monarch_matrix_has_one_order_and_no_slices() -> None:
    shapes = ((3, 4, 5, 1), (5, 3, 4, 1))
    with pytest.raises(ValueError, match="Monarch matrix is computed in the order"):
        stages_of(shapes, MONARCH_ORDER[::-1], batch=1)


def test_both_emitters_refuse_what_does_not_fit() -> None:
    spec = KernelSpec(None, 8, 12, 4)
    wrong = replace(default_schedule(spec, K1), slices=3)
    with pytest.raises(ValueError, match="equal slices"):
        emit(spec, wrong, K1, name="k")
    with pytest.raises(ValueError, match="equal slices"):
        emit_scalar(spec, wrong, name="k")


def test_a_stream_that_needs_more_registers_than_there_are() -> None:
    spec = KernelSpec(None, 64, 70, storages=("int4",))
    wide = KernelSchedule((0,), (1,), 8, (StageSchedule("stream", 8, 2),), half=True)
    with pytest.raises(ValueError, match="a stream of int4 with 8 registers a vector does not fit"):
        emit(spec, wide, K1, name="k")
    with pytest.raises(ValueError, match="a short stream of int4 with 8 registers a vector does not fit"):
        predicted_cycles(spec, replace(wide, stages=(StageSchedule("short", 8, 2),)), K1)


def test_a_target_without_costs_has_no_figures() -> None:
    schedule = default_schedule(SPEC, UNKNOWN)
    assert predicted_cycles(SPEC, schedule, UNKNOWN) is None and stage_bounds(SPEC, schedule, UNKNOWN) is None
    with pytest.raises(ValueError, match="the costs of qemu-rv64gcv are not known"):
        kernel_rooflines(SPEC, schedule, UNKNOWN)


@pytest.mark.parametrize("shape", [(3, 5, 1), (5, 3)])
def test_weights_of_other_shapes_are_not_packed(shape) -> None:
    spec = KernelSpec(None, 3, 5)
    with pytest.raises(ValueError, match="shapes|got"):
        pack(np.zeros(shape, np.float32), None, spec, default_schedule(spec, K1))

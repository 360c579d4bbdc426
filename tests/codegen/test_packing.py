"""The packed weights hold every element of every stage's matrix where the layout says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cores as random_cores
from strategies import tt_shapes

from lrf_dse.codegen import (
    KernelSpec,
    StageSchedule,
    default_schedule,
    kernel_stages,
    pack,
    packed_weights,
    schedules,
)
from lrf_dse.codegen.packing import blocks, vectors
from lrf_dse.codegen.stages import merge_cores, stage_matrix
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.schema import TTShape
from lrf_dse.target import load_target

TARGET = load_target("spacemit-k1")


def unpacked(packed, where, rows, k):
    """A [R, K] read back the way a kernel reads it."""
    matrix = np.full((rows, k), np.nan, dtype=np.float32)
    at = where.offset
    for number in range(where.slices):
        for panel in where.panels:
            for outer in range(where.k_outer):
                for inner in range(where.k_inner):
                    column = number * where.k_inner + outer * where.k_step + inner
                    values = packed[at : at + panel.width]
                    matrix[panel.row : panel.row + panel.rows, column] = values[: panel.rows]
                    assert not values[panel.rows :].any()
                    at += panel.width
    assert at == where.offset + where.floats
    return matrix


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_unpacking_gives_the_stage_matrices(data) -> None:
    shape = data.draw(tt_shapes(max_dim=6))
    cores = data.draw(random_cores(shape))
    spec = KernelSpec(shape, shape.out_features, shape.in_features, data.draw(st.integers(1, 3)), has_bias=True)
    schedule = default_schedule(spec, TARGET)
    bias = np.arange(spec.out_features, dtype=np.float32)
    layout, packed = packed_weights(spec, schedule), pack(cores, bias, spec, schedule)
    assert packed.size == layout.floats
    np.testing.assert_array_equal(packed[layout.bias : layout.bias + bias.size], bias)
    merged = merge_cores(cores, schedule.merges)
    for stage, where in zip(kernel_stages(spec, schedule), layout.stages, strict=True):
        matrix = unpacked(packed, where, stage.count.rows, stage.count.k)
        np.testing.assert_array_equal(matrix, stage_matrix(merged[stage.core], stage.side))


def test_slices_of_the_rank_and_of_k_are_unpacked_alike() -> None:
    shape = TTShape((4, 3), (5, 7), (1, 6, 1))
    spec = KernelSpec(shape, 12, 35)
    cores = [
        np.random.default_rng(k).standard_normal(core).astype(np.float32) for k, core in enumerate(shape.core_shapes)
    ]
    plain = next(schedule for schedule in schedules(spec, TARGET, 50) if schedule.order == (1, 0))
    plain = replace(plain, stages=(StageSchedule("rows", 1, 4),) * 2, fused=1, slices=1, rank_slices=1)
    cut = replace(plain, stages=(plain.stages[0], replace(plain.stages[1], k_slices=5)))
    for schedule in (replace(plain, rank_slices=3), cut):
        packed = pack(cores, None, spec, schedule)
        for stage, where in zip(kernel_stages(spec, schedule), packed_weights(spec, schedule).stages, strict=True):
            matrix = unpacked(packed, where, stage.count.rows, stage.count.k)
            np.testing.assert_array_equal(matrix, stage_matrix(cores[stage.core], stage.side))


def test_spec_and_schedule_survive_json() -> None:
    spec = KernelSpec(TTShape((4, 3), (5, 7), (1, 6, 1)), 12, 35)
    schedule = default_schedule(spec, TARGET)
    assert from_json(type(spec), to_json(spec)) == spec
    assert from_json(type(schedule), to_json(schedule)) == schedule


def test_weights_must_fit() -> None:
    spec = KernelSpec(None, 3, 5, has_bias=True)
    schedule = default_schedule(spec, TARGET)
    with pytest.raises(ValueError, match="shapes"):
        pack(np.zeros((5, 3), np.float32), np.zeros(3, np.float32), spec, schedule)
    with pytest.raises(ValueError, match="bias"):
        pack(np.zeros((3, 5), np.float32), None, spec, schedule)


@given(st.integers(1, 300), st.integers(1, 30), st.sampled_from([1, 2, 4, 8]), st.sampled_from([4, 8, 16]))
def test_blocks_and_vectors_cover_exactly(total, most, lmul, lanes) -> None:
    assert sum(blocks(total, most)) == total
    assert max(blocks(total, most)) <= most
    widths = vectors(total, lmul, lanes)
    assert total <= sum(widths) < total + (1 + lmul // 4) * lanes
    assert set(widths) <= {lanes * part for part in (1, 2, 4, 8) if part <= lmul}

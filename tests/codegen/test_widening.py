"""Weights in few bits become numbers exactly: every code, every remainder along K, every way to widen them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from codegen.c_text import functions, run
from codegen.machine import Machine, memory

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, packed_weights
from lrf_dse.codegen.packing import Panel
from lrf_dse.codegen.plan import StagePlan, kernel_plan, stage_plans
from lrf_dse.codegen.scalar_widening import widened_panel
from lrf_dse.codegen.storage import panel_of
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.stream_widening import CONSTANTS, second_half, widening
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.widening import panel_function, widened, widening_functions
from lrf_dse.schema import Storage
from lrf_dse.tt.grid import Stored

LANES = 8
CODES: dict[str, range] = {"int8": range(-127, 128), "int4": range(-8, 8)}


def stage(storage: Storage, rows: int, k: int, how: StageSchedule, *, half: bool) -> StagePlan:
    """A stage of a dense layer."""
    spec = KernelSpec(None, rows, k, 2 if how.vector in ("rows", "columns") else 1, storages=(storage,))
    return kernel_plan(spec, KernelSchedule((0,), (1,), LANES, (how,), half=half)).stages[0]


def stored(storage: Storage, rows: int, k: int) -> Stored:
    """A matrix that goes through all codes (of fp16: all magnitudes and subnormal ones), with scales powers of two."""
    if storage == "fp16":
        bits = (np.arange(rows * k) * 977 + 1) % 0x7BFF | (np.arange(rows * k) % 2) << 15
        return Stored(storage, bits.astype(np.uint16).view(np.float16).reshape(rows, k))
    codes = np.resize(np.array(CODES[storage], np.int8), (rows, k))
    groups = 1 if storage == "int8" else -(-k // 32)
    kind = np.float32 if storage == "int8" else np.float16
    return Stored(storage, codes, 2.0 ** (np.arange(rows * groups) % 7 - 3).reshape(rows, groups).astype(kind))


def one_panel(plan: StagePlan, matrix: Stored, panel: Panel) -> np.ndarray:
    """The bytes of a panel of all K."""
    rows = slice(panel.row, panel.row + panel.rows)
    return panel_of(matrix, rows, np.arange(plan.k), panel.width, by_rows=plan.packed.by_rows).copy()


def test_the_matrices_hold_every_code() -> None:
    assert set(stored("int8", 16, 20).codes.ravel()) == set(CODES["int8"])
    assert set(stored("int4", 2, 9).codes.ravel()) == set(CODES["int4"])


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 34, 47, 64, 70])
def test_panels_k_by_k_are_exact_in_single_precision(storage, half, k) -> None:
    plan = stage(storage, 43, k, StageSchedule("rows", 4, 2), half=half)
    _widens_exactly(plan, stored(storage, 43, k))


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 16, 17, 31, 32, 33, 47, 64, 70])
def test_panels_row_by_row_are_exact_in_single_precision(storage, half, k) -> None:
    spec = KernelSpec(None, 11, k, 2, storages=(storage,))
    how = StageSchedule("columns", 1, 5)
    plan = kernel_plan(spec, KernelSchedule((0,), (1,), LANES, (how,), half=half)).stages[0]
    matrix, machine = stored(storage, 11, k), Machine(32 * LANES)
    compiled = functions(machine, "\n".join(widening_functions(plan, LANES)))
    for panel in plan.panels:
        out = np.full((panel.width, plan.row_pitch), np.nan, np.float32)
        compiled[panel_function(plan, panel.width)](memory(one_panel(plan, matrix, panel), "U8"), memory(out))
        wanted = matrix.values[panel.row : panel.row + panel.rows]
        np.testing.assert_array_equal(out[:, :k], wanted)


def _widens_exactly(plan: StagePlan, matrix: Stored) -> None:
    machine = Machine(32 * LANES)
    compiled = functions(machine, "\n".join(widening_functions(plan, LANES)))
    for panel in plan.panels:
        out = np.full((plan.k, panel.width), np.nan, np.float32)
        compiled[panel_function(plan, panel.width)](memory(one_panel(plan, matrix, panel), "U8"), memory(out))
        np.testing.assert_array_equal(out[:, : panel.rows], matrix.values[panel.row : panel.row + panel.rows].T)
        assert not out[:, panel.rows :].any()


@pytest.mark.parametrize("k", [1, 2, 3, 15, 16, 17, 32, 33, 70])
def test_codes_of_int8_are_whole_numbers_in_half_precision(k) -> None:
    """Code x 2^-24: subnormal, and exact; scales come at the end of the sums."""
    plan = stage("int8", 43, k, StageSchedule("rows", 4, 2, in_half=True), half=True)
    for panel, out in _halves(plan, stored("int8", 43, k)):
        wanted = stored("int8", 43, k).codes[panel.row : panel.row + panel.rows].T
        np.testing.assert_array_equal(out[:, : panel.rows].astype(np.float64) * 2.0**24, wanted)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 31, 32, 33, 34, 35, 70])
def test_codes_of_int4_are_scaled_in_half_precision(k) -> None:
    plan = stage("int4", 43, k, StageSchedule("rows", 4, 2, in_half=True), half=True)
    for panel, out in _halves(plan, stored("int4", 43, k)):
        wanted = stored("int4", 43, k).values[panel.row : panel.row + panel.rows].T
        np.testing.assert_array_equal(out[:, : panel.rows].astype(np.float32), wanted)


def _halves(plan: StagePlan, matrix: Stored):
    """Every panel with what it becomes in half precision, [k, width]."""
    compiled = functions(Machine(32 * LANES), "\n".join(widening_functions(plan, LANES)))
    for panel in plan.panels:
        out = np.full((plan.k, panel.width), np.nan, np.float16)
        compiled[panel_function(plan, panel.width)](memory(one_panel(plan, matrix, panel), "U8"), memory(out, "U16"))
        yield panel, out


@pytest.mark.parametrize("storage", ["int8", "int4"])
def test_all_codes_one_by_one_in_a_vector(storage) -> None:
    """The sequence in registers alone: every byte there is, 8 at a time."""
    plan = stage(storage, 8, 64, StageSchedule("columns", 1, 4), half=False)
    offset = 128 if storage == "int8" else 8
    for first in range(0, 256, LANES):
        machine = Machine(32 * LANES)
        given = np.arange(first, first + LANES, dtype=np.uint8)
        machine.file[20 * LANES * 4 : 20 * LANES * 4 + LANES] = given
        wide = ["v0"] if storage == "int8" else ["v0", "v1"]
        run(machine, ["SET_WIDE(8, m1);", *widened(plan, ["v20"], wide, 1)])
        results = [machine.vector(name, np.float32) for name in wide]
        parts = [given] if storage == "int8" else [given & 15, given >> 4]
        for result, part in zip(results, parts, strict=True):
            np.testing.assert_array_equal(result, part.astype(np.float32) - offset)


def streams(storage: Storage, k: int, *, half: bool) -> Stream:
    plan = stage(storage, LANES, k, StageSchedule("stream", 1, 2), half=half)
    return Stream(plan, next(panel_runs(plan.panels)), LANES)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_words_of_int8_become_their_two_codes(half, narrow) -> None:
    stream = streams("int8", 64, half=half)
    for first in range(0, 256, LANES):
        low = np.arange(first, first + LANES, dtype=np.uint16)
        high = low[::-1].copy() if not narrow else np.zeros_like(low)
        results = _stream_results(stream, low, high, narrow=narrow)
        for result, part in zip(results, (low, high), strict=False):
            np.testing.assert_array_equal(result, part if half else part.astype(np.float32) - 128)
        assert len(results) == (1 if narrow else 2)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_words_of_int4_become_their_four_codes(half, narrow) -> None:
    """All 256 bytes, so all pairs of codes; high nibbles 16 times as large."""
    stream = streams("int4", 64, half=half)
    for first in range(0, 256, LANES):
        low = np.arange(first, first + LANES, dtype=np.uint16)
        high = low[::-1].copy() if not narrow else np.zeros_like(low)
        results = _stream_results(stream, low, high, narrow=narrow)
        nibbles = [low & 15, low & 240, high & 15, high & 240][: len(results)]
        for number, (result, part) in enumerate(zip(results, nibbles, strict=True)):
            offset = 0 if half else 8 * (16 if number % 2 else 1)
            np.testing.assert_array_equal(result, part.astype(np.float32) - offset)
        assert len(results) == (2 if narrow else 4)


def _stream_results(stream: Stream, low: np.ndarray, high: np.ndarray, *, narrow: bool) -> list[np.ndarray]:
    """What the vectors of a unit hold after its sequence: as numbers of 16 bits in half precision, else as floats."""
    machine, raw = Machine(32 * LANES), "v31"
    place = 31 * LANES * 4
    data = low.astype(np.uint8) if narrow else (low | high << 8).astype("<u2")
    machine.file[place : place + data.nbytes] = data.view(np.uint8)
    vectors = stream.registers.temps[0]
    setting = ["SET_WIDE(8, m1);", *(["AS_HALF(mf2);"] * stream.half)]
    steps = widening(stream, raw, vectors, [], narrow=narrow)
    constants = CONSTANTS.get(stream.plan.storage, [])
    lines = [line for step in steps for line in step]
    run(machine, [*setting, *constants, *lines])
    kind = np.uint16 if stream.half else np.float32
    count = 1 if stream.plan.storage == "int8" else 2
    if stream.in_halves:
        results = [machine.vector(name, kind) for name in vectors[:2]]
        if not narrow:
            machine.run("vsetvli", ["x0", "%0", "e32", "m1", "ta", "ma"], LANES)
            run(machine, [*constants, *second_half(stream.registers.part, vectors)])
            results += [machine.vector(name, kind) for name in vectors[2:]]
        return results
    return [machine.vector(name, kind) for name in vectors[: count * (1 if narrow else 2)]]


@pytest.mark.parametrize("storage", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 31, 32, 33, 34, 35, 70])
def test_plain_c_widens_every_element_exactly(storage, by_rows, k) -> None:
    """The text of the plain widening, evaluated: every (k, row) of `to` is set to what is stored there."""
    spec, how = KernelSpec(None, 7, k, 2, storages=(storage,)), StageSchedule("columns" if by_rows else "rows", 1, 7)
    schedule = KernelSchedule((0,), (1,), 7, (how,))
    (plan,) = stage_plans(spec, schedule, packed_weights(spec, schedule))
    assert plan.packed.by_rows == by_rows
    matrix, panel = stored(storage, 7, k), plan.panels[0]
    out = np.full((k, panel.width), np.nan, np.float32)
    data = memory(one_panel(plan, matrix, panel), "U8")
    run(Machine(), widened_panel(plan, panel.width), source=data, to=memory(out))
    np.testing.assert_array_equal(out, matrix.values.T)


def test_what_is_stored_in_fp32_is_not_widened() -> None:
    plan = stage("fp32", 43, 9, StageSchedule("rows", 4, 2), half=False)
    assert widening_functions(plan, LANES) == []
    short = replace(
        plan, packed=replace(plan.packed, storage="fp16"), half=True, how=StageSchedule("rows", 4, 2, in_half=True)
    )
    assert all("widen_" not in line for line in widening_functions(short, LANES))

"""Panels of few bits hold every element where the format says, read back byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.codegen import KernelSchedule, KernelSpec, StageSchedule, pack, packed_weights
from lrf_dse.codegen.storage import panel_bytes, panel_of
from lrf_dse.tt.grid import Stored, nearest


def half(data: np.ndarray, at: int) -> float:
    return float(data[at : at + 2].copy().view("<f2")[0])


def single(data: np.ndarray, at: int) -> float:
    return float(data[at : at + 4].copy().view("<f4")[0])


def whole(size: int) -> int:
    return (size + 3) // 4 * 4


def code_of_words(data: np.ndarray, row: int, k: int, *, width: int, count: int, per_word: int) -> int:
    """Code (row, k) of `per_word` neighbours along K in a word of 16 bits; at most half a word at the end is a byte."""
    bits, word, part = 16 // per_word, *divmod(k, per_word)
    if 0 < count - word * per_word <= per_word // 2:
        return int(data[2 * word * width + row]) >> (bits * part) & ((1 << bits) - 1)
    at = 2 * (word * width + row)
    return int(data[at : at + 2].copy().view("<u2")[0]) >> (bits * part) & ((1 << bits) - 1)


def element_k_by_k(data: np.ndarray, storage: str, row: int, k: int, *, width: int, count: int) -> float:
    """Element (row, k) of a panel of `width` rows and `count` k, found by the format's words alone."""
    if storage == "fp32":
        return single(data, 4 * (k * width + row))
    if storage == "fp16":
        return half(data, 2 * (k * width + row))
    if storage == "int8":
        code = code_of_words(data, row, k, width=width, count=count, per_word=2)
        return (code - 128) * single(data, whole(count * width) + 4 * row)
    start = k // 32 * (whole(16 * width) + whole(2 * width))
    size = min(32, count - k // 32 * 32)
    nibble = code_of_words(data[start:], row, k % 32, width=width, count=size, per_word=4)
    return (nibble - 8) * half(data, start + whole((size + 1) // 2 * width) + 2 * row)


def element_row_by_row(data: np.ndarray, storage: str, row: int, k: int, *, width: int, count: int) -> float:
    if storage == "fp16":
        return half(data, 2 * (row * count + k))
    if storage == "int8":
        return (int(data[row * count + k]) - 128) * single(data, whole(count * width) + 4 * row)
    pitch, groups = whole((count + 1) // 2), -(-count // 32)
    size = min(32, count - k // 32 * 32)
    apart = (size + 1) // 2
    byte = int(data[row * pitch + k // 32 * 16 + k % 32 % apart])
    nibble = byte >> (4 if k % 32 >= apart else 0) & 15
    return (nibble - 8) * half(data, width * pitch + 2 * (row * groups + k // 32))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["fp32", "fp16", "int8", "int4"]),
    st.integers(1, 9),
    st.integers(1, 80),
    st.integers(0, 3),
    st.booleans(),
)
def test_every_element_of_a_panel(storage, rows, count, unused, by_rows) -> None:
    by_rows = by_rows and storage != "fp32"
    width = rows if by_rows else rows + unused
    matrix = np.random.default_rng(rows * 100 + count).standard_normal((rows, count)).astype(np.float32)
    stored = nearest(matrix, storage)
    data = panel_of(stored, slice(0, rows), np.arange(count), width, by_rows=by_rows)
    assert data.size == panel_bytes(storage, count, width, by_rows=by_rows)
    assert data.size % 4 == 0
    element = element_row_by_row if by_rows else element_k_by_k
    for row in range(width):
        for k in range(count):
            wanted = float(stored.values[row, k]) if row < rows else 0.0
            assert element(data, storage, row, k, width=width, count=count) == pytest.approx(wanted, rel=1e-6)


def test_bytes_of_a_layer_are_those_of_its_bits() -> None:
    """A dense 1024 x 1024 layer: codes and scales, and nothing else."""
    sizes = {}
    for storage in ("fp32", "fp16", "int8", "int4"):
        spec = KernelSpec(None, 1024, 1024, storages=(storage,))
        schedule = KernelSchedule((0,), (1,), 8, (StageSchedule("stream", 4, 2),))
        matrix = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
        stored = matrix if storage == "fp32" else nearest(matrix, storage)
        sizes[storage] = pack(stored, None, spec, schedule).nbytes
        assert sizes[storage] == 4 * packed_weights(spec, schedule).floats
    elements = 1024 * 1024
    assert sizes == {
        "fp32": 4 * elements,
        "fp16": 2 * elements,
        "int8": elements + 4 * 1024,
        "int4": elements // 2 + 2 * elements // 32,
    }


def test_weights_must_be_stored_as_the_kernel_says() -> None:
    spec = KernelSpec(None, 3, 40, storages=("int8",))
    schedule = KernelSchedule((0,), (1,), 8, (StageSchedule("stream", 1, 1),))
    matrix = np.ones((3, 40), np.float32)
    with pytest.raises(ValueError, match="cores got"):
        pack(nearest(matrix, "int4"), None, spec, schedule)
    with pytest.raises(ValueError, match="is stored as"):
        pack(Stored("int8", np.ones((40, 3), np.int8), np.ones((40, 1), np.float32)), None, spec, schedule)
    with pytest.raises(ValueError, match="as many storages"):
        KernelSpec(None, 3, 40, storages=("int8", "int8"))

"""Comparing outputs with a reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lrf_dse.runners.job import Array, read_raw, write_raw
from lrf_dse.runners.verify import ROUNDING, Errors, compare

VALUES = st.floats(-1e3, 1e3, width=32)
ARRAYS = npst.arrays(np.float32, npst.array_shapes(max_dims=3, max_side=5), elements=VALUES)


@given(st.lists(ARRAYS, min_size=1, max_size=3), st.data())
def test_one_element_off_decides(expected: list[Array], data: st.DataObject) -> None:
    """The element's error, over max |y| of all outputs together, against the tolerance: nothing else."""
    scale = max(float(np.abs(want).max()) for want in expected) or 1.0
    output = data.draw(st.integers(0, len(expected) - 1))
    element = data.draw(st.integers(0, expected[output].size - 1))
    shift = data.draw(st.floats(-1e-2, 1e-2)) * scale
    outputs = [want.astype(np.float64) for want in expected]
    outputs[output].flat[element] += shift
    error = abs(float(outputs[output].flat[element]) - float(expected[output].flat[element]))
    result = compare(outputs, expected, tolerance=1e-3)
    if error <= max(1e-3 * scale, ROUNDING):
        assert result == Errors(error, error / scale)
    else:
        assert isinstance(result, str)
        assert f"output {output}: element {element} is" in result


@given(ARRAYS, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_values_that_are_not_finite_are_wrong_on_either_side(array: Array, bad: float) -> None:
    spoilt = array.copy()
    spoilt.flat[-1] = bad
    for outputs, expected in ((spoilt, array), (array, spoilt), (spoilt, spoilt)):
        result = compare([outputs], [expected], tolerance=1e9)
        assert isinstance(result, str) and "not finite" in result


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_other_types_must_be_equal(dtype: type) -> None:
    want = np.ones(5, dtype)
    assert compare([want.copy()], [want], tolerance=0.5) == Errors(0.0, 0.0)
    got = want.copy()
    got[3] = 0
    assert "element 3 is" in str(compare([got], [want], tolerance=0.5))


def test_tiny_outputs_are_right_to_the_rounding_of_1() -> None:
    """A wake word's sigmoid, far from its word."""
    want = np.array([9.44e-5], np.float32)
    assert isinstance(compare([want + np.float32(2e-8)], [want], tolerance=1e-4), Errors)
    assert isinstance(compare([want + np.float32(2e-7)], [want], tolerance=1e-4), str)


def test_shapes_must_agree_and_no_output_may_be_missing() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert compare([zeros.T], [zeros], tolerance=1.0) == "output 0 has shape (3, 2), expected (2, 3)"
    with pytest.raises(ValueError, match="zip"):
        compare([], [zeros], tolerance=1.0)


def test_a_reference_of_zeros_bounds_the_error_itself() -> None:
    zeros = np.zeros(4, np.float32)
    assert compare([zeros + 5e-5], [zeros], tolerance=1e-4) == Errors(pytest.approx(5e-5), pytest.approx(5e-5))
    assert isinstance(compare([zeros + 2e-4], [zeros], tolerance=1e-4), str)
    assert compare([zeros[:0]], [zeros[:0]], tolerance=1e-4) == Errors(0.0, 0.0)


@given(ARRAYS)
def test_raw_files_round_trip(tmp_path_factory: pytest.TempPathFactory, array: Array) -> None:
    path = tmp_path_factory.mktemp("raw") / "a.bin"
    for form in (array, np.asfortranarray(array), array.astype(">f4")):
        write_raw(path, form)
        assert path.read_bytes() == np.ascontiguousarray(array, "<f4").tobytes()
        again = read_raw(path, form)
        assert again is not None and np.array_equal(again, array)
    assert read_raw(path, np.zeros(array.size + 1, np.float32)) is None

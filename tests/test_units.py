"""Limits as people write them: every unit, and one clear line for what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.errors import UsageError
from lrf_dse.units import Latency, parse_bytes, parse_latency, show_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("200000", 200_000), (200_000, 200_000), ("200_000", 200_000), ("2e6", 2_000_000), ("64B", 64),
        ("1.5MB", 1_500_000), ("1.5 mb", 1_500_000), ("200KiB", 204_800), ("200kib", 204_800), ("2kB", 2_000),
        ("1GiB", 2**30), (" .5MiB ", 2**19), ("+3", 3), ("3.B", 3),
    ],
)  # fmt: skip
def test_bytes(text: str | int, expected: int) -> None:
    assert parse_bytes(text, option="--max-bytes") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5ms", Latency(0.005, "s")), ("5 MS", Latency(0.005, "s")), ("0.2s", Latency(0.2, "s")),
        ("800us", Latency(0.0008, "s")), ("800µs", Latency(0.0008, "s")), ("9ns", Latency(9e-9, "s")),
        ("2e6", Latency(2e6)), ("2000000", Latency(2e6)), ("300 cycles", Latency(300.0)), (7, Latency(7.0)),
    ],
)  # fmt: skip
def test_latencies(text: str | int, expected: Latency) -> None:
    found = parse_latency(text, option="--max-latency")
    assert (found.value, found.unit) == (pytest.approx(expected.value), expected.unit)
    assert parse_latency(found, option="--max-latency") is found


@pytest.mark.parametrize(
    "text", ["", "KiB", "200K", "2 M", "1,5MB", "1.5.2MB", "ten", "5ms", "nan", "inf", "0x10", "3 B B"]
)
def test_no_bytes(text: str) -> None:
    with pytest.raises(
        UsageError, match="^--max-ram must be bytes, such as 200000, 200KiB or 1.5MB, got .*; units are"
    ):
        parse_bytes(text, option="--max-ram")


@pytest.mark.parametrize("text", ["-1", "-2KiB", "1e999"])
def test_numbers_that_are_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match="--max-bytes must be a finite number from 0 on"):
        parse_bytes(text, option="--max-bytes")


@pytest.mark.parametrize("text", ["5 minutes", "5KiB", "fast", "1:30"])
def test_no_latency(text: str) -> None:
    with pytest.raises(UsageError, match="--max-latency must be a time such as 5ms or 800us, or a number of cycles"):
        parse_latency(text, option="--max-latency")


@given(st.integers(0, 2**40))
def test_what_is_shown_is_enough_when_it_is_asked_for(value: int) -> None:
    shown = show_bytes(value).replace(",", "").replace(" bytes", "B")
    assert parse_bytes(shown, option="--max-bytes") >= value

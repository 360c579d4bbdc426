"""Quantities as people write them, such as 200KiB, 1.5MB, 5ms or 2e6: the one parser of limits.

Owns the units and the words for what is wrong. A number without a unit is bytes, or cycles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

from lrf_dse.errors import UsageError

# KiB is 1024 bytes and KB 1000 (IEC 80000-13).
_BYTES = {"": 1, "B": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for power, prefix in enumerate("KMG", start=1)
    for binary in ("", "i")
}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_CYCLES = {"": 1.0, "cycles": 1.0}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµμ]*)\s*")


@dataclass(frozen=True)
class Latency:
    """A time of one inference, in cycles of one core or in seconds."""

    value: float
    unit: Literal["cycles", "s"] = "cycles"

    def __str__(self) -> str:
        return f"{self.value:g}{'s' if self.unit == 's' else ''}"


def parse_bytes(text: str | float, *, option: str) -> int:
    """Whole bytes. Raises UsageError, which names `option`.

    >>> parse_bytes("200KiB", option="--max-bytes"), parse_bytes("1.5 MB", option="--max-bytes")
    (204800, 1500000)
    """
    value, unit = _parsed(text, _BYTES, option, "bytes, such as 200000, 200KiB or 1.5MB")
    return int(value * _BYTES[unit])


def parse_latency(text: str | float | Latency, *, option: str) -> Latency:
    """A latency in cycles or seconds. Raises UsageError, which names `option`.

    >>> parse_latency("5ms", option="--max-latency"), parse_latency("2e6", option="--max-latency")
    (Latency(value=0.005, unit='s'), Latency(value=2000000.0, unit='cycles'))
    """
    if isinstance(text, Latency):
        return text
    value, unit = _parsed(text, _SECONDS | _CYCLES, option, "a time such as 5ms or 800us, or a number of cycles")
    return Latency(value * _SECONDS[unit], "s") if unit in _SECONDS else Latency(value)


def _parsed(text: str | float, units: Mapping[str, float], option: str, wanted: str) -> tuple[float, str]:
    """The number, and the unit as `units` spell it; their case does not matter."""
    match = _QUANTITY.fullmatch(str(text))
    spelled = {unit.lower(): unit for unit in units}
    # Unicode has the prefix micro twice: keyboards give U+00B5, and NFKC makes U+03BC of it.
    unit = None if match is None else spelled.get(match.group(2).replace("μ", "µ").lower())
    if match is None or unit is None:
        named = ", ".join(unit for unit in units if unit)
        raise UsageError(f"{option} must be {wanted}, got {str(text)!r}; units are {named}")
    value = float(match.group(1))
    if value < 0 or not isfinite(value * units[unit]):
        raise UsageError(f"{option} must be a finite number from 0 on, got {str(text)!r}")
    return value, unit


def show_bytes(value: float) -> str:
    """Bytes in words, rounded up, so that what is shown is enough when it is asked for.

    >>> show_bytes(421000), show_bytes(900)
    ('412 KiB', '900 bytes')
    """
    return f"{value:,.0f} bytes" if value < 1024 else f"{ceil(value / 1024):,} KiB"


def show_latency(value: float, unit: Literal["cycles", "s"]) -> str:
    """A latency in words.

    >>> show_latency(1234567, "cycles"), show_latency(0.00512, "s")
    ('1,234,567 cycles', '5.12 ms')
    """
    return f"{value:,.0f} cycles" if unit == "cycles" else f"{1e3 * value:,.4g} ms"

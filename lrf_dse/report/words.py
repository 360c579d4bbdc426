"""Numbers as people read them. An unknown number becomes a dash."""

from __future__ import annotations

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def count(value: float | None) -> str:
    """A whole number with separators.

    >>> count(1234567.4)
    '1,234,567'
    """
    return DASH if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in binary units.

    >>> size(1075200), size(512)
    ('1.03 MiB', '512 B')
    """
    if value is None:
        return DASH
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            # Three digits would round 1,023 KiB to 1.02e+03.
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:,.0f} {unit}"
    return f"{value:,.0f} B"


def ratio(value: float | None) -> str:
    """Three digits and a times sign: 3.14, 25.0, 250."""
    if value is None:
        return DASH
    # Three digits that count, also where a trailing 0 is one.
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}{TIMES}"


def signed_percent(value: float | None) -> str:
    """A relative difference with its sign.

    >>> signed_percent(-0.0349)
    '-3.5 %'
    """
    return DASH if value is None else f"{100 * value:+.1f} %"


def fixed(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point.

    >>> fixed(97.5512)
    '97.55'
    """
    return DASH if value is None else f"{value:,.{digits}f}"


def value(number: float | None, unit: str) -> str:
    """A metric's value: two digits for percentages, four that count for anything else.

    >>> value(97.5512, "%"), value(0.0012345, "")
    ('97.55%', '0.001234')
    """
    return DASH if number is None else f"{number:.2f}%" if unit == "%" else f"{number:.4g}"


def interval(bounds: tuple[float, float] | None) -> str:
    """The ends of the 95% interval of a drop.

    >>> interval((-0.2, 1.0))
    '−0.20 to 1.00'
    """
    return DASH if bounds is None else f"{drop(bounds[0])} to {drop(bounds[1])}"


def drop(value: float | None) -> str:
    """A drop: how much worse than the dense model, in any unit. A gain is negative, and 0 has no sign."""
    if value is None:
        return DASH
    # The sign is decided by the rounded text: -0.001 is "0.00", not "-0.00".
    text = f"{abs(value):,.2f}"
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) else text


def duration(value: float | None) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.000123), duration(0.0123), duration(2)
    ('123 µs', '12.3 ms', '2 s')
    """
    if value is None:
        return DASH
    scale, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1.0, "s")
    return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:,.0f} {unit}"


def short_hash(sha256: str) -> str:
    """The first twelve digits of a hash; the whole one is in summary.json."""
    return sha256[:12]

"""C text in small pieces: loops that vanish when they run once, addresses without needless terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

INDENT = "  "

Term = tuple[str, int, int]
"""A part of an address: a loop's variable ("" for 1), the factor, how often the loop runs (1 for a constant)."""

T = TypeVar("T")


def indented(lines: Iterable[str]) -> list[str]:
    """`lines` one level deeper."""
    return [INDENT + line for line in lines]


def loop(variable: str, count: int, body: Sequence[str], *, groups: int = 1) -> list[str]:
    """`body` for every `variable` < `count`; with several `groups`, for the share of the workgroup `group`."""
    head = f"size_t {variable} = 0; {variable} < {count}"
    if groups > 1:
        head = f"size_t {variable} = {count} * group / {groups}; {variable} < {count} * (group + 1) / {groups}"
    elif count == 1:
        return list(body)
    return [f"for ({head}; {variable}++) {{", *indented(body), "}"]


def at(base: str, *terms: Term) -> str:
    """The address `base` plus the sum of variable x factor. The variable of a loop that runs once is 0.

    >>> at("s", ("l", 12, 3), ("", 4, 1), ("c", 1, 2), ("p", 7, 1))
    's + l * 12 + 4 + c'
    """
    parts = [base]
    for variable, factor, count in terms:
        if factor and (count > 1 or not variable):
            parts.append(str(factor) if not variable else variable if factor == 1 else f"{variable} * {factor}")
    return " + ".join(parts)


def half_constant(name: str, bits: int) -> str:
    """The declaration of a half precision number by its bits; `.value` is the register of a float that holds it."""
    boxed = f"{{{0xFFFF0000 + bits:#x}u}}"
    return f"__attribute__((unused)) const union {{ unsigned bits; float value; }} {name} = {boxed};"


def half_lmul(lmul: int) -> str:
    """The LMUL of half precision numbers beside single ones of `lmul`.

    >>> half_lmul(1), half_lmul(4)
    ('mf2', 'm2')
    """
    return f"m{lmul // 2}" if lmul > 1 else "mf2"


def runs(values: Iterable[T]) -> list[tuple[T, int]]:
    """Equal neighbours as (value, how many).

    >>> runs((6, 5, 5))
    [(6, 1), (5, 2)]
    """
    return [(value, len(list(group))) for value, group in groupby(values)]

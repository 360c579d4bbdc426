"""Corrections of a whole model's fits, and which of them win. Pure: what a model loses is the caller's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Corrections:
    """What is done to the fits of layers when they become one model.

    `sequential`: later layers are fitted to what they really get (`finetune.sequential`). `reordered`: hidden units
    stand in the order that fits best (`finetune.reorder`).
    """

    sequential: bool = False
    reordered: bool = False


AS_FITTED = Corrections()
"""Every layer has its own fit, and hidden units stand as they are."""


def winning(drop: Callable[[Corrections], float], *, correctable: bool, reorderable: Callable[[], bool]) -> Corrections:
    """The corrections that leave the smallest `drop`: the sequential one first, then the order of hidden units.

    Each is used only where it wins. Whether units can be `reorderable` with a gain is asked after the first is decided:
    the answer may take a search.

    >>> winning(lambda c: 5.0 - 2 * c.sequential + c.reordered, correctable=True, reorderable=lambda: True)
    Corrections(sequential=True, reordered=False)
    """
    best = AS_FITTED
    if correctable:
        best = _better(drop, best, replace(best, sequential=True))
    # Asked last: the answer may take a search of orders.
    if reorderable():
        best = _better(drop, best, replace(best, reordered=True))
    return best


def _better(drop: Callable[[Corrections], float], known: Corrections, other: Corrections) -> Corrections:
    own, corrected = drop(known), drop(other)
    # A tie keeps the simpler model.
    return other if corrected < own else known

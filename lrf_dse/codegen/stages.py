"""The contraction of a TT layer as stages S'[l] = A S[l], in any order that grows an interval of neighbouring cores.

With the cores a..b contracted, the state is [batch n_1..n_{a-1}, r_{a-1}, m_a..m_b, r_b, n_{b+1}..n_d]. Growing by the
core on the left contracts (n_{a-1} r_{a-1}), growing by the one on the right (r_b n_{b+1}): both lie together in
memory, so that every stage is a plain view [L, K, D] of the state before it, and no axis ever moves
(docs/glossary.md). `last_first` is the order d-1, ..., 0 and `first_first` is 0, ..., d-1. A dense layer is the one
stage of its one core.

A Monarch matrix has two stages, of block-diagonal factors: every block takes a part of the state of its own, one row
of x after the other, and between the stages axes do move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen.spec import CoreShape
from lrf_dse.cost.counts import StageCount
from lrf_dse.schema import Order
from lrf_dse.tt import contraction

Side = Literal["start", "left", "right"]
"""Where a core joins those that were contracted before it."""


@dataclass(frozen=True)
class Stage:
    """One step of the contraction: the core that joins, on which side, and the size of its batched GEMM.

    `by_row`: every row of x, and every block, is a GEMM of its own.
    """

    core: int
    side: Side
    count: StageCount
    by_row: bool = False

    @property
    def at_once(self) -> StageCount:
        """What one call computes."""
        return replace(self.count, batches=1, blocks=1) if self.by_row else self.count


MONARCH_ORDER = (1, 0)
"""The one order of the stages of a Monarch matrix: R, then L."""


def is_monarch(core_shapes: Sequence[CoreShape]) -> bool:
    """Whether these are the two factors of a Monarch matrix (`schema.TTShape.core_shapes`)."""
    return len(core_shapes) == 2 and core_shapes[0][0] * core_shapes[1][0] > 1 == core_shapes[0][3] == core_shapes[1][3]


def contraction_orders(d: int) -> tuple[tuple[int, ...], ...]:
    """All 2^(d-1) orders in which d cores can be contracted; last_first is the first one, first_first the last.

    >>> contraction_orders(3)
    ((2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 1, 2))
    """
    orders: list[tuple[int, ...]] = []

    def grow(order: tuple[int, ...], first: int, last: int) -> None:
        if len(order) == d:
            orders.append(order)
        if first > 0:
            grow((*order, first - 1), first - 1, last)
        if last < d - 1:
            grow((*order, last + 1), first, last + 1)

    for start in reversed(range(d)):
        # From the last core down, so that last_first is the first order of all.
        grow((start,), start, start)
    return tuple(orders)


def stages_of(core_shapes: Sequence[CoreShape], order: Sequence[int], *, batch: int) -> tuple[Stage, ...]:
    """The stages in the order of their execution. Raises ValueError if `order` does not grow an interval."""
    if is_monarch(core_shapes):
        return _monarch_stages(core_shapes, order, batch)
    stages: list[Stage] = []
    first = last = order[0]
    for k in order:
        left, m, n, right = core_shapes[k]
        # The state is [outside_left, r, inside, r', outside_right], where r and r' are the ranks at the ends of the
        # interval.
        outside_left = batch * prod(n for _, _, n, _ in core_shapes[:first])
        outside_right = prod(n for _, _, n, _ in core_shapes[last + 1 :])
        inside = prod(m for _, m, _, _ in core_shapes[first : last + 1])
        if not stages:
            # At the start ranks stand on both sides: one is a row before m, the other one after it.
            stages.append(Stage(k, "start", StageCount(outside_left, left * m * right, n, outside_right)))
        elif k == first - 1:
            # K is (n, r): both lie together on the left of what was contracted, and all behind them are columns.
            columns = inside * core_shapes[last][3] * outside_right
            stages.append(Stage(k, "left", StageCount(outside_left // n, left * m, n * right, columns)))
            first = k
        elif k == last + 1:
            # K is (r, n): both lie together on the right, and all before them are batches.
            batches = outside_left * core_shapes[first][0] * inside
            stages.append(Stage(k, "right", StageCount(batches, m * right, left * n, outside_right // n)))
            last = k
        else:
            raise ValueError(f"core {k} is no neighbour of cores {first}..{last}: order {tuple(order)}")
    if len(stages) != len(core_shapes):
        raise ValueError(f"order {tuple(order)} does not contract {len(core_shapes)} cores")
    return tuple(stages)


def _monarch_stages(core_shapes: Sequence[CoreShape], order: Sequence[int], batch: int) -> tuple[Stage, ...]:
    if tuple(order) != MONARCH_ORDER:
        raise ValueError(f"a Monarch matrix is computed in the order {MONARCH_ORDER}, not {tuple(order)}")
    sides: tuple[Side, ...] = ("start", "left")
    # A block takes its own part of the state, so that blocks are independent GEMMs of one shape.
    counts = [StageCount(batch, rows, k, 1, blocks) for blocks, rows, k, _ in (core_shapes[i] for i in order)]
    return tuple(Stage(i, side, count, by_row=True) for i, side, count in zip(order, sides, counts, strict=True))


def stage_matrix(core: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
    """The constant A [R, K] of a stage from its core G [r, m, n, r'].

    start: [(r m r'), n]; left: [(r m), (n r')]; right: [(m r'), (r n)], as the contractions of `tt` have them.
    """
    if side != "start":
        return contraction.stage_matrix(core, _ORDERS[side])
    left, m, n, right = core.shape
    return np.ascontiguousarray(core.transpose(0, 1, 3, 2).reshape(left * m * right, n))


def core_of(matrix: NDArray[np.float32], shape: CoreShape, side: Side) -> NDArray[np.float32]:
    """The core [r, m, n, r'] whose `stage_matrix` is `matrix`."""
    if side != "start":
        return contraction.core_of(matrix, shape, _ORDERS[side])
    left, m, n, right = shape
    return np.ascontiguousarray(matrix.reshape(left, m, right, n).transpose(0, 1, 3, 2))


_ORDERS: dict[Side, Order] = {"left": "last_first", "right": "first_first"}
"""The order of a contraction whose stages join a core on that side."""


def core_merges(d: int) -> Iterator[tuple[int, ...]]:
    """All ways to multiply runs of neighbours among `d` cores that leave two or more (of one core: that), none last.

    >>> list(core_merges(3))
    [(1, 2), (2, 1), (1, 1, 1)]
    """
    # Bit p is a cut after core p. No cut at all would multiply all cores, which gives the dense W back.
    for cuts in range(min(1, d - 1), 2 ** (d - 1)):
        runs = [1]
        for place in range(d - 1):
            if cuts >> place & 1:
                runs.append(1)
            else:
                runs[-1] += 1
        yield tuple(runs)


def merged_shapes(core_shapes: Sequence[CoreShape], merges: Sequence[int]) -> tuple[CoreShape, ...]:
    """The core shapes after neighbours were multiplied: `merges` holds how many cores make each new one.

    >>> merged_shapes([(1, 2, 3, 4), (4, 5, 6, 7), (7, 8, 9, 1)], (2, 1))
    ((1, 10, 18, 7), (7, 8, 9, 1))
    """
    if sum(merges) != len(core_shapes) or min(merges) < 1:
        raise ValueError(f"merges {tuple(merges)} do not make up {len(core_shapes)} cores")
    shapes, at = [], 0
    for size in merges:
        group = core_shapes[at : at + size]
        modes = prod(m for _, m, _, _ in group), prod(n for _, _, n, _ in group)
        shapes.append((group[0][0], *modes, group[-1][3]))
        at += size
    return tuple(shapes)


def merge_cores(cores: Sequence[NDArray[np.float32]], merges: Sequence[int]) -> list[NDArray[np.float32]]:
    """The product cores that `merged_shapes` describes; products are summed in float64."""
    merged, at = [], 0
    for size in merges:
        product = cores[at]
        for core in cores[at + 1 : at + size]:
            joined = np.einsum("amnb,bijc->aminjc", product.astype(np.float64), core)
            a, m, i, n, j, c = joined.shape
            product = joined.reshape(a, m * i, n * j, c)
        merged.append(np.asarray(product, dtype=np.float32))
        at += size
    return merged

"""Counts of whole blocks of shapes at once, as polynomials in the one rank of all cuts.

Both parameters and FLOPs are c_1 r + c_2 r^2: the two end cores are linear in r, the inner ones quadratic. For single
candidates `lrf_dse.cost.counts` has the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import FcLayer
from lrf_dse.tt.orders import IntArray, ShapeBlock

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Polynomials:
    """constant + linear r + square r^2 of every shape [shapes]."""

    linear: IntArray
    square: IntArray
    constant: int = 0

    def at(self, shapes: IntArray, ranks: IntArray) -> IntArray:
        """The values of these shapes, by index, each at its own rank."""
        return self.constant + (self.linear[shapes] + self.square[shapes] * ranks) * ranks

    def largest_below(self, limit: int) -> IntArray:
        """The largest rank of every shape whose value is below `limit`; 0 where there is none."""
        room = limit - 1 - self.constant
        if room < 0:
            return np.zeros_like(self.linear)
        # The root that does not cancel, right to 1 part in 2^52: the next rank is tried in integers.
        # The larger root of square r^2 + linear r = room as 2 room / (linear + root): the usual formula would subtract
        # nearly equal numbers, and divide by square = 0 for two cores.
        root = np.sqrt(self.linear.astype(np.float64) ** 2 + 4.0 * self.square * room)
        ranks = (2.0 * room / (self.linear + root)).astype(np.int64)
        too_large = (self.linear + self.square * ranks) * ranks > room
        ranks = ranks - too_large
        return ranks + ((self.linear + self.square * (ranks + 1)) * (ranks + 1) <= room)


def parameter_curves(shapes: ShapeBlock, layer: FcLayer) -> Polynomials:
    """sum_k r_{k-1} m_k n_k r_k, and the bias."""
    cores = shapes.sizes
    bias = layer.out_features if layer.has_bias else 0
    return Polynomials(cores[:, 0] + cores[:, -1], cores[:, 1:-1].sum(axis=1), bias)


def flop_curves(shapes: ShapeBlock, layer: FcLayer, *, first_first: bool = False) -> Polynomials:
    """2 sum_k r_{k-1} r_k prod_{t<=k} n_t prod_{t>=k} m_t for each row of the batch, and the bias; last core first.

    With `first_first` the modes of outputs and inputs change places.
    """
    stages = shapes.outs_upto * shapes.ins_from if first_first else shapes.ins_upto * shapes.outs_from
    scale = 2 * layer.batch
    bias = layer.batch * layer.out_features if layer.has_bias else 0
    return Polynomials(scale * (stages[:, 0] + stages[:, -1]), scale * stages[:, 1:-1].sum(axis=1), bias)


def least_weights(shapes: ShapeBlock) -> tuple[Polynomials, ...]:
    """What is left of the weights if cores may be multiplied together before: the least of these curves, or more.

    Multiplying inner cores never makes less of them (a b >= a + b for a, b >= 2); an end core with its neighbour may,
    near the cap. So the ends as they are, or one or both multiplied, are all that can be least.
    """
    cores = shapes.sizes
    first, last, inner = cores[:, 0], cores[:, -1], cores[:, 1:-1].sum(axis=1)
    found = [Polynomials(first + last, inner)]
    if shapes.d > 2:
        # The first two cores as one: its size is the product of theirs, times r, and one inner term goes.
        found.append(Polynomials(first * cores[:, 1] + last, inner - cores[:, 1]))
        found.append(Polynomials(last * cores[:, -2] + first, inner - cores[:, -2]))
    if shapes.d > 3:
        both = first * cores[:, 1] + last * cores[:, -2]
        found.append(Polynomials(both, inner - cores[:, 1] - cores[:, -2]))
    return tuple(found)


def least_multiply_adds(shapes: ShapeBlock, index: IntArray, ranks: IntArray) -> IntArray:
    """What the first and the last stage of any contraction take at least for one row, cores multiplied before or not.

    The first one meets all of x: N r_{k-1} m_k r_k; the last one makes all of y, with an end core: M n_k r.
    """
    outs, ins = shapes.out_dims, shapes.in_dims
    # The least over all cores that a contraction may start with: an end core has one rank, an inner one two.
    ends, inner = np.minimum(outs[:, 0], outs[:, -1]), outs[:, 1:-1].min(axis=1, initial=int(outs.max(initial=1)))
    first = np.minimum(ends[index], inner[index] * ranks) if shapes.d > 2 else ends[index]
    last = np.minimum(ins[:, 0], ins[:, -1])[index]
    return (shapes.ins_upto[:, -1][index] * first + shapes.outs_upto[:, -1][index] * last) * ranks


def rank_steps(shapes: ShapeBlock, lanes: int) -> IntArray:
    """The step between the ranks of each shape that leave no vector of its kernel partly empty, in the cheaper order.

    A stage has vectors along the columns of its state, or along its rows, which are r m_k. Where the columns are whole
    vectors every rank pays, else those that make the rows whole.

    >>> rank_steps(ShapeBlock(np.array([[150, 2], [300, 1]]), np.array([[4, 196], [1, 784]])), 8).tolist()
    [4, 8]
    """
    layer = FcLayer("", int(shapes.in_dims[0].prod()), int(shapes.out_dims[0].prod()), 1, has_bias=False)
    last, first = (flop_curves(shapes, layer, first_first=first_first) for first_first in (False, True))
    # Compared at a rank of one vector: which order is cheaper depends little on the rank.
    at = np.full(len(shapes), lanes), np.arange(len(shapes))
    cheaper = last.at(at[1], at[0]) <= first.at(at[1], at[0])
    ones = np.ones((len(shapes), 1), dtype=np.int64)
    # Last core first, the rows of core k >= 2 hold r_{k-1}; first core first, those of core k < d hold r_k.
    leftwards = _step(np.concatenate([shapes.outs_from[:, 2:], ones], axis=1), shapes.out_dims[:, 1:], lanes)
    rightwards = _step(shapes.ins_from[:, 1:], shapes.out_dims[:, :-1], lanes)
    return np.where(cheaper, leftwards, rightwards)


def _step(columns: IntArray, modes: IntArray, lanes: int) -> NDArray[Any]:
    steps = np.where(columns % lanes == 0, 1, lanes // np.gcd(modes, lanes))
    # For lanes that are a power of two the steps are too, and the largest is their least common multiple.
    return np.asarray(np.lcm.reduce(steps, axis=1) if lanes & (lanes - 1) else steps.max(axis=1))


def tuple_counts(block: ShapeBlock, inner: IntArray, layer: FcLayer) -> tuple[IntArray, IntArray]:
    """Parameters and FLOPs, last core first, of shapes with inner ranks [shapes, d - 1] (`lrf_dse.cost.counts`)."""
    ones = np.ones((len(block), 1), dtype=np.int64)
    ranks = np.concatenate([ones, inner, ones], axis=1)
    pairs = ranks[:, :-1] * ranks[:, 1:]
    bias = layer.out_features if layer.has_bias else 0
    stages = block.ins_upto * block.outs_from
    return (pairs * block.sizes).sum(axis=1) + bias, layer.batch * (2 * (pairs * stages).sum(axis=1) + bias)


def even_ranks(shapes: ShapeBlock, wanted: IntArray, steps: IntArray, max_rank: int) -> IntArray:
    """Inner ranks [shapes, d - 1] that are at least `wanted`, multiples of the steps [shapes], and can be filled.

    Where the cap, or `max_rank`, allows no such multiple it is the largest below; 0 where there is none.
    """
    # np.roll puts what lies behind cut k beside what lies before it; the last column is not used.
    caps = np.minimum(shapes.outs_upto * shapes.ins_upto, np.roll(shapes.outs_from * shapes.ins_from, -1, axis=1))
    caps, step = np.minimum(caps, max_rank), steps[:, None]
    ranks = np.asfortranarray(np.minimum(-(-np.maximum(wanted, 1) // step), caps[:, :-1] // step) * step)
    # No rank is larger than its neighbour times the core between them.
    for k in range(1, ranks.shape[1]):
        ranks[:, k] = np.minimum(ranks[:, k], ranks[:, k - 1] * shapes.sizes[:, k] // steps * steps)
    for k in reversed(range(ranks.shape[1] - 1)):
        ranks[:, k] = np.minimum(ranks[:, k], ranks[:, k + 1] * shapes.sizes[:, k + 1] // steps * steps)
    return ranks

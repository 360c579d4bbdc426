"""The lower bound of `lrf_dse.codegen.bound` for many shapes of one layer at once, as columns of arrays.

The same figure by another way: the cheapest order of contraction is found interval by interval of cores, not by trying
all orders. Sums are double precision, exact up to 2^53 multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen.bound import beyond_caches, load_rate
from lrf_dse.codegen.stages import core_merges
from lrf_dse.cost.counts import FP32_BYTES, parameters
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.target import Target
from lrf_dse.tt.rank_tuples import CoreCost

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LayerBound:
    """What no program goes below that computes `layer` in fp32 on one core of `target`, which has a known peak."""

    layer: FcLayer
    target: Target

    def of(self, out_dims: NDArray[np.int64], in_dims: NDArray[np.int64], ranks: NDArray[np.int64]) -> FloatArray:
        """Cycles [shapes] of shapes of d cores: out_dims and in_dims [shapes, d], ranks [shapes, d + 1]."""
        # Transposed to [cores, shapes], so that one core of all shapes is one row.
        outs, ins, between = (np.asarray(array.T, dtype=np.float64) for array in (out_dims, in_dims, ranks))
        ways = [_merged(outs, ins, between, merges) for merges in core_merges(out_dims.shape[1])]
        bounds = [
            np.maximum(self.layer.batch * cores.multiply_adds() / self._peak, self._reading(cores.weights))
            for cores in ways
        ]
        return np.asarray(reduce(np.minimum, bounds))

    def at_least(self, weights: NDArray[np.int64], multiply_adds: NDArray[np.int64]) -> FloatArray:
        """Cycles of any program that reads so many weights, each for every row of the batch, and does so much a row."""
        read = weights.astype(np.float64)
        return np.maximum(self.layer.batch * np.maximum(read, multiply_adds) / self._peak, self._reading(read))

    def core_cost(self, shape: TTShape) -> CoreCost:
        """What a stage takes at least, by core and ranks: its multiply-adds, or reading its weights if that is more.

        The order, last core first or first core first, is the cheaper one with the ranks of `shape`. The sum over cores
        predicts cycles of tuples of ranks before schedules are searched; a whole kernel's bound is lower.
        """
        m, n = np.cumprod((1, *shape.out_dims)), np.cumprod((1, *shape.in_dims))
        outs, ins = m[-1] // m[:-1], n[-1] // n[:-1]
        sizes = np.array(shape.out_dims) * np.array(shape.in_dims)
        works = n[1:] * outs, m[1:] * ins
        left, right = np.array(shape.ranks[:-1]), np.array(shape.ranks[1:])
        # One order for all ranks: the minimum order by order would not be a sum over cores, and such a sum is what is
        # asked for.
        work = min(works, key=lambda stages: float((stages * left * right).sum()))
        # Weights that fit the first cache come at the rate of loads, others at that of the level behind it.
        rate = self._caches[0][1] if FP32_BYTES * parameters(shape) > self._caches[0][0] else self._rate

        def cost(core: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> FloatArray:
            pairs = (left * right).astype(np.float64)
            adds, read = self.layer.batch * work[core] / self._peak, FP32_BYTES * sizes[core] / rate
            return np.asarray(pairs * max(float(adds), float(read)))

        return cost

    @cached_property
    def _peak(self) -> float:
        peak = self.target.core.fma_per_cycle
        if peak is None:
            raise ValueError(f"the peak of {self.target.name} is not known")
        return peak.value

    @cached_property
    def _caches(self) -> tuple[tuple[float, float], ...]:
        return tuple(beyond_caches(self.target, 1))

    @cached_property
    def _rate(self) -> float:
        return load_rate(self.target)

    def _reading(self, weights: FloatArray) -> FloatArray:
        layer = self.layer
        fixed = layer.batch * layer.in_features + layer.out_features * layer.has_bias
        read = FP32_BYTES * (weights + fixed)
        # A negative entry (all fits that cache) loses against the first one, which is positive.
        levels = [read / self._rate, *((read - size) / rate for size, rate in self._caches)]
        return np.asarray(reduce(np.maximum, levels))


@dataclass(frozen=True)
class _Cores:
    """Cores of many shapes: of each core its outputs, its inputs and the rank before it, with one rank more."""

    outs: list[FloatArray]
    ins: list[FloatArray]
    ranks: list[FloatArray]

    @property
    def weights(self) -> FloatArray:
        cores = zip(self.ranks, self.outs, self.ins, self.ranks[1:], strict=False)
        return np.asarray(sum(left * m * n * right for left, m, n, right in cores))

    def multiply_adds(self) -> FloatArray:
        """The multiply-adds of one row in the cheapest order that grows an interval of cores, first..last."""
        d = len(self.outs)
        ins, outs = ([_product(modes[:k]) for k in range(d + 1)] for modes in (self.ins, self.outs))
        behind = [_product(self.ins[k:]) for k in range(d + 1)]
        # least[a, b]: multiply-adds until the cores a..b are contracted, by the cheapest order. The state is then
        # [n_1..n_{a-1}, r_{a-1}, m_a..m_b, r_b, n_{b+1}..n_d], which gives the factors below (docs/glossary.md).
        least: dict[tuple[int, int], FloatArray] = {}
        for k in range(d):
            least[k, k] = ins[k] * self.ranks[k] * self.outs[k] * self.ranks[k + 1] * behind[k]
        for width in range(1, d):
            for first in range(d - width):
                last = first + width
                # Core `first` joined last, on the left: outputs of the others, the rank after them and the inputs
                # behind are its columns.
                left = least[first + 1, last] + self._stage(first, ins[first]) * (
                    outs[last + 1] / outs[first + 1] * self.ranks[last + 1] * behind[last + 1]
                )
                # Core `last` joined last, on the right: the inputs before, the rank before and the outputs of the
                # others are its batches.
                right = least[first, last - 1] + self._stage(last, behind[last + 1]) * (
                    ins[first] * self.ranks[first] * (outs[last] / outs[first])
                )
                least[first, last] = np.minimum(left, right)
        return least[0, d - 1]

    def _stage(self, core: int, outside: FloatArray) -> FloatArray:
        return outside * self.ranks[core] * self.outs[core] * self.ins[core] * self.ranks[core + 1]


def _product(columns: list[FloatArray]) -> FloatArray:
    return np.asarray(reduce(np.multiply, columns, np.ones(1)))


def _merged(outs: FloatArray, ins: FloatArray, ranks: FloatArray, merges: tuple[int, ...]) -> _Cores:
    """Cores after neighbours were multiplied (`lrf_dse.codegen.stages.merged_shapes`), of columns [cores, shapes]."""
    ends = np.cumsum(merges)
    runs = [(int(end) - size, int(end)) for end, size in zip(ends, merges, strict=True)]
    return _Cores(
        [np.prod(outs[a:b], axis=0) for a, b in runs],
        [np.prod(ins[a:b], axis=0) for a, b in runs],
        [ranks[0], *(ranks[b] for _, b in runs)],
    )

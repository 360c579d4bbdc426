"""Which storages are explored, and in which of them a layer's survivors are worth measuring.

A storage changes a candidate's bytes, cycles and error. All three are predicted before anything is built: bytes by
count, cycles by the kernel's closed form, the error from the fit in fp32, which all storages share, and what a grid was
seen to add. What is dominated, or beyond the number that spreads along the front, is not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import hypot
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from lrf_dse.codegen.choice import has_half
from lrf_dse.cost.counts import stored_bytes
from lrf_dse.cost.prune import PruneResult
from lrf_dse.errors import UsageError
from lrf_dse.front.pareto import front_of_three
from lrf_dse.front.spread import spread
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.methods import competitors
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.schema import Candidate, FcLayer, Storage, dense_candidate
from lrf_dse.target import Target

STORAGES: tuple[Storage, ...] = get_args(Storage)

GRID_ERROR: dict[Storage, float] = {"fp32": 0.0, "fp16": 3e-4, "int8": 2e-3, "int4": 4e-2}
"""What rounding adds to a layer's relative output error, as the root of the squares: the layers of LeNet-300-100,
factors of low rank 8 to 48 fitted to the grid."""


LADDER = 1.25
"""Ranks that are tried between others grow by about this factor."""

LEAST_ERROR = 1e-6
"""Below this relative error nothing is gained any more."""


def with_bits(settings: ExploreSettings, target: Target) -> ExploreSettings:
    """The settings with the storages that are explored: those asked for, or those that the target computes well.

    Raises UsageError for storages that none of the kernels can compute.
    """
    if "rvv" not in settings.kernels:
        if settings.bits is not None and set(settings.bits) != {"fp32"}:
            raise UsageError("--bits below fp32 needs our kernels: --kernels rvv (IREE turns the weights into fp32)")
        return replace(settings, bits=("fp32",))
    if settings.bits is not None:
        return settings
    # fp16 saves the fewest bytes, and where the chip does not compute in it it must be widened element by element.
    return replace(settings, bits=tuple(s for s in STORAGES if s != "fp16" or has_half(target)))


def few_bits(settings: ExploreSettings) -> tuple[Storage, ...]:
    """The explored storages besides fp32."""
    return tuple(storage for storage in STORAGES if storage != "fp32" and storage in (settings.bits or ()))


def stored_dense(settings: ExploreSettings, layer: FcLayer) -> tuple[Candidate, ...]:
    """The layer as one matrix in every storage besides fp32: what a user would pick who only quantises."""
    return tuple(replace(dense_candidate(layer, "rvv"), storage=storage) for storage in few_bits(settings))


def stored_survivors(x: Exploration, space: PruneResult) -> tuple[Candidate, ...]:
    """The shapes of a layer in few bits that are worth measuring: about `top` of low rank, and at most as many others.

    Beside the survivors of the space stand the ranks between them: in few bits one more rank is a few hundred bytes.
    """
    if not few_bits(x.settings):
        return ()
    survivors = {ranked.candidate: _error(x.errors, ranked.candidate, ranked.error_bound) for ranked in space.survivors}
    errors = survivors | _between(survivors, x.target.fp32_lanes)
    low = {shape: error for shape, error in errors.items() if shape.tt_shape is not None and shape.tt_shape.is_low_rank}
    other = {shape: error for shape, error in errors.items() if shape not in low}
    survived = {shape: error for shape, error in other.items() if shape in survivors}
    dense, half = space.dense.candidate, (x.settings.top + 1) // 2
    storages: tuple[Storage, ...] = ("fp32", *few_bits(x.settings))
    # Low rank takes cycles as it takes bytes: what is smaller at the same error is faster too.
    chosen = _spread_in(_Pool(storages, x.target, low, dense=dense), by_cycles=False, most=x.settings.top)
    # The fast ones of the others are few and far between in bytes: the small ones are sought by themselves.
    chosen += _spread_in(_Pool(storages, x.target, other, dense=dense), by_cycles=False, most=half)
    chosen += _spread_in(_Pool(storages, x.target, survived), by_cycles=True, most=half)
    return tuple(dict.fromkeys(chosen))


class _Pool:
    """Shapes in every storage, with bytes, predicted errors and predicted cycles; what is not fp32 may be chosen.

    Cycles are predicted where they are asked for: each is a search of schedules.
    """

    def __init__(
        self,
        storages: Sequence[Storage],
        target: Target,
        errors: Mapping[Candidate, float],
        *,
        dense: Candidate | None = None,
    ) -> None:
        self._target = target
        # A dense layer in few bits is a rival too: a factorised one that loses to it need not be measured.
        known = errors if dense is None else {**errors, dense: 0.0}
        pairs = [(shape, storage) for storage in storages for shape in known]
        self.candidates = [replace(shape, kernel="rvv", storage=storage) for shape, storage in pairs]
        self.sizes = np.array([stored_bytes(candidate) for candidate in self.candidates], np.int64)
        # The errors of the fit and of rounding are independent: their squares add up.
        self.errors = np.array([hypot(known[shape], GRID_ERROR[storage]) for shape, storage in pairs])
        self.few = np.array([storage != "fp32" and shape.tt_shape is not None for shape, storage in pairs], np.bool_)

    @cached_property
    def cycles(self) -> NDArray[np.float64]:
        """Predicted cycles of every candidate."""
        return np.array([_cycles(candidate, self._target) for candidate in self.candidates])


def _spread_in(pool: _Pool, *, by_cycles: bool, most: int) -> list[Candidate]:
    """At most `most` candidates in few bits that spread over the sizes of the front; fp32 and dense are only rivals."""
    third = pool.cycles if by_cycles else np.zeros_like(pool.errors)
    front = front_of_three(third, pool.sizes, pool.errors)
    # fp32 and dense candidates have done their part as rivals on the front.
    front = front[pool.few[front]]
    if not front.size:
        return []
    losses = [pool.errors[front], *([pool.cycles[front]] if by_cycles else [])]
    return [pool.candidates[i] for i in front[spread(pool.sizes[front], losses, most)].tolist()]


def _between(survivors: Mapping[Candidate, float], lanes: int) -> dict[Candidate, float]:
    """Ranks between those of survivors that differ in one rank alone, with errors read off between theirs.

    The scales of both are logarithmic.
    """
    families: dict[tuple[tuple[int, ...], tuple[int, ...]], dict[int, Candidate]] = {}
    for candidate in survivors:
        shape = candidate.tt_shape
        if shape is not None and shape.d == 2:
            families.setdefault((shape.out_dims, shape.in_dims), {})[shape.ranks[1]] = candidate
    return {c: error for members in families.values() for c, error in _filled(members, survivors, lanes).items()}


def _filled(
    members: Mapping[int, Candidate], survivors: Mapping[Candidate, float], lanes: int
) -> dict[Candidate, float]:
    """The ranks between those of one family's `members`."""
    ranks = sorted(members)
    # Straight lines between the survivors on two logarithmic scales: a power law of the rank.
    known = np.log([max(survivors[members[rank]], LEAST_ERROR) for rank in ranks])
    found, rank = {}, ranks[0]
    while rank < ranks[-1]:
        if rank not in members:
            shape = members[ranks[0]].tt_shape
            assert shape is not None
            between = replace(members[ranks[0]], tt_shape=replace(shape, ranks=(1, rank, 1)))
            found[between] = float(np.exp(np.interp(np.log(rank), np.log(ranks), known)))
        # Whole multiples of the lanes: other ranks leave lanes of a vector idle.
        rank = max((rank // lanes + 1) * lanes, int(LADDER * rank) // lanes * lanes)
    return found


def _error(errors: FitErrors, candidate: Candidate, bound: float) -> float:
    """The output error of the fit that all storages of a shape start from; without data the bound of its weights."""
    with_data = errors.compressor.calibration is not None
    error = errors.output_error(competitors(candidate, with_data=with_data)[-1])
    return bound if error is None else error.value


def _cycles(candidate: Candidate, target: Target) -> float:
    found = estimate(candidate, target)
    return float(found.flops if found.cycles is None else found.cycles)

"""Which storages are explored, and in which of them a layer's survivors are worth measuring.

A storage changes a candidate's bytes, cycles and error. All three are predicted before anything is built: bytes by
count, cycles by the kernel's closed form, the error from the fit in fp32, which all storages share, and what a grid was
seen to add. What is dominated, or beyond the number that spreads along the front, is not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import hypot
from typing import get_args

import numpy as np

from lrf_dse.codegen.choice import has_half
from lrf_dse.cost.counts import stored_bytes
from lrf_dse.cost.prune import PruneResult, non_dominated
from lrf_dse.cost.spread import spread
from lrf_dse.errors import UsageError
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import estimate
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
    return replace(settings, bits=tuple(s for s in STORAGES if s != "fp16" or has_half(target)))


def few_bits(x: Exploration) -> tuple[Storage, ...]:
    """The explored storages besides fp32."""
    return tuple(storage for storage in STORAGES if storage != "fp32" and storage in (x.settings.bits or ()))


def stored_dense(x: Exploration, layer: FcLayer) -> tuple[Candidate, ...]:
    """The layer as one matrix in every storage besides fp32: what a user would pick who only quantises."""
    return tuple(replace(dense_candidate(layer, "rvv"), storage=storage) for storage in few_bits(x))


def stored_survivors(x: Exploration, space: PruneResult) -> tuple[Candidate, ...]:
    """The shapes of a layer in few bits that are worth measuring: about `top` of low rank, and half as many others.

    Beside the survivors of the space stand the low ranks between them: in few bits one more rank is a few hundred
    bytes, and low rank is what most plans take.
    """
    bits = few_bits(x)
    if not bits or not space.survivors:
        return ()
    survivors = {ranked.candidate: _error(x, ranked.candidate, ranked.error_bound) for ranked in space.survivors}
    errors = survivors | _between(survivors, x.target.fp32_lanes)
    pool: list[tuple[Candidate, Storage]] = [(shape, "fp32") for shape in survivors]
    pool += [(shape, storage) for storage in bits for shape in errors]
    candidates = [replace(shape, kernel="rvv", storage=storage) for shape, storage in pool]
    sizes = np.array([stored_bytes(candidate) for candidate in candidates], np.int64)
    predicted = np.array([hypot(errors[shape], GRID_ERROR[storage]) for shape, storage in pool])
    cycles = np.array([_cycles(candidate, x.target) for candidate in candidates])
    low = np.array([shape.tt_shape is not None and shape.tt_shape.is_low_rank for shape, _ in pool])
    few = np.arange(len(pool)) >= len(survivors)  # in fp32 all survivors are measured
    chosen: list[int] = []
    for kind, most in ((low, x.settings.top), (~low, (x.settings.top + 1) // 2)):
        mine = np.flatnonzero(kind)
        front = mine[non_dominated(cycles[mine], sizes[mine], predicted[mine])]
        front = front[few[front]]
        if front.size:
            chosen += front[spread(sizes[front], [predicted[front], cycles[front]], most)].tolist()
    return tuple(candidates[i] for i in chosen)


def _between(survivors: Mapping[Candidate, float], lanes: int) -> dict[Candidate, float]:
    """Low ranks between those of the survivors, with errors read off between theirs, on logarithmic scales."""
    low = {c.tt_shape.ranks[1]: c for c in survivors if c.tt_shape is not None and c.tt_shape.is_low_rank}
    if len(low) < 2:
        return {}
    ranks = sorted(low)
    known = np.log([max(survivors[low[rank]], LEAST_ERROR) for rank in ranks])
    found, rank = {}, ranks[0]
    while rank < ranks[-1]:
        if rank not in low:
            shape = low[ranks[0]].tt_shape
            assert shape is not None
            between = replace(low[ranks[0]], tt_shape=replace(shape, ranks=(1, rank, 1)))
            found[between] = float(np.exp(np.interp(np.log(rank), np.log(ranks), known)))
        rank = max(rank + lanes, int(LADDER * rank) // lanes * lanes)
    return found


def _error(x: Exploration, candidate: Candidate, bound: float) -> float:
    """The output error of the fit that all storages of a shape start from; without data the bound of its weights."""
    error = x.judge.output_error(competitors(candidate, x.judge)[-1])
    return bound if error is None else error.value


def _cycles(candidate: Candidate, target: Target) -> float:
    found = estimate(candidate, target)
    return float(found.flops if found.cycles is None else found.cycles)


def is_plain(choices: Sequence[Candidate]) -> bool:
    """Whether every choice is stored in fp32."""
    return all(choice.storage == "fp32" for choice in choices)

"""Which storages are explored, and in which of them a layer's survivors are worth measuring.

A storage changes a candidate's bytes, cycles and error. All three are predicted before anything is built: bytes by
count, cycles by the kernel's closed form, the error from the fit in fp32, which all storages share, and what a grid was
seen to add. What is dominated, or beyond the number that spreads along the front, is not built.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The survivors of a layer's space in few bits that are worth measuring: about `top` of them."""
    shapes = [ranked.candidate for ranked in space.survivors]
    errors = [_error(x, ranked.candidate, ranked.error_bound) for ranked in space.survivors]
    candidates = [replace(shape, kernel="rvv", storage=s) for s in ("fp32", *few_bits(x)) for shape in shapes]
    if len(candidates) == len(shapes):
        return ()
    sizes = np.array([stored_bytes(candidate) for candidate in candidates], np.int64)
    predicted = np.array([hypot(errors[i % len(shapes)], GRID_ERROR[c.storage]) for i, c in enumerate(candidates)])
    cycles = np.array([_cycles(candidate, x.target) for candidate in candidates])
    front = non_dominated(cycles, sizes, predicted)
    front = front[front >= len(shapes)]  # in fp32 all survivors are measured
    chosen = front[spread(sizes[front], [predicted[front], cycles[front]], x.settings.top)] if front.size else front
    return tuple(candidates[i] for i in chosen.tolist())


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

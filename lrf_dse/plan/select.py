"""Whole-model combinations from per-layer options: predictions go in, what is worth measuring comes out.

Everything is minimised. Nothing here measures, estimates or reads; `choice` picks among measured plans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.options import (
    NO_LIMITS,
    RAM,
    Combination,
    LayerOption,
    Limits,
    dense_combination,
    numbers_of,
)

SLACK = 1.1
"""A predicted size or latency may exceed its limit by this factor: code is placed and shared as nobody predicts."""

STEPS = 3
"""Options of a layer that are near each other: at most so many places apart in latency."""

BEAM_CAP = 1000
"""Combinations kept after each layer: exact below it, and 100 layers of 10 options stay within seconds."""

_COARSE = 8
"""A front that was thinned before is sought among so many times `cap` points, one of each of its finer boxes."""


def compose(
    layers: Sequence[Sequence[LayerOption]], *, cap: int = BEAM_CAP, within: Limits = NO_LIMITS
) -> tuple[Combination, ...]:
    """The whole-model front over (latency, flash, ram, loss), sorted by them, fastest first.

    Merges layer after layer and drops dominated partial combinations, which loses nothing: sum and max are monotone,
    so a dominated part can be replaced in any whole. Of combinations equal in all four, the one with the earlier
    options is kept. While no merge exceeds half of `cap` points the result is the exact front. Beyond it, the objective
    space is cut into equal boxes, as fine as `cap` allows, and one point per box is kept, besides the best point of
    every objective: a lost combination has a kept one within one box in every objective, and with several such merges
    those distances add up. The ends of the front are always exact. Combinations that exceed the limits `within` by more
    than SLACK are left out, as soon as no option of the later layers can mend that; there may be none then.
    """
    if cap < 8:
        raise ValueError(f"cap must be at least 8 to keep the extremes, got {cap}")
    if not layers or not all(layers):
        raise ValueError("every layer needs at least one option")
    values = np.zeros((1, 4))
    # The neutral element of a maximum, as 0 is of the sums.
    values[0, RAM] = -np.inf
    paths = np.zeros((1, 0), dtype=np.int32)
    for options, rest in zip(layers, _least_after(layers), strict=True):
        values, paths = _merge(values, paths, options, cap, most=SLACK * within.bounds - rest)
    # lexsort takes the last key first.
    order = np.lexsort(values.T[::-1])
    return tuple(
        Combination(tuple(options[i] for options, i in zip(layers, path, strict=True))) for path in paths[order]
    )


def _merge(
    values: FloatArray,
    paths: npt.NDArray[np.int32],
    options: Sequence[LayerOption],
    cap: int,
    *,
    most: FloatArray,
) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Extend every partial combination by every option of the next layer and keep the front, at most `cap` points.

    Those above `most` in any number are dropped.
    """
    added = numbers_of(options)
    useful = np.flatnonzero(_first_of_equal_front(added))
    added = added[useful]
    grown = values[:, None, :] + added[None, :, :]
    # Layers run one after the other, so RAM is the largest of them and no sum.
    grown[:, :, RAM] = np.maximum(values[:, None, RAM], added[None, :, RAM])
    flat = grown.reshape(-1, 4)
    possible = np.flatnonzero((flat <= most).all(axis=1))
    if len(values) > cap // 2 and len(possible) > _COARSE * cap:
        # The front is thinned anyway: a first look at finer boxes saves most of the comparisons.
        possible = possible[_thin(flat[possible], _COARSE * cap)]
    kept = possible[_first_of_equal_front(flat[possible])]
    if len(kept) > cap:
        kept = kept[_thin(flat[kept], cap)]
    parents, chosen = np.divmod(kept, len(useful))
    return flat[kept], np.concatenate([paths[parents], useful[chosen, None].astype(np.int32)], axis=1)


def _least_after(layers: Sequence[Sequence[LayerOption]]) -> list[FloatArray]:
    """For each layer, the least that the layers after it add to every sum; nothing adds to the largest RAM."""
    least = np.zeros(4)
    found = []
    for options in reversed(layers):
        found.append(least)
        least = least + np.where(np.arange(4) == RAM, 0.0, numbers_of(options).min(axis=0))
    return found[::-1]


def _first_of_equal_front(values: FloatArray) -> npt.NDArray[np.bool_]:
    mask = front_mask(values)
    members = np.flatnonzero(mask)
    # Of equal rows the first one stays: the earlier options.
    _, first = np.unique(values[members], axis=0, return_index=True)
    result = np.zeros(len(values), dtype=np.bool_)
    result[members[first]] = True
    return result


def _thin(values: FloatArray, cap: int) -> npt.NDArray[np.intp]:
    """Indices, ascending, of at most `cap` rows: the lexicographically best of every objective, and one per box."""
    ends = {_best_in(values, k) for k in range(4)}
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    unit = (values - low) / np.where(span > 0, span, 1.0)
    # The row nearest to its box's best corner first, so np.unique(return_index) keeps it. Sums order it well enough.
    order = np.argsort(unit.sum(axis=1), kind="stable")
    fewest, most, best = 1, cap + 1, np.array([], dtype=np.intp)
    while most - fewest > 1 or not best.size:  # bisect for the finest grid with few enough boxes in use
        grid = (fewest + most) // 2
        boxes = np.minimum((unit[order] * grid).astype(np.int64), grid - 1)
        _, first = np.unique(boxes @ (grid ** np.arange(4)), return_index=True)
        if len(first) <= cap - len(ends):
            fewest, best = grid, order[first]
        else:
            most = grid
    return np.array(sorted(ends | {int(i) for i in best}), dtype=np.intp)


def _best_in(values: FloatArray, k: int) -> int:
    """The row with the least of objective k, then of the others in their order."""
    rows = np.flatnonzero(values[:, k] == values[:, k].min())
    return int(rows[np.lexsort(values[rows].T[::-1])[0]])


def pool_of(
    layers: Sequence[Sequence[LayerOption]], *, cap: int = BEAM_CAP, within: Limits = NO_LIMITS
) -> tuple[Combination, ...]:
    """Every combination that may be worth measuring, by the first prediction; the all-dense one comes first.

    The front, and the compressed combination with the smallest loss. Of the front what is about `within` the limits;
    all of it where nothing is, so that the nearest can be told. Every layer needs a dense option, else ValueError.
    """
    dense = dense_combination(layers)
    # Nothing within the limits: all of the front is kept, so that a message can name the nearest plan.
    composed = compose(layers, cap=cap, within=within) or compose(layers, cap=cap)
    front = [member for member in composed if not member.is_dense]
    gentle = _least_loss_compressed(layers)
    return tuple(_distinct([dense, *front, *([gentle] if gentle else [])]))


def near_to(members: Sequence[Combination], layers: Sequence[Sequence[LayerOption]]) -> list[Combination]:
    """What differs from one of `members` in one layer, by at most STEPS places in the latencies of its options."""
    found = []
    for k, options in enumerate(layers):
        ladder = sorted(options, key=lambda option: option.latency)
        places = {id(option): place for place, option in enumerate(ladder)}
        for member in members:
            at = places[id(member.options[k])]
            found += [
                Combination((*member.options[:k], other, *member.options[k + 1 :]))
                for other in ladder[max(0, at - STEPS) : at + STEPS + 1]
                if other is not member.options[k]
            ]
    return found


def _numbers(member: Combination) -> tuple[float, ...]:
    return member.latency, member.flash_bytes, member.ram_bytes, member.loss, member.is_dense


def _distinct(members: Sequence[Combination]) -> list[Combination]:
    """Without the later of two members with the same numbers: measuring both would waste a finalist."""
    first: dict[tuple[float, ...], Combination] = {}
    for member in members:
        first.setdefault(_numbers(member), member)
    return list(first.values())


def _least_loss_compressed(layers: Sequence[Sequence[LayerOption]]) -> Combination | None:
    """The combination of smallest loss that compresses at least one layer; None if no layer has such an option."""

    def cost(option: LayerOption) -> tuple[float, float, float]:
        return option.loss, option.latency, option.flash_bytes

    best = [min(options, key=cost) for options in layers]
    if not all(option.candidate.is_dense for option in best):
        return Combination(tuple(best))
    # Losses add up, so compressing exactly the one layer where it costs least is optimal.
    switches = [
        (
            option.loss - best[k].loss,
            option.latency - best[k].latency,
            option.flash_bytes - best[k].flash_bytes,
            k,
            option,
        )
        for k, options in enumerate(layers)
        for option in options
        if not option.candidate.is_dense
    ]
    if not switches:
        return None
    *_, k, option = min(switches, key=lambda switch: switch[:4])
    return Combination((*best[:k], option, *best[k + 1 :]))

"""Whole-model combinations from per-layer options: predictions go in, what is worth measuring comes out.

Everything is minimised. Nothing here measures, estimates or reads; `choice` picks among measured plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrf_dse.plan.front import FloatArray, front_mask, spread
from lrf_dse.schema import Candidate

BEAM_CAP = 1000
"""Combinations kept after each layer: exact below it, and 100 layers of 10 options stay within seconds."""


_LATENCY, _FLASH, _RAM, _LOSS = range(4)


@dataclass(frozen=True)
class LayerOption:
    """One way to compute one layer, with what it is predicted to cost.

    `latency` in cycles or instructions (the same unit everywhere), `flash_bytes` and `loss` add up over the layers;
    of `ram_bytes` the largest counts, since layers run one after the other. `loss` is the predicted accuracy drop in
    points, or the relative weight error when accuracy is unknown.
    """

    candidate: Candidate
    latency: float
    flash_bytes: int
    ram_bytes: int
    loss: float


@dataclass(frozen=True)
class Combination:
    """One option per layer, in the model's order, with the predicted numbers of the whole."""

    options: tuple[LayerOption, ...]

    @property
    def choices(self) -> tuple[Candidate, ...]:
        """What `schema.Plan.choices` will hold."""
        return tuple(option.candidate for option in self.options)

    @property
    def latency(self) -> float:
        """Sum over the layers."""
        return sum(option.latency for option in self.options)

    @property
    def flash_bytes(self) -> int:
        """Sum over the layers."""
        return sum(option.flash_bytes for option in self.options)

    @property
    def ram_bytes(self) -> int:
        """Largest of the layers."""
        return max(option.ram_bytes for option in self.options)

    @property
    def loss(self) -> float:
        """Sum over the layers: the first-order prediction, to be replaced by a measured accuracy."""
        return sum(option.loss for option in self.options)

    @property
    def is_dense(self) -> bool:
        """Whether every layer is kept as it is."""
        return all(option.candidate.is_dense for option in self.options)


def compose(layers: Sequence[Sequence[LayerOption]], *, cap: int = BEAM_CAP) -> tuple[Combination, ...]:
    """The whole-model front over (latency, flash, ram, loss), sorted by them, fastest first.

    Merges layer after layer and drops dominated partial combinations, which loses nothing: sum and max are monotone,
    so a dominated part can be replaced in any whole. Of combinations equal in all four, the one with the earlier
    options is kept. While no merge exceeds `cap` points the result is the exact front. Beyond it, the objective space
    is cut into equal boxes, as fine as `cap` allows, and one point per box is kept, besides the best point of every
    objective: a lost combination has a kept one within one box in every objective, and with several such merges those
    distances add up. The ends of the front are always exact.
    """
    if cap < 8:
        raise ValueError(f"cap must be at least 8 to keep the extremes, got {cap}")
    if not layers or not all(layers):
        raise ValueError("every layer needs at least one option")
    values = np.zeros((1, 4))
    paths = np.zeros((1, 0), dtype=np.int32)
    for options in layers:
        values, paths = _merge(values, paths, options, cap)
    order = np.lexsort(values.T[::-1])
    return tuple(
        Combination(tuple(options[i] for options, i in zip(layers, path, strict=True))) for path in paths[order]
    )


def _merge(
    values: FloatArray, paths: npt.NDArray[np.int32], options: Sequence[LayerOption], cap: int
) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Extend every partial combination by every option of the next layer and keep the front, at most `cap` points."""
    added = np.array([(o.latency, o.flash_bytes, o.ram_bytes, o.loss) for o in options], dtype=np.float64)
    if not np.isfinite(added).all():
        raise ValueError("the numbers of a layer option must be finite")
    useful = np.flatnonzero(_first_of_equal_front(added))
    added = added[useful]
    grown = values[:, None, :] + added[None, :, :]
    grown[:, :, _RAM] = np.maximum(values[:, None, _RAM], added[None, :, _RAM])
    flat = grown.reshape(-1, 4)
    kept = np.flatnonzero(_first_of_equal_front(flat))
    if len(kept) > cap:
        kept = kept[_thin(flat[kept], cap)]
    parents, chosen = np.divmod(kept, len(useful))
    return flat[kept], np.concatenate([paths[parents], useful[chosen, None].astype(np.int32)], axis=1)


def _first_of_equal_front(values: FloatArray) -> npt.NDArray[np.bool_]:
    mask = front_mask(values)
    members = np.flatnonzero(mask)
    _, first = np.unique(values[members], axis=0, return_index=True)
    result = np.zeros(len(values), dtype=np.bool_)
    result[members[first]] = True
    return result


def _thin(values: FloatArray, cap: int) -> npt.NDArray[np.intp]:
    """Indices, ascending, of at most `cap` rows: the lexicographically best of every objective, and one per box."""
    ends = {int(np.lexsort((*np.delete(values, k, axis=1).T[::-1], values[:, k]))[0]) for k in range(4)}
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


def pool_of(layers: Sequence[Sequence[LayerOption]], *, cap: int = BEAM_CAP) -> tuple[Combination, ...]:
    """Every combination that may be worth measuring, by the first prediction; the all-dense one comes first.

    The front, and the compressed combination with the smallest loss. Every layer needs a dense option, else ValueError.
    """
    dense = _dense_combination(layers)
    front = [member for member in compose(layers, cap=cap) if not member.is_dense]
    gentle = _least_loss_compressed(layers)
    return tuple(_distinct([dense, *front, *([gentle] if gentle else [])]))


def finalists_of(
    pool: Sequence[Combination], losses: Sequence[float], count: int, *, limits: Sequence[float | None]
) -> tuple[int, ...]:
    """Indices of about `count` members of `pool`, the all-dense first one, then the rest by latency.

    `losses` are the best that is known of every member. Always included, even beyond `count`: the all-dense one, the
    fastest, the smallest in flash, and the compressed one with the smallest loss. The others are spread along the front
    in (latency, flash, loss). Members with a loss above their limit are left out of the spread, and the fastest and
    smallest within theirs come first: finalists are not wasted on plans that no accuracy budget will admit.
    """
    compressed = [i for i, member in enumerate(pool) if not member.is_dense]
    admitted = [i for i, loss in enumerate(losses) if (limit := limits[i]) is None or loss <= limit]
    array = np.array([(m.latency, m.flash_bytes, loss) for m, loss in zip(pool, losses, strict=True)])
    with_ram = np.column_stack([array, [member.ram_bytes for member in pool]])
    seeds = [0]
    for members in (compressed, sorted({*compressed} & {*admitted})):
        if members:
            seeds += [
                min(members, key=lambda i: tuple(array[i])),
                min(members, key=lambda i: tuple(array[i, [1, 0, 2]])),
            ]
    if compressed:
        seeds += [min(compressed, key=lambda i: tuple(array[i, [2, 0, 1]]))]
    useful = [i for i, on_front in zip(admitted, front_mask(with_ram[admitted]), strict=True) if on_front]
    allowed = sorted({*seeds, *useful})
    taken = [allowed[i] for i in spread(array[allowed], count, seeds=[allowed.index(i) for i in seeds])]
    return tuple(sorted(taken, key=lambda i: (i != 0, *array[i, :2], i)))


def finalists(
    layers: Sequence[Sequence[LayerOption]], count: int, *, max_loss: float | None = None, cap: int = BEAM_CAP
) -> tuple[Combination, ...]:
    """The finalists by the first prediction alone; see `pool_of` and `finalists_of`."""
    pool = pool_of(layers, cap=cap)
    picked = finalists_of(pool, [member.loss for member in pool], count, limits=[max_loss] * len(pool))
    return tuple(pool[i] for i in picked)


def _numbers(member: Combination) -> tuple[float, ...]:
    return member.latency, member.flash_bytes, member.ram_bytes, member.loss, member.is_dense


def _distinct(members: Sequence[Combination]) -> list[Combination]:
    """Without the later of two members with the same numbers: measuring both would waste a finalist."""
    first: dict[tuple[float, ...], Combination] = {}
    for member in members:
        first.setdefault(_numbers(member), member)
    return list(first.values())


def _dense_combination(layers: Sequence[Sequence[LayerOption]]) -> Combination:
    dense = [[option for option in options if option.candidate.is_dense] for options in layers]
    if not layers or not all(dense):
        raise ValueError("every layer needs its dense option: it is the reference")
    return Combination(tuple(options[0] for options in dense))


def _least_loss_compressed(layers: Sequence[Sequence[LayerOption]]) -> Combination | None:
    """The combination of smallest loss that compresses at least one layer; None if no layer has such an option."""

    def cost(option: LayerOption) -> tuple[float, float, int]:
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

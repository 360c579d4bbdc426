"""What whole models are put together from: options of layers, with predicted numbers that add up, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrf_dse.front.pareto import FloatArray
from lrf_dse.schema import Candidate

LATENCY, FLASH, RAM, LOSS = range(4)
"""Where the numbers of an option stand in its row of `numbers_of`."""


@dataclass(frozen=True)
class LayerOption:
    """One way to compute one layer, with what it is predicted to cost.

    `latency` in cycles or instructions (the same unit everywhere), `flash_bytes` and `loss` add up over the layers;
    of `ram_bytes` the largest counts, since layers run one after the other. `loss` is the predicted accuracy drop in
    points, or the relative weight error when accuracy is unknown.
    """

    candidate: Candidate
    latency: float
    flash_bytes: float
    ram_bytes: float
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
    def flash_bytes(self) -> float:
        """Sum over the layers."""
        return sum(option.flash_bytes for option in self.options)

    @property
    def ram_bytes(self) -> float:
        """Largest of the layers."""
        return max(option.ram_bytes for option in self.options)

    @property
    def loss(self) -> float:
        """Sum over the layers: the first-order prediction, to be replaced by a measured accuracy."""
        return sum(option.loss for option in self.options)

    @property
    def key(self) -> tuple[int, ...]:
        """Which options these are, while they live: comparing candidates takes longer."""
        # Options live as long as the search and are shared, so their identity is enough.
        return tuple(map(id, self.options))

    @property
    def is_dense(self) -> bool:
        """Whether every layer is kept as it is."""
        return all(option.candidate.is_dense for option in self.options)


@dataclass(frozen=True)
class Limits:
    """Upper limits of what a whole model is predicted to take, in the units of its options; None is no limit."""

    latency: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None

    @property
    def bounds(self) -> FloatArray:
        """The limits of (latency, flash, ram, loss) [4], infinite where there is no limit."""
        limits = (self.latency, self.flash_bytes, self.ram_bytes, None)
        return np.array([np.inf if limit is None else limit for limit in limits], dtype=np.float64)

    def admits(self, member: Combination) -> bool:
        """Whether the predicted numbers of `member` keep every limit."""
        return bool((np.array([member.latency, member.flash_bytes, member.ram_bytes, 0.0]) <= self.bounds).all())


NO_LIMITS = Limits()


def numbers_of(options: Sequence[LayerOption]) -> FloatArray:
    """(latency, flash, ram, loss) of every option [options, 4]. Raises ValueError unless they are finite."""
    found = np.array([(o.latency, o.flash_bytes, o.ram_bytes, o.loss) for o in options], dtype=np.float64)
    # Fronts and sums would carry NaN or infinity on without a word.
    if not np.isfinite(found).all():
        raise ValueError("the numbers of a layer option must be finite")
    return found


def totals_of(member: Combination) -> FloatArray:
    """(latency, flash, ram, loss) of a whole model [4]."""
    return np.array([member.latency, member.flash_bytes, member.ram_bytes, member.loss], dtype=np.float64)


def dense_combination(layers: Sequence[Sequence[LayerOption]]) -> Combination:
    """The combination of all dense options. Raises ValueError where a layer has none."""
    dense = [[option for option in options if option.candidate.is_dense] for options in layers]
    if not layers or not all(dense):
        raise ValueError("every layer needs its dense option: it is the reference")
    return Combination(tuple(options[0] for options in dense))


def shifted_to(
    layers: Sequence[Sequence[LayerOption]], *, latency: float, flash_bytes: float, ram_bytes: float
) -> list[list[LayerOption]]:
    """The options with numbers such that those of the dense ones make up a whole model of these.

    Measured alone, every layer holds the fixed part of a program, and none holds what else the model computes: only
    the difference that an option makes against dense tells of a whole model. Every layer needs a dense option.
    """
    dense = dense_combination(layers)
    # Spread evenly over the layers: sums come out right, and the order of a layer's options does not change.
    by_latency = (latency - dense.latency) / len(layers)
    by_flash = (flash_bytes - dense.flash_bytes) / len(layers)
    # RAM is the largest of the layers, so each of them gets the whole difference.
    by_ram = ram_bytes - dense.ram_bytes

    def shifted(option: LayerOption) -> LayerOption:
        flash, ram = option.flash_bytes + by_flash, option.ram_bytes + by_ram
        return replace(option, latency=option.latency + by_latency, flash_bytes=flash, ram_bytes=ram)

    return [[shifted(option) for option in options] for options in layers]

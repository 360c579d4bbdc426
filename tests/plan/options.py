"""Small made-up layers for the tests of plans, and every combination of their options."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from lrf_dse.plan.options import Combination, LayerOption, Limits
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate

LAYER = FcLayer("fc", 64, 64, 1, True)


def option(rank: int, latency: float, flash: int, ram: int, loss: float) -> LayerOption:
    """Rank 0 is the dense layer; other ranks only tell the candidates apart."""
    shape = TTShape((64, 1), (1, 64), (1, rank, 1)) if rank else None
    candidate = dense_candidate(LAYER) if shape is None else Candidate(LAYER, shape)
    return LayerOption(candidate, latency, flash, ram, loss)


NUMBERS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.integers(-1, 5))
LAYERS = st.lists(st.lists(NUMBERS, min_size=1, max_size=3), min_size=1, max_size=4).map(
    lambda layers: [[option(rank, *numbers) for rank, numbers in enumerate(rows)] for rows in layers]
)


def numbers(member: Combination) -> tuple[float, ...]:
    return member.latency, member.flash_bytes, member.ram_bytes, member.loss


def everything(layers: list[list[LayerOption]]) -> list[Combination]:
    return [Combination(options) for options in itertools.product(*layers)]


LIMITS = st.builds(Limits, *[st.none() | st.integers(0, 24)] * 2, st.none() | st.integers(0, 3))


def is_within(row: tuple[float, ...], limits: Limits, slack: float = 1.0) -> bool:
    given = (limits.latency, limits.flash_bytes, limits.ram_bytes)
    return all(limit is None or value <= slack * limit for value, limit in zip(row[:3], given, strict=True))


def random_layers(count: int, ranks: int, *, seed: int) -> list[list[LayerOption]]:
    """`count` layers, each dense or in one of `ranks` low ranks: the lower, the faster and smaller, and the worse."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(count):
        size, sensitivity = float(rng.integers(2**14, 2**20)), float(rng.lognormal(-1.5, 1.0))
        options = [option(0, size / 4, size, 4096, 0.0)]
        for rank in range(1, ranks + 1):
            share = rank / (ranks + 1)
            noise = rng.lognormal(0.0, 0.1, 3)
            loss = sensitivity * (1 / share - 1) * 0.1 * noise[2]
            options.append(option(rank, size * share / 4 * noise[0], size * share * noise[1], 4096 + rank, loss))
        layers.append(options)
    return layers

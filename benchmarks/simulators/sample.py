"""Small layers in every form, for benchmarks that compare models of time on real kernels. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate


@dataclass(frozen=True)
class _Layer:
    """A layer, a rank for it, and modes for two and for three cores (out descending, in ascending)."""

    in_features: int
    out_features: int
    batch: int
    rank: int
    two: tuple[tuple[int, ...], tuple[int, ...]]
    three: tuple[tuple[int, ...], tuple[int, ...]]


_LAYERS = (
    _Layer(784, 300, 1, 8, ((20, 15), (28, 28)), ((10, 6, 5), (7, 8, 14))),
    _Layer(300, 100, 1, 4, ((10, 10), (15, 20)), ((5, 5, 4), (5, 6, 10))),
    _Layer(256, 512, 4, 16, ((32, 16), (16, 16)), ((8, 8, 8), (4, 8, 8))),
    _Layer(120, 84, 1, 8, ((12, 7), (10, 12)), ((7, 4, 3), (4, 5, 6))),
    _Layer(400, 120, 16, 8, ((12, 10), (20, 20)), ((6, 5, 4), (5, 8, 10))),
)


def sample_candidates() -> dict[str, Candidate]:
    """By a short name: five layers, each dense, of low rank, and as TT of two cores (both orders) and three."""
    return {f"{candidate.layer.name} {form}": candidate for form, candidate in _candidates()}


def _candidates() -> Iterator[tuple[str, Candidate]]:
    for sizes in _LAYERS:
        batch = f", batch {sizes.batch}" if sizes.batch > 1 else ""
        name = f"{sizes.in_features}x{sizes.out_features}{batch}:"
        layer = FcLayer(name, sizes.in_features, sizes.out_features, sizes.batch, has_bias=True)
        low_rank = TTShape((sizes.out_features, 1), (1, sizes.in_features), (1, 2 * sizes.rank, 1))
        two, three = TTShape(*sizes.two, (1, sizes.rank, 1)), TTShape(*sizes.three, (1, sizes.rank, sizes.rank, 1))
        yield "dense", dense_candidate(layer)
        yield f"low rank {2 * sizes.rank}", Candidate(layer, low_rank)
        yield f"TT d=2 r={sizes.rank}", Candidate(layer, two)
        yield f"TT d=2 r={sizes.rank}, first core first", Candidate(layer, two, order="first_first")
        yield f"TT d=3 r={sizes.rank}", Candidate(layer, three)

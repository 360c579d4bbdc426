"""Which candidates in few bits are worth measuring."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lrf_dse.cost.counts import stored_bytes
from lrf_dse.cost.prune import PruneResult, RankedCandidate
from lrf_dse.pipeline.storages import stored_survivors
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import load_target

LAYER = FcLayer("fc", 256, 192, 1, True)
LOW = {8: 0.6, 64: 0.1}
"""Low ranks that survived, and their errors."""


def low_rank(rank: int) -> Candidate:
    return Candidate(LAYER, TTShape((192, 1), (1, 256), (1, rank, 1)))


def space() -> PruneResult:
    shapes = [(low_rank(rank), error) for rank, error in LOW.items()]
    shapes += [(Candidate(LAYER, TTShape((16, 12), (16, 16), (1, rank, 1))), 4.0 / rank) for rank in (8, 16, 24)]
    ranked = [RankedCandidate(candidate, stored_bytes(candidate) // 4, 0, error) for candidate, error in shapes]
    dense = dense_candidate(LAYER)
    return PruneResult(tuple(ranked), RankedCandidate(dense, 192 * 256, 0, 0.0), ())


def exploration(*bits: str, top: int = 6) -> Any:
    errors = SimpleNamespace(compressor=SimpleNamespace(calibration=None), output_error=lambda _: None)
    settings = SimpleNamespace(bits=bits, top=top)
    return SimpleNamespace(errors=errors, settings=settings, target=load_target("spacemit-k1"))


def ranks(found: tuple[Candidate, ...]) -> list[int]:
    return [c.tt_shape.ranks[1] for c in found if c.tt_shape is not None and c.tt_shape.is_low_rank]


def test_low_ranks_between_those_of_the_survivors_are_candidates() -> None:
    found = stored_survivors(exploration("fp32", "int8", "int4", top=8), space())
    low = ranks(found)
    assert len(low) == 8 and 1 <= len(found) - len(low) <= 8
    assert set(low) - set(LOW), "ranks that did not survive in fp32"
    assert all(8 <= rank <= 64 and rank % 8 == 0 for rank in low)
    assert {candidate.storage for candidate in found} == {"int8", "int4"}
    assert all(candidate.kernel == "rvv" for candidate in found)
    assert len(set(found)) == len(found)


def test_tensor_trains_in_the_fewest_bits_are_among_them() -> None:
    """The fast ones are in int8 or fp16; those that are small for their error are in int4."""
    found = stored_survivors(exploration("fp32", "fp16", "int8", "int4", top=8), space())
    trains = {c for c in found if c.tt_shape is not None and not c.tt_shape.is_low_rank}
    assert {c.storage for c in trains} >= {"int8", "int4"}


@pytest.mark.parametrize("top", [1, 3])
def test_there_are_at_most_top_low_ranks_and_about_as_many_others(top: int) -> None:
    found = stored_survivors(exploration("fp32", "fp16", "int8", "int4", top=top), space())
    low = ranks(found)
    assert len(low) == top and (top + 1) // 2 <= len(found) - len(low) <= 2 * ((top + 1) // 2)


def test_in_fp32_alone_or_without_survivors_there_are_none() -> None:
    assert stored_survivors(exploration("fp32"), space()) == ()
    assert stored_survivors(exploration("fp32", "int8"), PruneResult((), space().dense, ())) == ()

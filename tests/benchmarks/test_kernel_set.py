"""The rows of the kernel benchmark: by rule, from a file, and what a bad file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.against.contractions import contractions
from benchmarks.against.kernel_set import (
    LOW_RANKS,
    PAPER_LAYERS,
    PUBLISHED,
    TRAINS,
    KernelCase,
    balanced_dims,
    kernel_set,
)
from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape

GOOD = "[[kernel]]\nin = 784\nout = 300\nout_dims = [20, 15]\nin_dims = [28, 28]\nranks = [8]\nbatch = 2\n"


def test_the_paper_set_has_every_layer_and_every_kind() -> None:
    cases = kernel_set("paper")
    assert len(cases) == 2 * len(PAPER_LAYERS) + 6 + 3 + 1
    assert len({case.name for case in cases}) == len(cases)
    single = [case for case in cases if case.batch == 1 and not case.is_tiny]
    layers = [(case.shape.in_features, case.shape.out_features) for case in single[:-1]]
    assert layers == [layer for layer in PAPER_LAYERS for _ in range(2)]
    trains = {(c.shape.d, c.shape.ranks[1]) for c in single if not c.shape.is_low_rank}
    assert trains == {*TRAINS, (2, 3)}
    assert {c.shape.ranks[1] for c in single if c.shape.is_low_rank} == set(LOW_RANKS)
    batched = [case for case in cases if case.batch == 16]
    assert {(c.shape.in_features, c.shape.out_features) for c in batched} == set(PAPER_LAYERS[-3:])
    assert sorted(c.shape.d for c in batched if not c.shape.is_low_rank) == [2, 3, 4]
    assert {c.shape.ranks[1] for c in batched if c.shape.is_low_rank} == set(LOW_RANKS)
    assert sum(case.is_tiny for case in cases) == 3
    assert cases[-1].shape == PUBLISHED
    kinds = {"d=2", "d=3", "d=4", "low rank"}
    assert {case.kind for case in cases} == {*kinds, *(f"{kind} batch 16" for kind in kinds), "tiny"}


def test_no_two_rows_of_the_paper_set_are_one_program() -> None:
    ways = [contractions(case.shape, case.batch)[0] for case in kernel_set("paper")]
    assert len({tuple(stage.count for stage in way.stages) for way in ways}) == len(ways)


def test_balanced_shapes_are_aligned_and_near_the_roots() -> None:
    assert balanced_dims(4096, 4096, 3) == ((16, 16, 16), (16, 16, 16))
    assert balanced_dims(1000, 2048, 2) == ((40, 25), (32, 64))
    with pytest.raises(UsageError, match="layer 784x7 has no TT shape of 2 factors"):
        balanced_dims(7, 784, 2)


def test_the_quick_set_is_part_of_the_paper_set() -> None:
    assert set(kernel_set("quick")) < set(kernel_set("paper"))


@pytest.mark.parametrize("ranks", ["[8]", "[1, 8, 1]"])
def test_a_file_gives_inner_or_all_ranks(tmp_path: Path, ranks: str) -> None:
    path = tmp_path / "set.toml"
    path.write_text(GOOD.replace("[8]", ranks))
    assert kernel_set(str(path)) == (KernelCase(TTShape((20, 15), (28, 28), (1, 8, 1)), 2),)


BAD = {
    "kernel = 3": "a kernel set is one or more",
    "": "holds nothing",
    "[[kernel": "not a readable TOML file",
    "kernel = [1]": r"kernel 1: must be a \[\[kernel\]\] table",
    GOOD.replace("in = 784", "in = 785"): "in_dims multiply to 784, but in is 785",
    GOOD.replace("out = 300", "out = true"): "key 'out' must be a whole number >= 1, got True",
    GOOD.replace("ranks = [8]", 'ranks = "8"'): "key 'ranks' must be a list",
    GOOD.replace("ranks = [8]", "ranks = [8, 8]"): "d = 2 cores need 3 ranks",
    GOOD.replace("ranks = [8]\n", ""): "key 'ranks' is missing",
    GOOD + "threads = 2\n": "unknown key 'threads'",
    GOOD.replace("batch = 2", "batch = 0"): "key 'batch' must be a whole number >= 1, got 0",
    GOOD + GOOD.replace("[20, 15]", "[20]"): "kernel 2: ",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=BAD[text]) as error:
        kernel_set(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_an_unknown_set_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown kernel set 'papers': use one of paper, quick"):
        kernel_set("papers")
    with pytest.raises(UsageError, match="not a readable TOML file"):
        kernel_set(str(tmp_path / "missing.toml"))

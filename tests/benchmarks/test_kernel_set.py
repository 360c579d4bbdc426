"""The rows of the kernel benchmark: by rule, from a file, and what a bad file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.against.kernel_set import LOW_RANK, PAPER_LAYERS, KernelCase, balanced_dims, kernel_set
from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape

GOOD = "[[kernel]]\nin = 784\nout = 300\nout_dims = [20, 15]\nin_dims = [28, 28]\nranks = [8]\nbatch = 2\n"


def test_the_paper_set_has_six_rows_a_layer_and_batches_of_the_last_three() -> None:
    cases = kernel_set("paper")
    assert len(cases) == len(set(cases)) == 6 * len(PAPER_LAYERS) + 18
    assert len({case.name for case in cases}) == len(cases)
    batched = [case for case in cases if case.batch == 16]
    assert {(c.shape.in_features, c.shape.out_features) for c in batched} == set(PAPER_LAYERS[-3:])
    first = cases[:6]
    assert [(c.shape.d, c.shape.ranks[1]) for c in first] == [(2, 8), (2, 16), (3, 8), (3, 16), (4, 8), (2, LOW_RANK)]
    assert first[-1].shape.is_low_rank
    assert {c.kind for c in first} == {"d=2", "d=3", "d=4", "low rank"}
    assert {c.kind for c in batched} == {f"{c.kind} batch 16" for c in first}


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

"""The table of plans on the terminal."""

from lrf_dse.cli.explore import choice_cells
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate

LAYER = FcLayer("fc", 12, 8, 1, has_bias=True)
DENSE = dense_candidate(LAYER)
LOW_RANK = Candidate(LAYER, TTShape((8, 1), (1, 12), (1, 2, 1)))
TT = Candidate(LAYER, TTShape((4, 2), (3, 4), (1, 2, 1)), kernel="rvv")


def test_a_few_layers_have_a_cell_each() -> None:
    assert choice_cells((DENSE, LOW_RANK, TT)) == ("dense", "low rank 2", "4x2 / 3x4, ranks 2, rvv")


def test_many_layers_are_counted() -> None:
    assert choice_cells((TT, LOW_RANK, LOW_RANK, DENSE, LOW_RANK, TT)) == ("3 low rank, 2 TT, 1 dense",)
    assert choice_cells((DENSE,) * 5) == ("5 dense",)

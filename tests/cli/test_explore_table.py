"""The table of plans on the terminal."""

from dataclasses import replace
from typing import Any

from lrf_dse.cli.explore import choice_cells
from lrf_dse.schema import Candidate, FcLayer, Plan, TTShape, dense_candidate

LAYER = FcLayer("fc", 12, 8, 1, has_bias=True)
DENSE = dense_candidate(LAYER)
LOW_RANK = Candidate(LAYER, TTShape((8, 1), (1, 12), (1, 2, 1)))
TT = Candidate(LAYER, TTShape((4, 2), (3, 4), (1, 2, 1)), kernel="rvv")


def plan(*choices: Candidate, widened: bool = False) -> Plan:
    schedules: dict[str, Any] = {"fc": {"copied": widened}}
    return Plan("p1", choices, 1.0, "", None, 0, 0, 0.0, schedules=schedules)


def test_a_few_layers_have_a_cell_each() -> None:
    assert choice_cells(plan(DENSE, LOW_RANK, TT)) == ("dense", "low rank 2", "4x2 / 3x4, ranks 2, rvv")


def test_many_layers_are_counted() -> None:
    assert choice_cells(plan(TT, LOW_RANK, LOW_RANK, DENSE, LOW_RANK, TT)) == ("3 low rank, 2 TT, 1 dense",)
    assert choice_cells(plan(*(DENSE,) * 5)) == ("5 dense",)


def test_weights_that_are_widened_at_load_are_told() -> None:
    """Beside the layer where layers have cells, else how many there are."""
    int8 = replace(TT, storage="int8")
    assert choice_cells(plan(int8, widened=True)) == ("4x2 / 3x4, ranks 2, int8, rvv, widened at load",)
    assert choice_cells(plan(*(int8,) * 5, widened=True)) == ("5 TT int8; 1 widened at load",)
